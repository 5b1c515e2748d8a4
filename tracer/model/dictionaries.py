"""SAEs: features that read one place of one layer and write the same place again.

They are no part of a replacement model. They say what a place holds: `sae.encode(sae.values(model, token_ids))`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.readers.build import N_HELD_BYTES, build_layer
from tracer.model.readers.sae_lens import folders, was_centred
from tracer.model.readers.sae_lens_folder import SaeLensFolder, read_folder
from tracer.model.references import resolve
from tracer.model.transcoders import Activations, LayerTranscoder

if TYPE_CHECKING:
    from tracer.model.replacement import ReplacementModel

Site = Literal["resid_pre", "resid_mid", "resid_post", "attn_z", "attn_out", "mlp_out"]
"""Where an SAE reads and writes: the stream in front of a layer, between attention and MLP, behind the layer; what the
heads give, side by side; what attention or the MLP adds to the stream, behind a post-norm where there is one.
"""
SITE_HOOKS: dict[Site, str] = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
}
"""The hook of each inside a block; unlike those of norms, they mean the same on a bridge and a HookedTransformer."""
_CHANGES_Z = ("fold_value_biases", "refactor_factored_attn_matrices")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionary:
    """The features of an SAE, brought to what a model with raw weights holds at the site."""

    layer: int
    site: Site
    transcoder: LayerTranscoder
    """Its features, which write where they read."""
    model_name: str
    """The checkpoint that the files say it was made for; empty where they do not say."""

    @property
    def hook(self) -> str:
        """The bridge's hook at the site."""
        return f"blocks.{self.layer}.{SITE_HOOKS[self.site]}"

    @torch.no_grad()
    def values(self, model: "ReplacementModel", token_ids: Int[Tensor, " pos"]) -> Float[Tensor, "pos width"]:
        """What the site holds in one forward pass of the plain model, heads side by side.

        Args:
            model: the checkpoint; its transcoders are not used.
            token_ids: a prompt with its special token.

        Raises:
            ModelError: the model has no such place.
        """
        found: list[Tensor] = []

        def keep(value: Tensor, **_: Any) -> None:
            found.append(value[0].flatten(1).float())

        with model.hooks([(self.hook, keep)]) as bridge:
            bridge(token_ids[None])
        return found[0]

    def encode(self, values: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch feature"]:
        """Activations, dense."""
        return self.transcoder.encode(values)

    def decode(self, activations: Float[Tensor, "pos feature"]) -> Float[Tensor, "pos width"]:
        """What the features say that the site holds."""
        pos, feature = activations.nonzero(as_tuple=True)
        active = Activations(pos=pos, feature=feature, value=activations[pos, feature])
        return self.transcoder.decoded(active, 0, len(activations)) + self.transcoder.b_dec

    def error(self, values: Float[Tensor, "pos width"]) -> Float[Tensor, "pos width"]:
        """What the features do not say; the mean over the width too, where they were trained on a centred stream."""
        return values - self.decode(self.encode(values))


def read_dictionary(
    reference: str,
    facts: CheckpointFacts,
    *,
    device: torch.device,
    lazy_encoder: bool = False,
    lazy_decoder: bool | None = None,
) -> Dictionary:
    """Read an SAE that sae-lens saved (`tracer.model.readers.sae_lens_folder`), in float32.

    Args:
        reference: its folder, as for `tracer.model.references.resolve`.
        facts: the model's.
        device: where everything is put that does not stay on disk.
        lazy_encoder: leave the encoder on disk, unless something is folded into it.
        lazy_decoder: leave the decoder on disk; when not given, if it is large.

    Raises:
        ModelError: there is not one SAE, it is damaged or of a kind that is not supported, or does not fit the model.
    """
    found = _only_folder(reference)
    site = _site(found, facts)
    lazy = found.files.W_dec.n_bytes > N_HELD_BYTES if lazy_decoder is None else lazy_decoder
    transcoder = build_layer(
        found.files, found.topk, device=device, lazy_encoder=lazy_encoder, lazy_decoder=lazy,
        centres=site != "attn_z" and was_centred(found, facts),
    )  # fmt: skip
    return Dictionary(layer=found.layer, site=site, transcoder=transcoder, model_name=found.model_name)


def described_dictionary(reference: str, facts: CheckpointFacts) -> tuple[int, int]:
    """Layer and number of features of an SAE, by its headers.

    Raises:
        ModelError: as `read_dictionary`.
    """
    found = _only_folder(reference)
    _site(found, facts)
    return found.layer, found.files.W_dec.shape[0]


def _only_folder(reference: str) -> SaeLensFolder:
    path = resolve(reference)
    there = folders(path)
    if len(there) != 1:
        names = ", ".join(str(folder.relative_to(path)) for folder in there[:8]) or "none"
        raise ModelError(
            str(path), found=f"{len(there)} folders saved by sae-lens: {names}", expected="one",
            to_do="Name the folder of one SAE.",
        )  # fmt: skip
    return read_folder(there[0])


def _site(found: SaeLensFolder, facts: CheckpointFacts) -> Site:
    """Where the SAE reads and writes, once it fits the model."""

    def refused(what: str, expected: str) -> ModelError:
        return ModelError(found.where, found=what, expected=expected, to_do="Use an SAE that was made for this model.")

    site = next((site for site, hook in SITE_HOOKS.items() if hook == found.hook), None)
    if site is None or (found.written_layer, found.written_hook) != (found.layer, found.hook):
        places = f"{found.architecture} from {found.hook} to {found.written_hook}, layer {found.written_layer}"
        raise refused(places, f"an SAE of {' or '.join(SITE_HOOKS.values())}")
    if site == "resid_mid" and facts.parallel:
        raise refused("an SAE of the stream between attention and MLP", "another site: they work in parallel here")
    changes = [name for name in _CHANGES_Z if name in found.processing]
    if site == "attn_z" and changes:
        raise refused(f"an SAE of hook_z with {changes[0]}", "heads that give what they give with raw weights")
    if found.layer >= facts.n_layers:
        raise refused(f"layer {found.layer}", f"one of {facts.n_layers}")
    width = facts.n_heads * facts.d_head if site == "attn_z" else facts.d_model
    if found.files.W_dec.shape[-1] != width:
        raise refused(f"width {found.files.W_dec.shape[-1]}", f"width {width}, as the model has")
    return site
