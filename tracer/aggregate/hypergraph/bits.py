"""Counting by single bits, in one of two ways.

A table of items has one bit for each graph in the row of each item: the graphs that hold several items are the bits
that are set in all of their rows.

A table of graphs has one bit for each of some items, and its rows are added up, without unpacking them, by full adders
of whole words (Harley and Seal's carry-save adders): three rows of one weight become one of the same weight and one of
twice the weight, until a single row of each weight is left. That is five operations on 64 items at a time for each row.
"""

import numpy as np
import numpy.typing as npt

from tracer.aggregate.incidence import Ints

Words = npt.NDArray[np.uint64]
N_BITS = 1024
"""Items, or groups of items, in a table: a row is two cache lines."""
ROWS_AT_ONCE = 4095
"""Most rows that are added before their sum is unpacked."""
WORDS_AT_ONCE = 2**17
"""Words that are looked at together: they and what is made of them fit a core's cache."""


def bit_rows(row: npt.NDArray[np.integer], bit: npt.NDArray[np.integer], shape: tuple[int, int]) -> Words:
    """A table in which some bits are set, [n_rows, ceil(n_bits / 64)].

    Args:
        row: where each bit is set, [n_set].
        bit: which one, below `n_bits`; none is given twice in a row.
        shape: (n_rows, n_bits).
    """
    words = np.zeros((shape[0], -(-shape[1] // 64)), np.uint64)
    set_bits(words, row, bit)
    return words


def set_bits(words: Words, row: npt.NDArray[np.integer], bit: npt.NDArray[np.integer]) -> None:
    """Set bits that are not set as yet, as `bit_rows` does."""
    place = row.astype(np.int64) * words.shape[1] + (bit >> 6)
    # what is set once adds up without carries
    np.add.at(words.reshape(-1), place, np.uint64(1) << (bit & 63).astype(np.uint64))


def in_all(rows: Words, members: npt.NDArray[np.integer]) -> Words:
    """The bits that are set in all of some rows, [n_sets, n_words]; `members` [n_sets, size] numbers those of each."""
    together = rows[members[:, 0]]
    for column in members.T[1:]:
        together &= rows[column]
    return together


def n_set(words: Words) -> Ints:
    """How many bits are set in each row, [...] of [..., n_words]; fewer than 2^32."""
    # narrow sums are twice as fast
    return np.bitwise_count(words).sum(axis=-1, dtype=np.uint32).astype(np.int64)


def n_shared(rows: Words, row: Words) -> Ints:
    """How many bits each row has in common with one, [n_rows] of [n_rows, n_words] and [n_words]."""
    step = max(1, WORDS_AT_ONCE // max(len(row), 1))
    counts = [n_set(rows[start : start + step] & row) for start in range(0, len(rows), step)]
    return np.concatenate([np.zeros(0, np.int64), *counts])


def n_shared_by_two(rows: Words) -> Ints:
    """How many bits each row has in common with each one before it, [n_rows, n_rows]; 0 with the others."""
    n_rows = len(rows)
    counts = np.zeros((n_rows, n_rows), np.int64)
    step = WORDS_AT_ONCE // max(rows.size, 1)
    if step < 2:
        for place in range(1, n_rows):
            counts[place, :place] = n_shared(rows[:place], rows[place])
        return counts
    for start in range(0, n_rows, step):
        some = slice(start, start + step)
        counts[some] = n_set(rows[some, None] & rows)
    return np.tril(counts, -1)


def packed(graph_start: Ints, bits: npt.NDArray[np.integer]) -> Words:
    """Bits of graphs as words, [n_graphs, N_BITS / 64].

    Args:
        graph_start: where each graph's bits begin in `bits`, and the end, [n_graphs + 1].
        bits: which bits are set, below `N_BITS`; those below 0 are left out. A bit may be set twice.
    """
    n_graphs = len(graph_start) - 1
    dense = np.zeros((n_graphs, N_BITS), np.uint8)
    graph = np.repeat(np.arange(n_graphs) * N_BITS, np.diff(graph_start))
    dense.ravel()[(graph + bits)[bits >= 0]] = 1
    return np.packbits(dense, axis=1, bitorder="little").view(np.uint64)


class RowAdder:
    """Sums rows of tables of bits; holds the memory that it works in, since fresh pages cost more than the sums."""

    def __init__(self) -> None:
        self._scratch = np.empty(0, np.uint64)

    def sums(self, table: Words, lists: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """For each list of rows how often each bit is set in them.

        Args:
            table: [n_rows, n_words].
            lists: row numbers, [n_of_a_list, n_lists].

        Returns:
            Counts, [n_lists, 64 n_words].
        """
        counts = np.zeros((lists.shape[1], table.shape[1] * 64), np.int32)
        for start in range(0, len(lists), ROWS_AT_ONCE):
            part = lists[start : start + ROWS_AT_ONCE]
            n_words = part.size * table.shape[1]
            self._reserve(3 * n_words)
            rows = self._scratch[:n_words].reshape(*part.shape, table.shape[1])
            np.take(table, part, axis=0, out=rows, mode="clip")
            counts += _unpacked(_add(rows, self._scratch[n_words:]))
        return counts

    def _reserve(self, n_words: int) -> None:
        if len(self._scratch) < n_words:
            self._scratch = np.empty(n_words, np.uint64)


def _add(rows: Words, scratch: Words) -> list[Words]:
    """Sums over the first axis in binary, the lowest digit first.

    Args:
        rows: [n_rows, n_lists, n_words]; overwritten.
        scratch: room for twice as much.
    """
    digits = []
    shape, size = rows.shape[1:], rows[0].size
    n_thirds = len(rows) // 3 + 1
    odd, scratch = scratch[: n_thirds * size].reshape(-1, *shape), scratch[n_thirds * size :]
    while len(rows):
        n_carries = 0
        room = len(rows) // 2 * size
        carries, scratch = scratch[:room].reshape(-1, *shape), scratch[room:]
        while len(rows) > 2:
            third = len(rows) // 3
            n_left = len(rows) - 3 * third
            _add_three(rows[: 3 * third].reshape(3, third, *shape), odd[:third], carries[n_carries : n_carries + third])
            for place in range(n_left):
                rows[third + place] = rows[3 * third + place]
            rows = rows[: third + n_left]
            n_carries += third
        if len(rows) == 2:
            np.bitwise_and(rows[0], rows[1], out=carries[n_carries])
            np.bitwise_xor(rows[0], rows[1], out=rows[0])
            n_carries += 1
        digits.append(rows[0])
        rows = carries[:n_carries]
    return digits


def _add_three(rows: Words, odd: Words, carry: Words) -> None:
    """Full adders: the sum's low digits go into `rows[0]`, the high ones into `carry`."""
    one, two, three = rows
    np.bitwise_xor(one, two, out=odd)
    np.bitwise_and(one, two, out=one)
    np.bitwise_and(odd, three, out=two)
    np.bitwise_or(one, two, out=carry)
    np.bitwise_xor(odd, three, out=one)


def _unpacked(digits: list[Words]) -> npt.NDArray[np.integer]:
    """Numbers [n_lists, 64 n_words] from their binary digits [n_lists, n_words], the lowest first."""
    total = np.zeros((digits[0].shape[0], digits[0].shape[1] * 64), np.int32)
    for low in range(0, len(digits), 8):
        octet = np.zeros(total.shape, np.uint8)
        for place, digit in enumerate(digits[low : low + 8]):
            bits = np.unpackbits(digit.view(np.uint8), axis=1, bitorder="little")
            octet |= np.left_shift(bits, np.uint8(place), out=bits)
        total += np.left_shift(octet, low, dtype=np.int32)
    return total
