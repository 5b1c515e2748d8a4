"""The explicit engine: rows of the adjacency from the frozen linear map, without autograd, for several prompts at once.

Read vectors go down from where a node reads. Behind each MLP they are contracted with what that layer's features and
errors wrote, which gives edges; attention passes them on to earlier positions; at the bottom they meet the token
embeddings. Nothing is computed for positions that a row cannot see, for the ignored positions (their stream is known
beforehand), for positions other than its own before a row's first attention, nor for what only the bottom would read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.columns import Span, passes
from tracer.attribution.descent import Cohort, Descent
from tracer.attribution.meeting import Meeting, best_middle
from tracer.attribution.precision import Precision
from tracer.attribution.prepared import Prepared, Rows
from tracer.attribution.reads import Reads, feature_reads, joined, selected
from tracer.attribution.row_table import RowTable, row_table
from tracer.attribution.schedule import NodeRequest, NodeRows
from tracer.attribution.sources import Sources
from tracer.model.replacement import ReplacementModel

N_LIVE_COPIES = 6
"""Tensors of the size of all read vectors of a pass that are alive at once; measured."""
PASS_BYTES = {"cpu": 2.0 * 2**20, "cuda": 2.0**30}
"""Size of the read vectors of a pass: more gain little speed, and need memory."""
MIN_PASS_COLUMNS = 1024
"""But at least so many vectors, whatever their size."""
LONG_PASS_COLUMNS = 2**16
"""At least so many for prompts so long that mixing and write vectors are made anew for every pass."""
BLOCK_FLOPS = {"cpu": 2.5e6, "cuda": 5e9}
"""Arithmetic that takes about as long as the small operations of one block of positions at one layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBlock:
    """Complete rows of some nodes of one request. Weights are node-major: a row is a column of them."""

    request: int
    rows: Int[Tensor, "prompt row"]
    """Indices of the rows in the request; -1 where a prompt has fewer than others beside it."""
    weights: Float[Tensor, "prompt node row"]
    bias: Float[Tensor, "prompt row"]


class ExplicitEngine:
    """Rows for one prompt or several; holds what their sources wrote."""

    def __init__(
        self,
        model: ReplacementModel,
        *prompts: Prepared,
        memory_budget_bytes: int,
        n_chunk_rows: int | None = None,
        precision: Precision = "float32",
        coverage: float | None = None,
        side_by_side: bool = False,
    ) -> None:
        self.model, self.prompts, self.precision = model, prompts, precision
        groups = [prompts] if side_by_side else [(prepared,) for prepared in prompts]
        max_kept_bytes = memory_budget_bytes // (4 * len(groups))
        self.sources = [Sources(model, *group, max_kept_bytes=max_kept_bytes) for group in groups]
        """Of each prompt; of all of them in one where they lie side by side."""
        device = prompts[0].errors.device.type
        d_model = prompts[0].errors.shape[-1]
        enough = max(MIN_PASS_COLUMNS, int(PASS_BYTES.get(device, PASS_BYTES["cpu"]) / (4 * d_model)))
        if any(sources.is_long for sources in self.sources):
            enough = max(enough, LONG_PASS_COLUMNS)
        self.max_columns = max(1, min(memory_budget_bytes // (4 * N_LIVE_COPIES * d_model), enough))
        longest = max(prepared.layout.n_nodes for prepared in prompts)
        max_rows = max(1, memory_budget_bytes // (4 * N_LIVE_COPIES * longest))
        self.max_rows = max_rows if n_chunk_rows is None else min(n_chunk_rows, max_rows)
        # Who asks for rows from the top down, to about this coverage, may meet in the middle.
        self.n_lower = 0 if coverage is None else best_middle(self.sources, coverage, memory_budget_bytes // 4)
        """Layers whose sources are pushed up instead of pulling every row down through them."""
        self._meetings: dict[int, Meeting] = {}
        self.worth_a_block = BLOCK_FLOPS.get(device, BLOCK_FLOPS["cpu"]) / (4 * d_model**2)

    def reads(self, prompt: int, nodes: Int[Tensor, " row"]) -> Reads:
        """Where feature and target nodes read."""
        prepared = self.prompts[prompt]
        layers = prepared.layout.layers()[nodes]
        order = layers.argsort(stable=True)
        found, counts = layers[order].unique_consecutive(return_counts=True)
        parts = []
        for layer, of_layer in zip(found.tolist(), nodes[order].split(counts.tolist()), strict=True):
            if layer == self.model.n_layers:
                parts.append(selected(prepared.targets.reads, of_layer - prepared.layout.first_target))
            else:
                _, pos, feature = prepared.layout.features[of_layer].to(prepared.errors.device).unbind(1)
                parts.append(feature_reads(self.model, prepared.forward, layer, pos, feature))
        return parts[0] if len(parts) == 1 else selected(joined(parts), order.argsort())

    def blocks(self, requests: Sequence[tuple[Sources, Reads]], n_lower: int = 0) -> Iterator[RowBlock]:
        """Complete rows, in pieces that respect the memory budget.

        Args:
            requests: sources of a prompt, or of several side by side, and reads at its places.
            n_lower: layers at which to meet what was pushed up instead of passing them.
        """
        tables = [row_table(reads, sources.n_ignored, sources.n_prompts) for sources, reads in requests]
        for spans in passes(
            [table.cones for table in tables], n_prompts=[sources.n_prompts for sources, _ in requests],
            max_columns=self.max_columns, max_rows=self.max_rows, worth_a_block=self.worth_a_block,
        ):  # fmt: skip
            yield from self._pass(requests, tables, spans, n_lower)

    def _pass(
        self,
        requests: Sequence[tuple[Sources, Reads]],
        tables: Sequence[RowTable],
        spans: Sequence[Span],
        n_lower: int,
    ) -> Iterator[RowBlock]:
        """Rows of one pass; what it holds goes with it, before the next one begins."""
        cohorts = [_cohort(*requests[span.request], tables[span.request], span) for span in spans]
        descent = Descent(self.model, cohorts, self.precision)
        descent.run(n_lower)
        for cohort in cohorts if n_lower else ():
            self._meeting(self.sources.index(cohort.sources)).meet(cohort, descent.columns)
        del descent
        for cohort in cohorts:
            sources, reads = requests[cohort.span.request]
            rows = tables[cohort.span.request].rows[:, cohort.span.rows]
            found = cohort.found.view(sources.n_prompts, -1, rows.shape[1])
            # Where there is no row, the last one's bias is taken; nobody looks there.
            bias = found[:, -2] + reads.bias[rows.to(reads.bias.device)]
            yield RowBlock(request=cohort.span.request, rows=rows, weights=found[:, :-2], bias=bias)

    def node_rows(self, requests: Sequence[NodeRequest]) -> Iterator[NodeRows]:
        """Complete rows of feature or target nodes."""
        pulled: dict[int, list[tuple[int, Tensor, Reads]]] = {0: [], self.n_lower: []}
        low: list[tuple[int, Tensor, Reads]] = []
        for prompt, nodes in requests:
            reads = self.reads(prompt, nodes)
            is_low = reads.stage.cpu() < 2 * self.n_lower
            is_feature = nodes < self.prompts[prompt].layout.n_features
            if bool((is_low & is_feature).any()):
                rows = (is_low & is_feature).nonzero().flatten()
                low.append((prompt, nodes[rows], selected(reads, rows)))
            meets = self.n_lower > 0 and bool(self._meeting(prompt).streams)
            for n_lower, which in ((self.n_lower if meets else 0, ~is_low), (0, is_low & ~is_feature)):
                if bool(which.any()):
                    rows = which.nonzero().flatten()
                    pulled[n_lower].append((prompt, nodes[rows], selected(reads, rows)))
        for n_lower, parts in pulled.items():
            asked = [(self.sources[prompt], reads) for prompt, _, reads in parts]
            for block in self.blocks(asked, n_lower) if parts else ():
                prompt, nodes, _ = parts[block.request]
                yield prompt, nodes[block.rows[0]], block.weights[0], block.bias[0]
                del block  # or its rows would be held while the next ones are computed
        for prompt, nodes, reads in low:
            yield prompt, nodes, *self._meeting(prompt).low_rows(nodes, reads)

    def rows_of_reads(self, reads: Reads, prompt: int = 0) -> Rows:
        """Rows of any reads of a prompt, in their order, on the CPU."""
        weights = torch.zeros(reads.n_rows, self.prompts[prompt].layout.n_nodes)
        bias = torch.zeros(reads.n_rows)
        for block in self.blocks([(self.sources[prompt], reads)]):
            rows = block.rows[0]
            weights[rows], bias[rows] = block.weights[0].T.cpu(), block.bias[0].cpu()
        return Rows(weights=weights, bias=bias)

    def rows(self, nodes: Int[Tensor, " row"], prompt: int = 0) -> Rows:
        """Rows of feature or target nodes of a prompt, in the order asked, on the CPU."""
        return self.rows_of_reads(self.reads(prompt, nodes), prompt)

    def _meeting(self, prompt: int) -> Meeting:
        if prompt not in self._meetings:
            self._meetings[prompt] = Meeting(
                self.sources[prompt],
                self.n_lower,
                max_columns=self.max_columns,
                max_rows=self.max_rows,
                worth_a_block=self.worth_a_block,
                precision=self.precision,
            )
        return self._meetings[prompt]


def _cohort(sources: Sources, reads: Reads, table: RowTable, span: Span) -> Cohort:
    rows = table.rows[:, span.rows]
    _, row_in_span = (rows >= 0).nonzero(as_tuple=True)
    some = selected(reads, rows[rows >= 0])
    is_one_each = len(some.row) == some.n_rows and torch.equal(some.row, torch.arange(some.n_rows).to(some.row))
    return Cohort(
        span=span,
        sources=sources,
        row=row_in_span.to(some.row.device)[some.row],
        place=some.pos,
        vectors=some.vectors,
        stage=some.stage[some.row],
        reads_once=is_one_each and bool((some.pos >= sources.first_place).all()),
        found=reads.vectors.new_zeros(sources.n_prompts * sources.joined.stride, len(span.rows)),
    )
