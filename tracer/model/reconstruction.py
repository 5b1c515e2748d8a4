"""Do transcoders give back what the model's MLPs compute? Files whose shapes fit may still be read the wrong way.

A matrix that is square and transposed, a decoder whose rows are not in the encoder's order, layers in another order,
another hook: all load, and every graph made with them is wrong. What they reconstruct shows it at once.
"""

import logging
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.corpus.tokens import encode

if TYPE_CHECKING:
    from tracer.model.replacement import ReplacementModel

logger = logging.getLogger(__name__)

PROBE_TEXT = (
    "The harbour town lies at the mouth of a wide river. In spring the ferries run twice a day, and visitors from the "
    "north come to walk along the old walls. Most shops open at nine; on Sundays the market sells bread and flowers."
)
N_PROBE_TOKENS = 64
N_DISTINCT_TOKENS = 16
"""Fewer in the probe text mean that the vocabulary cannot say it."""
N_SAMPLED_TOKENS = 16


@torch.no_grad()
def explained(model: "ReplacementModel", token_ids: Int[Tensor, " pos"]) -> Float[Tensor, " layer"]:
    """Share of the variance of each layer's MLP output over positions that its reconstruction explains.

    `1 - sum |y - reconstruction|^2 / sum |y - mean(y)|^2`: 1 where it is exact, 0 where it is no better than the mean.
    With a skip connection the mean is that of `y`, or of what the skip connection leaves of it, whichever is closer.

    Args:
        model: the replacement model.
        token_ids: a prompt with its special token; its ignored positions do not count.
    """
    forward = model.forward(token_ids)
    active = model.active_features(forward)
    first = model.facts.n_ignored_positions(token_ids.tolist())
    shares = []
    for layer in range(model.n_layers):
        outputs = forward.mlp_outputs[layer, first:]
        errors = outputs - model.transcoders.reconstruction(active, forward.reads, layer)[first:]
        # A skip connection alone may do better than the mean, and hide features that only harm.
        left = outputs - model.transcoders.layers[layer].skip(forward.reads[layer])[first:]
        plain = torch.stack([(values - values.mean(0)).square().sum() for values in (outputs, left)]).min()
        shares.append(1 - errors.square().sum() / plain)
    return torch.stack(shares)


def poor_reconstruction(model: "ReplacementModel") -> str | None:
    """What is wrong with the layers that are reconstructed worse than by their mean; None where there are none.

    Args:
        model: the replacement model, which is run on a short text.
    """
    shares = explained(model, probe_ids(model)).tolist()
    # Neither is a share that is not a number any good.
    poor = [f"{layer} ({share:.2f})" for layer, share in enumerate(shares) if not share >= 0]
    if not poor:
        return None
    return (
        f"transcoders: found MLP outputs reconstructed worse than by their mean in {len(poor)} of {len(shares)} layers "
        f"(share of variance explained on a short text): {', '.join(poor)}; expected shares well above 0. Usually a "
        "matrix is transposed, the decoder's features are in another order than the encoder's, the layers are in "
        "another order, the hooks or the processing of weights are not those of training, or the set was made for "
        "another model. Check the set: graphs made with it mean nothing."
    )


def warn_of_poor_reconstruction(model: "ReplacementModel") -> None:
    """Log a warning where `poor_reconstruction` finds something.

    Args:
        model: the replacement model.
    """
    complaint = poor_reconstruction(model)
    if complaint is not None:
        logger.warning(complaint)


def probe_ids(model: "ReplacementModel") -> Int[Tensor, " pos"]:
    """Token ids of a neutral text; where the vocabulary cannot say it, of what the model itself would say.

    Args:
        model: the replacement model.
    """
    n_tokens = min(N_PROBE_TOKENS, model.facts.n_ctx) - 1
    token_ids = encode(PROBE_TEXT, model.tokenizer)[:n_tokens]
    if model.tokenizer.unk_token_id not in token_ids and len(set(token_ids)) >= N_DISTINCT_TOKENS:
        return model.tokenize(token_ids)
    return _sampled_ids(model, min(N_SAMPLED_TOKENS, model.facts.n_ctx))


@torch.no_grad()
def _sampled_ids(model: "ReplacementModel", n_tokens: int) -> Int[Tensor, " pos"]:
    """A sample of the model's own language: transcoders are not trained on random tokens."""
    generator = torch.Generator().manual_seed(0)
    n_known = min(len(model.tokenizer), model.facts.d_vocab)
    never = [token_id for token_id in model.tokenizer.all_special_ids if token_id < n_known]
    token_ids = torch.tensor([model.special_token_rule.prepend_id or 0], device=model.device)
    while len(token_ids) < n_tokens:
        # What is infinite or not a number is refused when a prompt is attributed, in plainer words than here.
        logits = model.bridge(token_ids[None])[0, -1, :n_known].float().cpu().nan_to_num()
        logits[never] = -torch.inf
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        token_ids = torch.cat([token_ids, drawn.to(model.device)])
    return token_ids
