"""How the read vectors of many rows, of one prompt or several, lie in one matrix.

Prompts side by side share a span: each of its rows is one of every prompt, and its places are position 0 of each
prompt, then position 1 of each. Where there is one prompt, a place is a position.

A row that reads at a position can only see that position and those before it (its causal cone). The rows of a span are
sorted by how far they see, farthest first, and its positions are cut into blocks: in each block only the first rows, as
many as see into it, have vectors. They lie block by block, position by position, row by row, so that a product with
weights takes the vectors of all spans at once and wastes little on what no row can see.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

MAX_BLOCKS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some positions of a span, and the rows that see them."""

    first_pos: int
    n_pos: int
    n_rows: int
    first_column: int
    n_prompts: int = 1

    @property
    def positions(self) -> slice:
        """Its positions, counted from the first that is not ignored."""
        return slice(self.first_pos, self.first_pos + self.n_pos)

    @property
    def n_places(self) -> int:
        """Its positions in all prompts."""
        return self.n_pos * self.n_prompts

    @property
    def places(self) -> slice:
        """The same as places, counted likewise."""
        return slice(self.first_pos * self.n_prompts, (self.first_pos + self.n_pos) * self.n_prompts)

    @property
    def columns(self) -> slice:
        """Where its vectors lie."""
        return slice(self.first_column, self.first_column + self.n_places * self.n_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Rows of one request in one pass."""

    request: int
    rows: Int[Tensor, " row"]
    """Their indices in the request, farthest-seeing first."""
    n_pos: int
    """Positions that the first of them sees."""
    blocks: tuple[Block, ...]
    n_prompts: int = 1

    @property
    def n_columns(self) -> int:
        """Vectors of the span."""
        return sum(block.n_places * block.n_rows for block in self.blocks)

    def column_of(self, place: Int[Tensor, " vector"], row: Int[Tensor, " vector"]) -> Int[Tensor, " vector"]:
        """Where the vector of a row at a place lies."""
        if not self.blocks:
            return place
        bounds = [(block.first_column, block.places.start, block.n_rows) for block in self.blocks]
        first_column, first_place, n_rows = torch.tensor(bounds, device=place.device).unbind(1)
        idx = place // self.blocks[0].n_places
        return first_column[idx] + (place - first_place[idx]) * n_rows[idx] + row


def passes(
    cones: Sequence[Int[Tensor, " _"]],
    *,
    max_columns: int,
    max_rows: int,
    worth_a_block: float,
    n_prompts: Sequence[int] | None = None,
) -> Iterator[list[Span]]:
    """Deal the rows of all requests out to passes of limited size.

    Args:
        cones: per request, the number of positions that each row sees, in the prompt where it sees most.
        max_columns: most vectors in a pass; a row that alone has more gets a pass of its own.
        max_rows: most rows in a pass.
        worth_a_block: vectors of zeros that cost as much as one more block.
        n_prompts: per request, prompts side by side; one each where not given.
    """
    spans: list[Span] = []
    n_columns, n_rows = 0, 0
    for request, lengths in enumerate(cones):
        order, n_beside = lengths.argsort(descending=True, stable=True), n_prompts[request] if n_prompts else 1
        lengths = lengths[order]
        while len(order):
            n_each = lengths.clamp_min(1) * n_beside
            room = torch.searchsorted(n_each.cumsum(0), max_columns - n_columns, right=True)
            n_taken = min(int(room), (max_rows - n_rows) // n_beside)
            if n_taken < len(order) and spans:
                yield spans
                spans, n_columns, n_rows = [], 0, 0
                continue
            n_taken = max(1, min(n_taken, len(order)))
            span = _span(request, order[:n_taken], lengths[:n_taken], n_columns, worth_a_block, n_beside)
            spans.append(span)
            n_columns, n_rows = n_columns + span.n_columns, n_rows + n_taken * n_beside
            order, lengths = order[n_taken:], lengths[n_taken:]
    if spans:
        yield spans


def rising_span(pos: Int[Tensor, " row"], n_pos: int, worth_a_block: float) -> Span:
    """One span of all rows that write at `pos` and are seen from there on: block by block more rows, lowest first."""
    rows = pos.argsort(stable=True)
    blocks = _blocks(len(rows), n_pos, worth_a_block, lambda _, end: int((pos < end).sum()))
    return Span(request=0, rows=rows, n_pos=n_pos, blocks=blocks)


def _span(
    request: int, rows: Int[Tensor, " row"], lengths: Int[Tensor, " row"], first_column: int, worth_a_block: float,
    n_prompts: int,
) -> Span:  # fmt: skip
    n_pos = int(lengths[0])
    blocks = _blocks(
        len(rows), n_pos, worth_a_block, lambda first, _: int((lengths > first).sum()), first_column, n_prompts
    )
    return Span(request=request, rows=rows, n_pos=n_pos, blocks=blocks, n_prompts=n_prompts)


def _blocks(
    n_rows: int, n_pos: int, worth_a_block: float, n_rows_in: Callable[[int, int], int], first_column: int = 0,
    n_prompts: int = 1,
) -> tuple[Block, ...]:  # fmt: skip
    """Blocks of all positions, one after the other; `n_rows_in` counts the rows of one between its bounds."""
    size, blocks = _block_size(n_rows * n_prompts, n_pos, worth_a_block), []
    for first_pos in range(0, n_pos, size):
        end = min(first_pos + size, n_pos)
        block = Block(
            first_pos=first_pos, n_pos=end - first_pos, n_rows=n_rows_in(first_pos, end), first_column=first_column,
            n_prompts=n_prompts,
        )  # fmt: skip
        blocks.append(block)
        first_column = block.columns.stop
    return tuple(blocks)


def _block_size(n_rows: int, n_pos: int, worth_a_block: float) -> int:
    """Positions of a block: half a block of zeros a row costs as much in all as the blocks themselves."""
    n_blocks = min(MAX_BLOCKS, max(1, round((n_rows * n_pos / (2 * worth_a_block)) ** 0.5)))
    return max(1, -(-n_pos // n_blocks))
