"""From windows to what their features do: one forward pass up to the last layer needed, then the encoders.

Left out are the special token in front (a chat model's whole opening), special tokens anywhere, and positions of high
norm: where the stream in front of any of the layers run has more than `high_norm_ratio` times its median norm over the
window, which is taken over all positions but the other kinds left out; of an even number the lower middle one. Such
positions gather attention, and features fire there for no text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tracer.attribution.precision import Precision
from tracer.corpus.windows import Window
from tracer.errors import ConfigError
from tracer.harvest.kernel import encode_sparsely
from tracer.harvest.windows import PADDING, LayerFirings, WindowBatch, document_key
from tracer.model.dictionaries import Dictionary
from tracer.model.forward_until import look_at
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import LayerTranscoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Features of one layer, and the hook of the bridge at which they read."""

    layer: int
    hook: str
    transcoder: LayerTranscoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What the encoders read in some windows, at the positions of `place`, a (window, position) each."""

    place: Int[Tensor, "place 2"]
    values: tuple[Float[Tensor, "place width"], ...]
    is_high: Bool[Tensor, " place"]
    is_finite: Bool[Tensor, " place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadWindows:
    """A batch, and why positions of it do not count; [window] each."""

    batch: WindowBatch
    n_special: Int[Tensor, " window"]
    n_high_norm: Int[Tensor, " window"]
    n_not_finite: Int[Tensor, " window"]


def encoders_of(model: ReplacementModel, layers: Sequence[int] | None = None) -> tuple[Encoder, ...]:
    """The transcoders of a model, of some layers or of all.

    Raises:
        ConfigError: there is no such layer.
    """
    wanted = range(model.n_layers) if layers is None else sorted(set(layers))
    for layer in wanted:
        if not 0 <= layer < model.n_layers:
            raise ConfigError(
                "harvest.layers", found=str(layer), expected=f"0 to {model.n_layers - 1}", to_do="Name other layers."
            )
    return tuple(
        Encoder(layer=layer, hook=model.hook_names.read(layer), transcoder=model.transcoders.layers[layer])
        for layer in wanted
    )


def encoders_of_saes(saes: Sequence[Dictionary]) -> tuple[Encoder, ...]:
    """SAEs as encoders, by layer.

    Raises:
        ConfigError: two of them are of one layer, so that (layer, feature) names two things.
    """
    found = {sae.layer: sae for sae in saes}
    if len(found) < len(saes):
        listed = ", ".join(f"layer {sae.layer} {sae.site}" for sae in saes)
        raise ConfigError("harvest.saes", found=listed, expected="one a layer", to_do="Harvest them in folders apart.")
    return tuple(Encoder(layer=layer, hook=sae.hook, transcoder=sae.transcoder) for layer, sae in sorted(found.items()))


class WindowReader:
    """Runs windows through a model and its encoders."""

    def __init__(
        self,
        model: ReplacementModel,
        encoders: Sequence[Encoder],
        *,
        high_norm_ratio: float | None,
        precision: Precision = "float32",
    ) -> None:
        self.model, self.encoders = model, tuple(encoders)
        self._ratio, self._precision = high_norm_ratio or torch.inf, precision
        self._special = torch.tensor(sorted(model.special_token_rule.special_ids), device=model.device)
        last_layer = max(encoder.layer for encoder in self.encoders)
        self._streams = [f"blocks.{layer}.hook_in" for layer in range(last_layer + 1)] if high_norm_ratio else []

    def read(self, windows: Sequence[Window]) -> ReadWindows:
        """What fires in some windows of consecutive documents."""
        token_ids = padded_windows(windows, self.model.device)
        may_count = self.ordinary(token_ids, windows)
        reads = self.reads(token_ids, may_count)
        counts = reads.is_finite & ~reads.is_high
        place = reads.place[counts]
        layers = []
        for encoder, values in zip(self.encoders, reads.values, strict=True):
            firing = encode_sparsely(encoder.transcoder, values[counts], self._precision)
            where = place[firing.place]
            layers.append(
                LayerFirings(
                    layer=encoder.layer, feature=firing.feature, row=where[:, 0], pos=where[:, 1], value=firing.value
                )
            )
        eligible = torch.zeros_like(may_count)
        eligible[place[:, 0], place[:, 1]] = True
        batch = WindowBatch(
            token_ids=token_ids,
            eligible=eligible,
            document=torch.tensor([document_key(window.document_id) for window in windows], device=token_ids.device),
            start=torch.tensor([window.start for window in windows], device=token_ids.device),
            layers=tuple(layers),
        )

        def per_window(chosen: Tensor) -> Tensor:
            return torch.bincount(reads.place[chosen][:, 0], minlength=len(windows))

        return ReadWindows(
            batch=batch,
            n_special=((token_ids != PADDING) & ~may_count).sum(1),
            n_high_norm=per_window(reads.is_high & reads.is_finite),
            n_not_finite=per_window(~reads.is_finite),
        )

    @torch.no_grad()
    def reads(self, token_ids: Int[Tensor, "window pos"], may_count: Bool[Tensor, "window pos"]) -> Reads:
        """One forward pass of the plain model, which ends as soon as the last encoder has what it reads."""
        found: dict[str, Tensor] = {}
        is_high = torch.zeros_like(may_count)

        def keep(name: str, value: Tensor) -> None:
            found[name] = value.flatten(2)[may_count].float()

        def compare(value: Tensor) -> None:
            norms = torch.where(may_count, value.float().norm(dim=-1), torch.nan)
            is_high.logical_or_(norms > self._ratio * norms.nanmedian(1, keepdim=True).values)

        looks: dict[str, Callable[[Tensor], None]] = dict.fromkeys(self._streams, compare)
        looks |= {encoder.hook: partial(keep, encoder.hook) for encoder in self.encoders}
        look_at(self.model, looks, token_ids.clamp(min=0))
        values = tuple(found[encoder.hook] for encoder in self.encoders)
        is_finite = torch.ones(int(may_count.sum()), dtype=torch.bool, device=token_ids.device)
        for read in values:
            is_finite &= read.sum(1).isfinite()
        return Reads(place=may_count.nonzero(), values=values, is_high=is_high[may_count], is_finite=is_finite)

    def ordinary(self, token_ids: Int[Tensor, "window pos"], windows: Sequence[Window]) -> Bool[Tensor, "window pos"]:
        """Which positions are neither padding, nor special, nor among the positions that the model opens with."""
        n_ignored = [self.model.facts.n_ignored_positions(window.token_ids) for window in windows]
        pos = torch.arange(token_ids.shape[1], device=token_ids.device)
        is_later = pos >= torch.tensor(n_ignored, device=token_ids.device)[:, None]
        return is_later & (token_ids != PADDING) & ~torch.isin(token_ids, self._special)


def padded_windows(windows: Sequence[Window], device: torch.device) -> Int[Tensor, "window pos"]:
    """Windows as one tensor, `PADDING` behind the shorter ones."""
    rows = [torch.tensor(window.token_ids) for window in windows]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING).to(device)
