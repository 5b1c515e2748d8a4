"""The windows that may come to show a feature: its strongest firings, and firings drawn by hash.

What was chosen from earlier shards, if given, is chosen among again: a firing that is not among the best of all that
was seen cannot be among the best of the corpus, so it is left out of the part. Memory grows with features times rows
kept, and with one shard.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl
import torch
from jaxtyping import Int
from torch import Tensor

from tracer.harvest import candidates
from tracer.harvest.candidates import Candidates
from tracer.harvest.hashing import hashed
from tracer.harvest.window_texts import text_hashes
from tracer.harvest.windows import LayerFirings, WindowBatch

N_PENDING = 2**20
"""Rows that are held beside those last chosen, or as many as these, before those that cannot be chosen are dropped."""
_CHOICES: dict[str, Callable[[Candidates, int], Tensor]] = {"top": candidates.best, "quantile": candidates.drawn}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleRule:
    """How many examples of each kind are kept, how much of their windows is, and the seed of what is drawn."""

    n_top: int
    n_drawn: int
    n_before: int
    n_after: int
    seed: int

    def n_kept(self, kind: str) -> int:
        """Rows kept per feature."""
        return self.n_top if kind == "top" else self.n_drawn


class ExampleCandidates:
    """`example_candidates`. `known` holds by kind what earlier shards gave, and afterwards what all of them gave."""

    def __init__(
        self,
        n_features: Mapping[int, int],
        hashes: Int[Tensor, " vocab"],
        rule: ExampleRule,
        known: Mapping[str, Candidates] | None = None,
    ) -> None:
        sizes = torch.tensor(list(n_features.values()))
        firsts = sizes.cumsum(0) - sizes
        self._first = dict(zip(n_features, firsts.tolist(), strict=True))
        self._layers = torch.repeat_interleave(torch.tensor(list(n_features)), sizes)
        self._offsets = torch.repeat_interleave(firsts, sizes)
        self._hashes, self._rule = hashes, rule
        self.known: dict[str, Candidates] = dict(known or {})
        self._bounds = {kind: self._bound(kind) for kind in _CHOICES}
        self._pending: dict[str, list[Candidates]] = {kind: [] for kind in _CHOICES}
        self._documents: list[Tensor] = []

    def add(self, batch: WindowBatch) -> None:
        """As `Accumulator.add`."""
        texts = text_hashes(batch.token_ids, self._hashes)
        for firings in batch.layers:
            if not len(firings.feature):
                continue
            for kind, chosen in self._chosen(firings, batch).items():
                self._pending[kind].append(self._rows(firings, batch, texts, chosen).to(torch.device("cpu")))
        self._documents.append(batch.document.unique().cpu())
        for kind, parts in self._pending.items():
            if parts and sum(map(len, parts[1:])) > max(N_PENDING, len(parts[0])):
                self._drop(kind, open_document=int(batch.document[-1]))

    def tables(self) -> dict[str, pl.DataFrame]:
        """As `Accumulator.tables`; `known` is brought up to date."""
        frames = []
        for kind in _CHOICES:
            if not self._pending[kind]:
                continue
            rows = candidates.joined(self._pending[kind])
            rows = rows.take(self._choose(kind, rows))
            rows = rows.take(self._remember(kind, rows))
            frames.append(candidates.candidate_frame(rows, kind, self._layers, self._offsets))
        return {"example_candidates": pl.concat(frames)} if frames else {}

    def _chosen(self, firings: LayerFirings, batch: WindowBatch) -> dict[str, Tensor]:
        """Of each feature and document the strongest firing and the one of least draw, if they may be chosen."""
        feature, document = firings.feature, batch.document[firings.row]
        starts = torch.ones_like(feature, dtype=torch.bool)
        starts[1:] = (feature[1:] != feature[:-1]) | (document[1:] != document[:-1])
        group = starts.cumsum(0) - 1
        number = feature + self._first[firings.layer]
        strongest = _first_extreme(firings.value, group, "amax")
        found = {"top": strongest[firings.value[strongest] >= self._bound_of("top", number[strongest])]}
        if self._rule.n_drawn:
            draws = _draws(firings, batch, self._rule.seed)
            least = _first_extreme(draws, group, "amin")
            found["quantile"] = least[draws[least] <= self._bound_of("quantile", number[least])]
        return found

    def _rows(self, firings: LayerFirings, batch: WindowBatch, texts: Tensor, chosen: Tensor) -> Candidates:
        """The chosen firings, with what their feature does around them in the same window."""
        n_rows, n_pos = batch.token_ids.shape
        places = (firings.feature * n_rows + firings.row) * n_pos + firings.pos
        pos, row = firings.pos[chosen], firings.row[chosen]
        first = torch.searchsorted(places, places[chosen] - pos.clamp(max=self._rule.n_before))
        last = places[chosen] + (n_pos - 1 - pos).clamp(max=self._rule.n_after)
        n_near = torch.searchsorted(places, last, right=True) - first
        near = candidates.ranges(first, n_near)
        return Candidates(
            feature=firings.feature[chosen] + self._first[firings.layer],
            document=batch.document[row],
            start=batch.start[row],
            pos=pos,
            activation=firings.value[chosen],
            draw=_draws(firings, batch, self._rule.seed)[chosen],
            text_hash=texts[row, pos],
            n_near=n_near,
            near_pos=firings.pos[near],
            near_value=firings.value[near],
        )

    def _choose(self, kind: str, rows: Candidates) -> Tensor:
        return _CHOICES[kind](rows, self._rule.n_kept(kind))

    def _drop(self, kind: str, open_document: int) -> None:
        """Choose among the documents that are over; of one that goes on, a stronger firing may still come."""
        rows = candidates.joined(self._pending[kind])
        is_open = rows.document == open_document
        over = rows.take((~is_open).nonzero().flatten())
        self._pending[kind] = [over.take(self._choose(kind, over)), rows.take(is_open.nonzero().flatten())]

    def _remember(self, kind: str, rows: Candidates) -> Tensor:
        """Choose among what is known and these rows; gives the places of those that are chosen.

        Features that are not among these rows keep what is known of them, so that the work is that of the shard. A
        shard that is done once more finds its own rows known: they give way, so that it gives them again.
        """
        known = self.known.get(kind, rows.take(torch.zeros(0, dtype=torch.long))).without_near()
        is_own = torch.isin(known.document, torch.cat(self._documents))
        is_touched = torch.zeros(len(self._layers), dtype=torch.bool)
        is_touched[rows.feature] = True
        is_again = is_touched[known.feature]
        others = known.take((~is_again & ~is_own).nonzero().flatten())
        again = known.take((is_again & ~is_own).nonzero().flatten())
        together = candidates.joined([again, rows.without_near()])
        chosen = self._choose(kind, together)
        self.known[kind] = candidates.joined([others, together.take(chosen)])
        return chosen[chosen >= len(again)] - len(again)

    def _bound(self, kind: str) -> Tensor | None:
        """For each feature the last row that is known to be among the best, where as many as are kept are known."""
        if kind not in self.known:
            return None
        known = self.known[kind]
        is_last = candidates.rank_within(known.feature) == self._rule.n_kept(kind) - 1
        if kind == "top":
            bounds, values = torch.full(self._layers.shape, -torch.inf), known.activation
        else:
            bounds, values = torch.full(self._layers.shape, 2**63 - 1), known.draw
        bounds[known.feature[is_last]] = values[is_last]
        return bounds

    def _bound_of(self, kind: str, number: Tensor) -> Tensor | float | int:
        bounds = self._bounds[kind]
        if bounds is None:
            return -torch.inf if kind == "top" else 2**63 - 1
        if bounds.device != number.device:
            self._bounds[kind] = bounds = bounds.to(number.device)
        return bounds[number]


def _draws(firings: LayerFirings, batch: WindowBatch, seed: int) -> Int[Tensor, " firing"]:
    """By which firings are drawn: hashes of feature, document and place in the document."""
    name = (firings.layer << 32) + firings.feature
    return hashed(name, batch.document[firings.row], batch.start[firings.row] + firings.pos, seed)


def _first_extreme(values: Tensor, group: Int[Tensor, " row"], kind: str) -> Int[Tensor, " group"]:
    """Place of the largest (amax) or least (amin) value of each group, the first of equal ones."""
    n_groups = int(group[-1]) + 1
    extremes = torch.zeros(n_groups, dtype=values.dtype, device=values.device)
    extremes.scatter_reduce_(0, group, values, kind, include_self=False)
    hits = (values == extremes[group]).nonzero().flatten()
    groups = group[hits]
    is_first = torch.ones_like(groups, dtype=torch.bool)
    is_first[1:] = groups[1:] != groups[:-1]
    return hits[is_first]
