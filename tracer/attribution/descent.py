"""One pass of the explicit engine: the read vectors of some rows on their way from one stage down to the tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tracer.attribution.columns import Block, Span
from tracer.attribution.frozen_map import pull_skip
from tracer.attribution.mixing import mixed_values, mixed_values_of_own
from tracer.attribution.precision import Precision, product
from tracer.attribution.reads import Reads
from tracer.attribution.slots import Slots, contract
from tracer.attribution.sources import Sources
from tracer.model.replacement import ReplacementModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """The rows of one span with their sources, their reads and the edges found so far."""

    span: Span
    sources: Sources
    reads: Reads
    """Reads of these rows only, in the order in which they lie."""
    found: Float[Tensor, "node_or_none row"]
    """Edges by node; then what no node accounts for; then what is thrown away."""

    def part(self, columns: Float[Tensor, "column width"], block: Block) -> Float[Tensor, "pos row width"]:
        """A block's part of a matrix over all columns."""
        return columns[block.columns].view(block.n_pos, block.n_rows, columns.shape[1])

    def contract(self, columns: Float[Tensor, "column width"], slots: Sequence[Slots]) -> None:
        """Add the products with the vectors of nodes at each position."""
        contract(self.span, columns, slots, self.found)

    def add_ignored(self, layer: int, values: Float[Tensor, "kv key row d_head"]) -> None:
        """Add the edges from tokens at ignored positions, which a layer's attention reads."""
        reads = values[:, : self.sources.n_ignored].permute(2, 0, 1, 3).flatten(1)
        self.found.index_add_(0, self.sources.ignored_nodes, self.sources.ignored_values(layer) @ reads.T)

    def distribute(self, values: Float[Tensor, "kv key row d_head"], columns: Float[Tensor, "column kv_d"]) -> None:
        """Lay what reads values at the other positions out in columns."""
        seen = values[:, self.sources.n_ignored :].permute(1, 2, 0, 3)
        for block in self.span.blocks:
            part = columns[block.columns].view(block.n_pos, block.n_rows, *seen.shape[2:])
            part.copy_(seen[block.positions, : block.n_rows])

    def add_constant(self, columns: Float[Tensor, "column width"], constant: Float[Tensor, "pos width"]) -> None:
        """Add what no node accounts for."""
        for block in self.span.blocks:
            vectors = self.part(columns, block).transpose(1, 2)
            self.found[-2, : block.n_rows] += torch.bmm(constant[block.positions, None], vectors).sum((0, 1))


class Descent:
    """Read vectors of the rows of some cohorts, and how they pass the layers; each row enters at its own stage."""

    def __init__(self, model: ReplacementModel, cohorts: Sequence[Cohort], precision: Precision) -> None:
        self.model, self.cohorts, self.precision = model, cohorts, precision
        like = cohorts[0].reads.vectors
        n_columns = sum(cohort.span.n_columns for cohort in cohorts)
        self.columns: Float[Tensor, "column d_model"] = like.new_zeros(n_columns, like.shape[1])
        self.stages = torch.cat([cohort.reads.stage for cohort in cohorts]).unique().tolist()

    def run(self, down_to: int = 0) -> None:
        """Take the read vectors down; the edges passed are in the cohorts afterwards.

        Args:
            down_to: the layer in front of whose attention to stop; 0 ends at the tokens, with all edges found.
        """
        for stage in range(self.stages[-1], 2 * down_to - 1, -1):
            is_between = self.model.facts.parallel and stage % 2 == 1
            # In a parallel layer, rows that read between attention and MLP enter with those that pass both.
            if stage in self.stages and (not is_between or stage == self.stages[-1]):
                self._enter(stage)
            if stage > 2 * down_to and (not is_between or stage == self.stages[-1]):
                self._descend(stage)
        if 0 in self.stages:
            for cohort in self.cohorts:
                cohort.contract(self.columns, cohort.sources.start())

    def _descend(self, stage: int) -> None:
        """To the stage below; past a parallel layer, two at once."""
        layer, behind_attention = divmod(stage, 2)
        if behind_attention:
            reads_once = self.stages == [stage] and all(_reads_once(cohort) for cohort in self.cohorts)
            self._attention(layer, own=reads_once, skipping=None)
            return
        for cohort in self.cohorts:
            cohort.contract(self.columns, cohort.sources.written(layer - 1))
        if self.model.facts.parallel:
            self._parallel_layer(layer - 1)
        else:
            self._add_skip(layer - 1, self.columns)

    def _parallel_layer(self, layer: int) -> None:
        """Attention and skip connection of a layer in which both read the same stream.

        Rows that read behind attention alone enter here: they pass attention, but not the skip.
        """
        skipping = self.columns
        if 2 * layer + 1 in self.stages:
            skipping = self.columns.clone()
            self._enter(2 * layer + 1)
        self._attention(layer, own=False, skipping=skipping)

    def _enter(self, stage: int) -> None:
        """Put read vectors where they read; what they read at ignored positions is known at once."""
        if stage == 0:
            self.columns.zero_()  # what has come down has met the tokens already
        for cohort in self.cohorts:
            reads, sources = cohort.reads, cohort.sources
            enters = reads.stage[reads.row] == stage
            row, pos, vectors = reads.row[enters], reads.pos[enters], reads.vectors[enters]
            known = pos < sources.n_ignored
            if bool(known.any()):
                parts = sources.ignored_streams[stage][:, pos[known]] * vectors[known]
                places = (sources.ignored_nodes[:, None], row[known][None])
                cohort.found.index_put_(places, parts.sum(-1), accumulate=True)
                row, pos, vectors = row[~known], pos[~known], vectors[~known]
            pos = pos - sources.n_ignored
            self.columns.index_add_(0, cohort.span.column_of(pos, row), vectors)
            # Rows from above have met the constant of this layer's attention with what its MLP wrote.
            if stage % 2 and sources.writes_attention_constant(stage // 2):
                constant = sources.attention_constant(stage // 2)
                if constant is not None:
                    cohort.found[-2].index_add_(0, row, (vectors * constant[pos]).sum(-1))

    def _add_attention_constant(self, layer: int) -> None:
        for cohort in self.cohorts:
            constant = cohort.sources.attention_constant(layer)
            if constant is not None:
                cohort.add_constant(self.columns, constant)

    def _attention(self, layer: int, *, own: bool, skipping: Float[Tensor, "column d_model"] | None) -> None:
        """Pass read vectors behind a layer's attention on to what it reads.

        Args:
            layer: the layer.
            own: whether each row reads one position yet.
            skipping: read vectors that pass the layer's skip connection beside attention, where there is any.
        """
        if not self.cohorts[0].sources.writes_attention_constant(layer):
            self._add_attention_constant(layer)
        weights = self.model.weights.layers[layer]
        W_O, W_V = weights.W_O.flatten(0, 1), weights.W_V.flatten(0, 1)
        entered = torch.cat([cohort.reads.vectors for cohort in self.cohorts]) if own else self.columns
        outputs = product(entered, W_O.T, self.precision)
        mixed = outputs.new_empty(len(self.columns), len(W_V))
        start = 0
        for cohort in self.cohorts:
            if own:
                rows = outputs[start : start + len(cohort.span.rows)]
                pos = cohort.reads.pos - cohort.sources.n_ignored
                values = mixed_values_of_own(cohort.span, cohort.sources.mixing(layer), rows, pos)
            else:
                values = mixed_values(cohort.span, cohort.sources.mixing(layer), outputs)
            start += len(cohort.span.rows)
            cohort.add_ignored(layer, values)
            cohort.distribute(values, mixed)
        if skipping is not None:
            self._add_skip(layer, skipping)
        if layer == 0:
            for cohort in self.cohorts:
                cohort.contract(self.columns, cohort.sources.start())
                cohort.contract(mixed, cohort.sources.start_values())
        elif self.precision == "float32":
            self.columns.addmm_(mixed, W_V)
        else:
            self.columns += product(mixed, W_V, self.precision)

    def _add_skip(self, layer: int, vectors: Float[Tensor, "column d_model"]) -> None:
        """Pass read vectors behind a layer's MLP on to what its skip connection reads."""
        if self.model.transcoders.layers[layer].W_skip is None:
            return
        for cohort in self.cohorts:
            first, forward = cohort.sources.n_ignored, cohort.sources.prepared.forward
            for block in cohort.span.blocks:
                part = cohort.part(vectors, block)
                pos = torch.arange(block.first_pos, block.positions.stop, device=part.device) + first
                passed = pull_skip(self.model, forward, layer, pos[:, None], part)
                cohort.part(self.columns, block).add_(passed)


def _reads_once(cohort: Cohort) -> bool:
    """Whether each row reads one position, none of them an ignored one."""
    reads = cohort.reads
    in_order = len(reads.row) == reads.n_rows and torch.equal(reads.row, torch.arange(reads.n_rows).to(reads.row))
    return in_order and bool((reads.pos >= cohort.sources.n_ignored).all())
