"""One pass of the explicit engine: the read vectors of some rows on their way from one stage down to the tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.columns import Block, Span
from tracer.attribution.frozen_map import pull_skip
from tracer.attribution.mixing import mixed_values, mixed_values_of_own
from tracer.attribution.precision import Precision, product
from tracer.attribution.slots import Slots, contract
from tracer.attribution.sources import Sources
from tracer.model.replacement import ReplacementModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """The rows of one span with their sources, their reads and the edges found so far."""

    span: Span
    sources: Sources
    row: Int[Tensor, " read"]
    """Per read: its row in the span; of which prompt, its place tells."""
    place: Int[Tensor, " read"]
    vectors: Float[Tensor, "read d_model"]
    stage: Int[Tensor, " read"]
    reads_once: bool
    """Whether each row has one read, none of them at an ignored position."""
    found: Float[Tensor, "node_or_none row"]
    """Edges by node, as `Joined` numbers them."""

    @property
    def no_node_found(self) -> Float[Tensor, "prompt row"]:
        """What no node accounts for."""
        return self.found.view(self.sources.n_prompts, -1, self.found.shape[1])[:, -2]

    def part(self, columns: Float[Tensor, "column width"], block: Block) -> Float[Tensor, "place row width"]:
        """A block's part of a matrix over all columns."""
        return columns[block.columns].view(block.n_places, block.n_rows, columns.shape[1])

    def contract(self, columns: Float[Tensor, "column width"], slots: Sequence[Slots]) -> None:
        """Add the products with the vectors of nodes at each position."""
        contract(self.span, columns, slots, self.found)

    def add_ignored(self, layer: int, values: Float[Tensor, "prompt_kv key row d_head"]) -> None:
        """Add the edges from tokens at ignored positions, which a layer's attention reads."""
        n_prompts, n_ignored = self.sources.n_prompts, self.sources.n_ignored
        reads = values[:, :n_ignored].unflatten(0, (n_prompts, -1)).permute(0, 1, 2, 4, 3).flatten(1, 3)
        edges = torch.bmm(self.sources.ignored_values(layer), reads)
        self.found.index_add_(0, self.sources.ignored_nodes.T.flatten(), edges.flatten(0, 1))

    def distribute(
        self, values: Float[Tensor, "prompt_kv key row d_head"], columns: Float[Tensor, "column kv_d"]
    ) -> None:
        """Lay what reads values at the other positions out in columns."""
        by_prompt = values[:, self.sources.n_ignored :].unflatten(0, (self.sources.n_prompts, -1))
        seen = by_prompt.permute(2, 0, 3, 1, 4)
        for block in self.span.blocks:
            part = columns[block.columns].view(block.n_pos, block.n_prompts, block.n_rows, *seen.shape[3:])
            part.copy_(seen[block.positions, :, : block.n_rows])

    def add_constant(self, columns: Float[Tensor, "column width"], constant: Float[Tensor, "place width"]) -> None:
        """Add what no node accounts for."""
        for block in self.span.blocks:
            vectors = self.part(columns, block).transpose(1, 2)
            parts = torch.bmm(constant[block.places, None], vectors).view(block.n_pos, block.n_prompts, block.n_rows)
            self.no_node_found[:, : block.n_rows] += parts.sum(0)


class Descent:
    """Read vectors of the rows of some cohorts, and how they pass the layers; each row enters at its own stage."""

    def __init__(self, model: ReplacementModel, cohorts: Sequence[Cohort], precision: Precision) -> None:
        self.model, self.cohorts, self.precision = model, cohorts, precision
        like = cohorts[0].vectors
        n_columns = sum(cohort.span.n_columns for cohort in cohorts)
        self.columns: Float[Tensor, "column d_model"] = like.new_zeros(n_columns, like.shape[1])
        self.stages = torch.cat([cohort.stage for cohort in cohorts]).unique().tolist()

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
            reads_once = self.stages == [stage] and all(cohort.reads_once for cohort in self.cohorts)
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
            sources, enters = cohort.sources, cohort.stage == stage
            row, place, vectors = cohort.row[enters], cohort.place[enters], cohort.vectors[enters]
            known = place < sources.first_place
            if bool(known.any()):
                parts = sources.ignored_streams[stage][:, place[known]] * vectors[known]
                places = (sources.ignored_nodes[:, place[known] % sources.n_prompts], row[known][None])
                cohort.found.index_put_(places, parts.sum(-1), accumulate=True)
                row, place, vectors = row[~known], place[~known], vectors[~known]
            place = place - sources.first_place
            self.columns.index_add_(0, cohort.span.column_of(place, row), vectors)
            # Rows from above have met the constant of this layer's attention with what its MLP wrote.
            if stage % 2 and sources.writes_attention_constant(stage // 2):
                constant = sources.attention_constant(stage // 2)
                if constant is not None:
                    places = (place % sources.n_prompts, row)
                    cohort.no_node_found.index_put_(places, (vectors * constant[place]).sum(-1), accumulate=True)

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
        entered = torch.cat([cohort.vectors for cohort in self.cohorts]) if own else self.columns
        outputs = product(entered, W_O.T, self.precision)
        # What reads values takes the place of what read outputs, cohort by cohort, where both are as large.
        in_place = not own and len(W_O) == len(W_V)
        mixed = outputs if in_place else outputs.new_empty(len(self.columns), len(W_V))
        start = 0
        for cohort in self.cohorts:
            if own:
                reads = outputs[start : start + len(cohort.vectors)]
                place = cohort.place - cohort.sources.first_place
                values = mixed_values_of_own(cohort.span, cohort.sources.mixing(layer), reads, place, cohort.row)
            else:
                values = mixed_values(cohort.span, cohort.sources.mixing(layer), outputs)
            start += len(cohort.vectors)
            cohort.add_ignored(layer, values)
            cohort.distribute(values, mixed)
        del outputs, values
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
            first, forward = cohort.sources.first_place, cohort.sources.joined.forward
            for block in cohort.span.blocks:
                part = cohort.part(vectors, block)
                place = torch.arange(block.places.start, block.places.stop, device=part.device) + first
                passed = pull_skip(self.model, forward, layer, place[:, None], part)
                cohort.part(self.columns, block).add_(passed)
