"""The replacement model: a language model whose MLP outputs are written as transcoder features plus an error."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from tracer.model.checks import check_transcoders
from tracer.model.device import resolve_device
from tracer.model.forward import READ_HOOKS, Forward, forward_from_cache, hook_names
from tracer.model.readers import circuit_tracer
from tracer.model.references import resolve
from tracer.model.tokenizer import load_tokenizer
from tracer.model.transcoders import Activations, TranscoderSet
from tracer.model.weights import FrozenWeights, frozen_weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase

Hook = tuple[str, Callable[..., Any]]
Prompt = str | Sequence[int] | Int[Tensor, "*one pos"]
"""A prompt as text, as token ids, or as a tensor of them, a batch of one in front or none."""


class ReplacementModel:
    """A checkpoint and the transcoders that stand for its MLPs.

    The language model is held as a TransformerLens `TransformerBridge` with raw weights (nothing folded); hooks are
    only ever installed inside a `with`. All methods run without gradients unless they say otherwise.

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
        self._hook_points = dict(bridge.hook_dict)
        self._levels = count(1)

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        transcoders: str | Path,
        *,
        device: str | torch.device | None = None,
        trust_remote_code: bool = False,
    ) -> "ReplacementModel":
        """Load a Hugging Face checkpoint and a circuit-tracer transcoder folder.

        Args:
            checkpoint: local folder, `package:NAME/path` or hub name `org/repo[@revision]`.
            transcoders: the same for the transcoder set.
            device: where both are put; CUDA if present when not given.
            trust_remote_code: whether the checkpoint may run code of its own.

        Raises:
            ModelError: one of them is absent or damaged, they do not fit, or the architecture is not supported.
        """
        checkpoint, transcoders = str(checkpoint), str(transcoders)
        found_device = resolve_device(device)
        folder = resolve(checkpoint)
        facts = checkpoint_facts(folder)
        check_transcoders(checkpoint, transcoders)
        tokenizer = load_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
        transcoder_set = circuit_tracer.read(
            resolve(transcoders),
            n_layers=facts.n_layers,
            centred_norm=facts.architecture.centred_norm,
            device=found_device,
        )
        bridge = _boot(folder, tokenizer, found_device, trust_remote_code)
        return cls(bridge, tokenizer, transcoder_set, facts)

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return self.facts.n_layers

    @cached_property
    def weights(self) -> FrozenWeights:
        """Weights of the frozen linear map."""
        return frozen_weights(self.bridge, centred=self.facts.architecture.centred_norm)

    def tokenize(self, prompt: Prompt) -> Int[Tensor, " token"]:
        """Token ids with a special token in front (put there when absent).

        Raises:
            DataError: the prompt is empty, longer than the context, or holds unknown tokens only.
        """
        given = prompt if isinstance(prompt, str) else _plain_ids(prompt)
        ids = tokenize(
            given, self.tokenizer, self.special_token_rule, max_tokens=self.facts.n_ctx, truncate="no", where="prompt"
        )
        return torch.tensor(ids, device=self.weights.W_U.device)

    @contextmanager
    def hooks(self, hooks: Iterable[Hook]) -> Iterator["TransformerBridge"]:
        """The bridge with `hooks` on it, which are gone afterwards, however the block ends."""
        # The bridge's own `hooks()` looks every name up among all aliases anew, which costs more than a small model's
        # forward pass.
        borrowed = [(self._hook_points[name], hook) for name, hook in hooks]
        level = next(self._levels)
        try:
            for point, hook in borrowed:
                point.add_hook(hook, level=level)
            with warnings.catch_warnings():
                # Editing a norm's scale is what freezing means; the bridge warns of it at every layer and call.
                warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")
                yield self.bridge
        finally:
            for point, _ in borrowed:
                point.remove_hooks("fwd", level=level)

    @torch.no_grad()
    def forward(self, token_ids: Int[Tensor, " pos"]) -> Forward:
        """Run the plain model once and capture what attribution freezes."""
        cache: dict[str, Tensor] = {}

        def keep(value: Tensor, hook: Any) -> None:
            cache[hook.name] = value.detach()

        names = hook_names(self.n_layers, self.transcoders.read_point)
        with self.hooks((name, keep) for name in names) as bridge:
            logits = bridge(token_ids[None])[0]
        return forward_from_cache(token_ids, logits, cache, self.n_layers, self.transcoders.read_point)

    @torch.no_grad()
    def active_features(self, forward: Forward) -> list[Activations]:
        """Active features of every layer; ignored positions (the special token) are left out."""
        n_ignored = self.facts.architecture.n_ignored_positions
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
        n_ignored = self.facts.architecture.n_ignored_positions
        activations: list[Tensor] = []

        def encode(read: Tensor, hook: Any) -> None:
            activations.append(self.transcoders.layers[len(activations)].encode(read[0]))

        def replace(output: Tensor, hook: Any) -> Tensor:
            written = len(activations) - 1
            decoded = self.transcoders.decode(activations, written)
            return torch.cat([output[:, :n_ignored], decoded[None, n_ignored:]], dim=1)

        hooks: list[Hook] = []
        for layer in range(self.n_layers):
            hooks.append((f"blocks.{layer}.{READ_HOOKS[self.transcoders.read_point]}", encode))
            hooks.append((f"blocks.{layer}.mlp.hook_out", replace))
        with self.hooks(hooks) as bridge:
            return bridge(token_ids[None])[0]


def _plain_ids(token_ids: Sequence[int] | Tensor) -> list[int]:
    """Ids as a list; a batch of one in front is taken off."""
    if isinstance(token_ids, Tensor):
        token_ids = token_ids[0].tolist() if token_ids.dim() == 2 and len(token_ids) == 1 else token_ids.tolist()
    return list(token_ids)


def _boot(
    folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    device: torch.device,
    trust_remote_code: bool,
) -> "TransformerBridge":
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM

    try:
        hf_model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", trust_remote_code=trust_remote_code
        )
        hf_model.to(device=device)
    except (OSError, ValueError, RuntimeError) as error:
        found = " ".join(str(error).split())[:200]
        raise ModelError(
            str(folder), found=found, expected="loadable weights", to_do="Check the checkpoint folder."
        ) from error
    bridge = TransformerBridge.boot_transformers(
        str(folder), hf_model=hf_model, tokenizer=tokenizer, device=device, dtype=torch.float32
    )
    bridge.eval()
    for parameter in bridge.parameters():
        parameter.requires_grad_(False)
    return bridge
