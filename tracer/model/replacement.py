"""The replacement model: a language model whose MLP outputs are written as transcoder features plus an error."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.corpus.tokens import SpecialTokenRule, special_token_rule, tokenize
from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts, checkpoint_facts
from tracer.model.booting import boot, check_dtype
from tracer.model.device import resolve_device
from tracer.model.forward import Capture, Forward, Hook, in_float32, padded
from tracer.model.head_weights import head_weights
from tracer.model.hook_names import HookNames
from tracer.model.offload import Offload, OffloadedWeights
from tracer.model.readers.registry import read_transcoders
from tracer.model.reconstruction import warn_of_poor_reconstruction
from tracer.model.references import resolve
from tracer.model.tokenizer import load_tokenizer
from tracer.model.transcoders import Activations, TranscoderSet
from tracer.model.weights import FrozenWeights, frozen_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

Prompt = str | Sequence[int] | Int[Tensor, "*one pos"]
"""A prompt as text, as token ids, or as a tensor of them, a batch of one in front or none."""


class ReplacementModel:
    """A checkpoint and the transcoders that stand for its MLPs.

    The language model is held as a TransformerLens `TransformerBridge` with raw weights (nothing folded); hooks are
    only ever installed inside a `with`. All methods run without gradients unless they say otherwise.

    The language model may be held in lower precision. What is captured is taken to float32 all the same, and the
    transcoders and the frozen map are float32, so rows sum to the captured values within the lower one's rounding.

    Example:
        >>> from tracer import ReplacementModel
        >>> model = ReplacementModel.from_pretrained(
        ...     "package:tracer/model/demo/files/language_model", "package:tracer/model/demo/files/per_layer")
        >>> activations = model.get_activations("the capital of the state containing Dallas is")
        >>> len(activations) == model.n_layers
        True
    """

    def __init__(
        self,
        bridge: "TransformerBridge",
        tokenizer: "PreTrainedTokenizerBase",
        transcoders: TranscoderSet,
        facts: CheckpointFacts,
    ) -> None:
        self.bridge = bridge
        self.tokenizer = tokenizer
        self.transcoders = transcoders
        self.facts = facts
        self.special_token_rule: SpecialTokenRule = special_token_rule(tokenizer)
        self.hook_names = HookNames(facts=facts, read_point=transcoders.read_point, write_point=transcoders.write_point)
        self._hook_points = dict(bridge.hook_dict)
        self._levels = count(1)
        self._is_float32 = bridge.cfg.dtype == torch.float32
        self._offloaded: dict[Offload, OffloadedWeights] = {}
        # A hook that is missing is found here rather than at the first prompt.
        with self.hooks(Capture(self.hook_names, list(self._hook_points)).hooks()):
            pass

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        transcoders: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        lazy_encoder: bool = False,
        lazy_decoder: bool | None = None,
        trust_remote_code: bool = False,
        shared_cache: str | Path | None = None,
        check: bool = True,
    ) -> "ReplacementModel":
        """Load a Hugging Face checkpoint and a transcoder set in any layout of `tracer.model.readers`.

        Args:
            checkpoint: local folder, `package:NAME/path` or hub name `org/repo[@revision]`.
            transcoders: the same for the transcoder set.
            device: where both are put; CUDA if present when not given.
            dtype: precision in which the language model's weights are held and run: float32, bfloat16 or float16.
            lazy_encoder: leave encoders on disk and read them in parts for every prompt.
            lazy_decoder: leave decoders on disk and read the rows of active features when they are needed; when not
                given, for sets whose decoders are large.
            trust_remote_code: whether the checkpoint may run code of its own.
            shared_cache: local folder where weights that must be converted to float32 are kept for all processes of the
                machine, on a CPU.
            check: log a warning where the transcoders do not reconstruct MLP outputs, as when files are read the wrong
                way; takes a prompt's forward pass.

        Raises:
            ModelError: one of them is absent or damaged, or they do not fit.
        """
        checkpoint, transcoders = str(checkpoint), str(transcoders)
        found_device = resolve_device(device)
        folder = resolve(checkpoint)
        facts = checkpoint_facts(folder)
        check_dtype(dtype, facts)
        set_folder = resolve(transcoders)
        tokenizer = load_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
        cache = None if shared_cache is None else Path(shared_cache).expanduser()
        transcoder_set = read_transcoders(
            set_folder, facts, device=found_device, lazy_encoder=lazy_encoder, lazy_decoder=lazy_decoder,
            shared_cache=cache,
        )  # fmt: skip
        if not facts.explicit:
            logger.warning(
                "%s: its architecture is not in the table of tracer.model.architectures, so its graphs come from the "
                "autograd oracle, which is slow", checkpoint,
            )  # fmt: skip
        bridge = boot(
            folder, tokenizer, found_device, dtype=dtype, trust_remote_code=trust_remote_code, shared_cache=cache
        )
        model = cls(bridge, tokenizer, transcoder_set, facts)
        if check:
            warn_of_poor_reconstruction(model)
        return model

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return self.facts.n_layers

    @property
    def device(self) -> torch.device:
        """Where the model and the transcoders are."""
        return self.transcoders.layers[0].b_enc.device

    @cached_property
    def weights(self) -> FrozenWeights:
        """Weights of the frozen linear map; without layers where the architecture is not in the table."""
        architecture = self.facts.architecture
        if architecture is None:
            return head_weights(self.bridge)
        return frozen_weights(
            self.bridge, centred=architecture.centred_norm, norm_offset=architecture.norm_offset,
            post_norms=architecture.post_norms,
        )  # fmt: skip

    def tokenize(self, prompt: Prompt) -> Int[Tensor, " token"]:
        """Token ids with a special token in front (put there when absent).

        Raises:
            DataError: the prompt is empty, longer than the context, or holds unknown tokens only.
        """
        given = prompt if isinstance(prompt, str) else _plain_ids(prompt)
        ids = tokenize(
            given, self.tokenizer, self.special_token_rule, max_tokens=self.facts.n_ctx, truncate="no", where="prompt"
        )
        return torch.tensor(ids, device=self.device)

    @contextmanager
    def hooks(self, hooks: Iterable[Hook]) -> Iterator["TransformerBridge"]:
        """The bridge with `hooks` on it, which are gone afterwards, however the block ends.

        Hooks see float32, and the logits inside are float32, whatever the precision of the model.

        Raises:
            ModelError: the bridge lacks a hook.
        """
        # The bridge's own `hooks()` looks every name up among all aliases anew, which costs more than a small model's
        # forward pass.
        try:
            borrowed = [
                (self._hook_points[name], hook if self._is_float32 else in_float32(hook)) for name, hook in hooks
            ]
        except KeyError as error:
            raise ModelError(
                "model", found=f"no hook {error.args[0]}", expected="a bridge that offers it",
                to_do="Use transcoders that read and write elsewhere, or another model.",
            ) from error  # fmt: skip
        level = next(self._levels)
        widened = self.bridge.register_forward_hook(lambda module, given, logits: logits.float())
        try:
            for point, hook in borrowed:
                point.add_hook(hook, level=level)
            with warnings.catch_warnings():
                # Editing a norm's scale is what freezing means; the bridge warns of it at every layer and call.
                warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")
                yield self.bridge
        finally:
            widened.remove()
            for point, _ in borrowed:
                point.remove_hooks("fwd", level=level)

    def offloaded(self, to: Offload) -> OffloadedWeights:
        """The language model's weights that rows do not need, with copies elsewhere, made once."""
        if to not in self._offloaded:
            self._offloaded[to] = OffloadedWeights(self.bridge.parameters(), self.weights.tensors(), to)
        return self._offloaded[to]

    def forward(self, token_ids: Int[Tensor, " pos"]) -> Forward:
        """Run the plain model once and capture what attribution freezes."""
        return self.forward_batch([token_ids])[0]

    @torch.no_grad()
    def forward_batch(self, prompts: Sequence[Int[Tensor, " _"]]) -> list[Forward]:
        """The same for several prompts, of equal or different lengths, in one pass of the model."""
        capture = Capture(self.hook_names, list(self._hook_points))
        with self.hooks(capture.hooks()) as bridge:
            logits = bridge(padded(prompts))
        return [
            capture.forward(place, token_ids, logits[place, : len(token_ids)])
            for place, token_ids in enumerate(prompts)
        ]

    @torch.no_grad()
    def active_features(self, forward: Forward) -> list[Activations]:
        """Active features of every layer; ignored positions (the special token) are left out."""
        n_ignored = self.facts.n_ignored_positions(forward.token_ids.tolist())
        return [
            layer.active(read, n_ignored) for layer, read in zip(self.transcoders.layers, forward.reads, strict=True)
        ]

    def get_activations(self, prompt: Prompt) -> list[Activations]:
        """Active features of every layer on a prompt, sparse. Logits are those of `forward`, not given here."""
        return self.active_features(self.forward(self.tokenize(prompt)))

    @torch.no_grad()
    def replaced_logits(self, token_ids: Int[Tensor, " pos"]) -> Float[Tensor, "pos vocab"]:
        """Logits when every MLP output is replaced by its reconstruction, errors left out.

        The special token's position keeps its MLP outputs, since transcoders are not trained there.
        """
        n_ignored = self.facts.n_ignored_positions(token_ids.tolist())
        reads: list[Tensor] = []
        active: list[Activations] = []

        def encode(read: Tensor, hook: Any) -> None:
            active.append(self.transcoders.layers[len(reads)].active(read[0], n_ignored))
            reads.append(read[0])

        def replace(output: Tensor, hook: Any) -> Tensor:
            decoded = self.transcoders.reconstruction(active, reads, len(reads) - 1)
            return torch.cat([output[:, :n_ignored], decoded[None, n_ignored:]], dim=1)

        hooks: list[Hook] = []
        for layer in range(self.n_layers):
            hooks += [(self.hook_names.read(layer), encode), (self.hook_names.write(layer), replace)]
        with self.hooks(hooks) as bridge:
            return bridge(token_ids[None])[0]


def _plain_ids(token_ids: Sequence[int] | Tensor) -> list[int]:
    """Ids as a list; a batch of one in front is taken off."""
    if isinstance(token_ids, Tensor):
        token_ids = token_ids[0].tolist() if token_ids.dim() == 2 and len(token_ids) == 1 else token_ids.tolist()
    return list(token_ids)
