"""Families: features of any layers and dictionaries taken together, as when one thing is split over several features.

A family's activation at a position is the weighted sum of its members', and it promotes what the weighted sum of their
write vectors promotes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from tracer.corpus.windows import Window
from tracer.errors import DataError
from tracer.harvest.examples import N_AFTER, N_BEFORE, N_CONTEXT_AFTER, N_CONTEXT_BEFORE, example_split
from tracer.harvest.layer_features import site_to_stream
from tracer.harvest.promoted import VocabularyTexts, promoted_logits, token_columns, write_directions
from tracer.harvest.scored import Direction, Scored
from tracer.harvest.scores import scorable, scores_in_batches
from tracer.model.replacement import Prompt, ReplacementModel
from tracer.model.tokenizer import token_separator, token_text

N_DOCUMENTS_AT_ONCE = 256
EXAMPLE_SCHEMA = pl.Schema({
    "rank": pl.Int64(), "document_id": pl.String(), "pos": pl.Int64(), "token": pl.String(), "activation": pl.Float64(),
    "member_activations": pl.List(pl.Float64()), "context": pl.String(),
    "document_start": pl.Int64(), "window_start": pl.Int64(),
    "window_tokens": pl.List(pl.String()), "window_activations": pl.List(pl.Float64()), "split": pl.String(),
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peak:
    """Where a family is strongest in a document."""

    document_id: str
    document_start: int
    strength: float
    pos: int
    token_ids: tuple[int, ...]
    scores: Float[Tensor, "member pos"]


@torch.no_grad()
def family_examples(
    model: ReplacementModel,
    members: Sequence[Scored],
    documents: Iterable[tuple[str, Prompt] | Window],
    *,
    weights: Sequence[float] | None = None,
    n_examples: int = 5,
) -> pl.DataFrame:
    """The windows in which the members together are most active, one per document, strongest first.

    Documents are read as they come and never held together; one longer than the model's context comes as windows of
    the same id, such as `tracer.corpus.windows.stored_windows` gives for the corpus of a harvest. Ties break on the
    document's id, then position. Documents in which the sum is nowhere above zero are left out, and so are special
    tokens and positions at which a member's activation is no number. Positions of high norm count, unlike in a harvest.

    Args:
        model: the model.
        members: features, and directions, whose activations are summed.
        documents: (id, prompt) pairs, or windows.
        weights: a factor for each member, to make features of unlike scales alike; 1 when not given.
        n_examples: windows kept.

    Returns:
        Columns as of the `examples` table, and `member_activations`, those of each member at `pos`, unweighted.

    Raises:
        DataError: no members, another number of weights, or as `feature_scores`.
    """
    factors = _factors(model, members, weights)
    kept: list[_Peak] = []
    unread = iter(documents)
    while some := [_window(model, document) for document in islice(unread, N_DOCUMENTS_AT_ONCE)]:
        prompts = [torch.tensor(window.token_ids, device=model.device) for window in some]
        for places, found in scores_in_batches(model, members, prompts):
            for place, scores in zip(places, found, strict=True):
                kept += _peaks(model, some[place], scores, factors)
        kept = _best(kept, n_examples)
    separator = token_separator(model.tokenizer)
    rows = [_row(model, rank, peak, factors, separator) for rank, peak in enumerate(kept)]
    return pl.DataFrame(rows, schema=EXAMPLE_SCHEMA)


def _window(model: ReplacementModel, document: tuple[str, Prompt] | Window) -> Window:
    document_id, prompt = (document.document_id, document.token_ids) if isinstance(document, Window) else document
    start = document.start if isinstance(document, Window) else 0
    return Window(document_id=document_id, start=start, token_ids=tuple(model.tokenize(prompt).tolist()))


def _best(peaks: Sequence[_Peak], n: int) -> list[_Peak]:
    """The strongest of each document, and of those the `n` strongest; of equal ones of a document the earlier."""
    found: dict[str, _Peak] = {}
    for peak in sorted(peaks, key=lambda peak: (-peak.strength, peak.document_id)):
        found.setdefault(peak.document_id, peak)
    return list(found.values())[:n]


def _peaks(
    model: ReplacementModel,
    window: Window,
    scores: Float[Tensor, "member pos"],
    factors: Float[Tensor, " member"],
) -> list[_Peak]:
    """The one of a document, or none."""
    token_ids = torch.tensor(window.token_ids, device=scores.device)
    scores[:, ~(scorable(model, token_ids) & scores.isfinite().all(0))] = 0
    together = (factors @ scores).cpu()
    strength = float(together.max())
    if strength <= 0:
        return []
    # argmax does not say which of equal ones it gives
    pos = int((together == strength).nonzero()[0, 0])
    return [
        _Peak(
            document_id=window.document_id, document_start=window.start, strength=strength, pos=pos,
            token_ids=window.token_ids, scores=scores.cpu(),
        )
    ]  # fmt: skip


def _row(
    model: ReplacementModel, rank: int, peak: _Peak, factors: Float[Tensor, " member"], separator: str
) -> dict[str, Any]:
    start, stop = max(0, peak.pos - N_BEFORE), min(len(peak.token_ids), peak.pos + N_AFTER + 1)
    tokens = [token_text(model.tokenizer, token_id) for token_id in peak.token_ids[start:stop]]
    shown = [f"<<{token}>>" if start + place == peak.pos else token for place, token in enumerate(tokens)]
    near = slice(max(0, peak.pos - N_CONTEXT_BEFORE - start), peak.pos + N_CONTEXT_AFTER + 1 - start)
    return {
        "rank": rank,
        "document_id": peak.document_id,
        "pos": peak.pos,
        "token": tokens[peak.pos - start],
        "activation": peak.strength,
        "member_activations": (peak.scores[:, peak.pos] + 0.0).tolist(),
        "context": separator.join(shown[near]).strip(" "),
        "document_start": peak.document_start,
        "window_start": start,
        "window_tokens": tokens,
        "window_activations": (factors.cpu() @ peak.scores[:, start:stop]).tolist(),
        "split": example_split(peak.document_id),
    }


@torch.no_grad()
def family_promoted(
    model: ReplacementModel, members: Sequence[Scored], *, weights: Sequence[float] | None = None, n_tokens: int = 20
) -> pl.DataFrame:
    """The tokens that the members together promote and suppress most: columns `kind`, `rank`, `token`, `logit`.

    Args:
        model: the model.
        members: features of transcoders, of SAEs, and directions, all by what they add to the stream.
        weights: a factor for each member; 1 when not given, one unit of activation each.
        n_tokens: tokens of each kind, `top` and `bottom`; logits are demeaned, and of equal ones the lower ids come
            first.

    Raises:
        DataError: no members, or another number of weights.
    """
    directions = torch.cat([added_to_stream(model, member) for member in members]) if members else torch.zeros(0)
    factors = _factors(model, members, weights)
    columns = token_columns(promoted_logits(model, factors[None] @ directions), n_tokens, VocabularyTexts(model))
    frames = [
        pl
        .DataFrame({"token": columns[f"{kind}_tokens"][0], "logit": columns[f"{kind}_token_logits"][0]})
        .with_row_index("rank")
        .select(pl.lit(kind).alias("kind"), pl.col("rank").cast(pl.Int64), "token", "logit")
        for kind in ("top", "bottom")
    ]
    return pl.concat(frames)


def added_to_stream(model: ReplacementModel, member: Scored) -> Float[Tensor, "1 d_model"]:
    """What one unit of a member adds to the stream; what heads give goes through their output matrices.

    Args:
        model: the model.
        member: a feature or a direction.

    Raises:
        DataError: there is no such feature.
        ModelError: `attn_z` of an architecture outside the table, whose output matrices are not known.
    """
    if isinstance(member, tuple):
        return write_directions(model, [member])
    if isinstance(member, Direction):
        return site_to_stream(model, member.layer, member.site, member.vector.to(model.weights.W_U)[None])
    dictionary, row = member.dictionary, torch.tensor([member.feature], device=model.device)
    vectors = dictionary.transcoder.decoder_rows(row, 0)
    return site_to_stream(model, dictionary.layer, dictionary.site, vectors)


def _factors(
    model: ReplacementModel, members: Sequence[Scored], weights: Sequence[float] | None
) -> Float[Tensor, " member"]:
    if not members or (weights is not None and len(weights) != len(members)):
        found = f"{len(members)} members" + ("" if weights is None else f", {len(weights)} weights")
        raise DataError("family", found=found, expected="at least one, as many of both", to_do="Check the family.")
    given = [1.0] * len(members) if weights is None else list(weights)
    return torch.tensor(given, dtype=torch.float32, device=model.device)
