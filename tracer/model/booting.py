"""A checkpoint's language model, booted as a TransformerLens bridge that computes what plain transformers computes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.shared_weights import shared_checkpoint

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase

N_CHECKED_TOKENS = 8
MAX_BRIDGE_DIFFERENCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest difference of the bridge's logits from transformers', as a share of the largest logit, by the precision of
the weights: about 25 roundings of half precision, where a norm computed in another order differs by 4.
"""


def check_dtype(dtype: torch.dtype, facts: CheckpointFacts) -> None:
    """Refuse a precision in which graphs of a checkpoint cannot be computed.

    Args:
        dtype: of the weights.
        facts: the checkpoint's.

    Raises:
        ModelError: it is no known one, or lower than float32 where only the oracle knows the architecture: whether its
            frozen pass is linear cannot be told through the rounding.
    """
    known = tuple(MAX_BRIDGE_DIFFERENCE) if facts.explicit else (torch.float32,)
    if dtype not in known:
        of = "" if facts.explicit else f" for {facts.architecture_name}, which is not in the table of architectures"
        raise ModelError(
            "dtype", found=f"{dtype}{of}", expected=" or ".join(map(str, known)), to_do="Choose another precision."
        )


def boot(
    folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    device: torch.device,
    *,
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
    shared_cache: Path | None = None,
) -> "TransformerBridge":
    """The bridge with raw weights and no gradients.

    On a CPU weights stay mapped where the files hold them in the precision asked for, and processes share them.

    Args:
        folder: the checkpoint.
        tokenizer: its tokenizer.
        device: where it is put.
        dtype: precision in which weights are held and run.
        trust_remote_code: whether the checkpoint may run code of its own.
        shared_cache: on a CPU, a folder for weights that must be taken to float32, which processes share then.

    Raises:
        ModelError: weights that cannot be loaded, or that the bridge computes otherwise.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM

    weights_folder = folder
    if shared_cache is not None and device.type == "cpu" and dtype == torch.float32:
        weights_folder = shared_checkpoint(folder, shared_cache)
    try:
        hf_model: Any = AutoModelForCausalLM.from_pretrained(
            weights_folder, dtype=dtype, attn_implementation="eager", trust_remote_code=trust_remote_code
        )
        hf_model.to(device=device)
    except (OSError, ValueError, RuntimeError) as error:
        found = " ".join(str(error).split())[:200]
        raise ModelError(
            str(folder), found=found, expected="loadable weights", to_do="Check the checkpoint folder."
        ) from error
    hf_model.eval()
    tokens = torch.arange(N_CHECKED_TOKENS, device=device)[None] % hf_model.config.vocab_size
    with torch.no_grad():
        expected_logits = hf_model(tokens).logits
        bridge = TransformerBridge.boot_transformers(
            str(folder), hf_model=hf_model, tokenizer=tokenizer, device=device, dtype=dtype
        )
        bridge.eval()
        _check_equal(folder, bridge(tokens), expected_logits, MAX_BRIDGE_DIFFERENCE[dtype])
    for parameter in bridge.parameters():
        parameter.requires_grad_(False)
    return bridge


def _check_equal(folder: Path, logits: Tensor, expected: Tensor, tolerance: float) -> None:
    """Everything rests on the bridge computing what the checkpoint computes, so one that does not is refused."""
    difference = float((logits.float() - expected.float()).abs().max() / expected.float().abs().max())
    if not difference <= tolerance:
        raise ModelError(
            str(folder), found=f"logits of TransformerLens' bridge that differ from transformers' by {difference:.1e}",
            expected=f"at most {tolerance:.0e} of the largest",
            to_do="This architecture cannot be used with this version of TransformerLens.",
        )  # fmt: skip
