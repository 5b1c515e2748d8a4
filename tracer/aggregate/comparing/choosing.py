"""From conditions on prompts to the graphs of two sides: paired, where they are, and never the same graph on both."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from tracer.errors import DataError
from tracer.tables.conditions import graphs_where
from tracer.tables.database import Connection

HAS_PARTNER = "pair_id IS NOT NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The graphs of both sides, each with `graph_id`, `prompt_id`, `pair_id` and `stratum`.

    Where they are paired, equal rows belong together. `n_without_partner` graphs of the first side were left out for
    want of one.
    """

    first: pl.DataFrame
    second: pl.DataFrame
    is_paired: bool
    n_without_partner: int = 0


def choose(
    connections: Sequence[Connection], first: str, second: str | None, *, paired: bool, stratum: str | None
) -> Chosen:
    """The graphs of both sides.

    Paired graphs of one run share their prompts' `pair_id`; those of two runs are of the same prompt (`prompt_id`).

    Args:
        connections: the results file of each side; the same one twice for sides of one run.
        first: condition on the prompts of the first side.
        second: that of the second; None for the counterfactual partners of the first, which are paired.
        paired: whether graphs are paired.
        stratum: column of `prompts` by which graphs that are not paired are grouped; None for no groups.

    Raises:
        DataError: a condition that is none, an unknown column, a side without graphs, sides that overlap, graphs
            without partners or with several.
    """
    if paired and stratum is not None:
        raise DataError(
            "stratify_by", found=f"{stratum} for paired graphs", expected="none, since each pair is a group",
            to_do="Leave it out.",
        )  # fmt: skip
    is_one_run = connections[0] is connections[1]
    one = graphs_where(connections[0], first, stratum=stratum)
    other = graphs_where(connections[1], HAS_PARTNER if second is None else second, stratum=stratum)
    if one.is_empty():
        raise _empty("first", first)
    if second is None:
        other = _partners(one, other, first)
    if other.is_empty():
        raise _empty("second", "partners by `pair_id`" if second is None else second)
    if is_one_run:
        _refuse_overlap(one, other)
    if not paired:
        return Chosen(first=one, second=other, is_paired=False)
    return _paired(one, other, "pair_id" if is_one_run else "prompt_id")


def _partners(first: pl.DataFrame, candidates: pl.DataFrame, condition: str) -> pl.DataFrame:
    """The other prompts of the pairs of the first side."""
    both = first.filter(pl.col("pair_id").is_not_null()).group_by("pair_id").agg(pl.col("prompt_id").n_unique())
    n_both = both.filter(pl.col("prompt_id") > 1).height
    if n_both:
        raise DataError(
            f"condition {condition!r}",
            found=f"both prompts of {n_both} of {both.height} pairs",
            expected="one of each, since nothing says which of them is the counterfactual",
            to_do="Narrow the condition to one side, such as AND state = 'Texas', or give both sides, paired.",
        )
    return candidates.join(first, on="prompt_id", how="anti").join(first, on="pair_id", how="semi")


def _refuse_overlap(first: pl.DataFrame, second: pl.DataFrame) -> None:
    shared = second.join(first, on="prompt_id", how="semi")["prompt_id"].n_unique()
    if shared:
        raise DataError(
            "sides", found=f"{shared} prompts on both", expected="every prompt on one side at most",
            to_do="Exclude one condition from the other with AND NOT.",
        )  # fmt: skip


def _paired(first: pl.DataFrame, second: pl.DataFrame, key: str) -> Chosen:
    sides = [side.filter(pl.col(key).is_not_null()) for side in (first, second)]
    for side, other in (sides, sides[::-1]):
        several = side.join(other, on=key, how="semi").filter(pl.col(key).is_duplicated())
        if several.height:
            found = f"{several.height} graphs of one side with {key} {several[key].sort()[0]!r} and others like it"
            to_do = "Narrow the conditions, or compare without pairing."
            raise DataError("sides", found=found, expected="one graph of each side for a pair", to_do=to_do)
    one, other = sides[0].join(sides[1], on=key, how="semi"), sides[1].join(sides[0], on=key, how="semi")
    if one.is_empty():
        raise DataError(
            "sides", found=f"no {key} on both", expected="graphs in pairs",
            to_do="Compare without pairing, or choose sides that belong together.",
        )  # fmt: skip
    n_without = first.height - one.height
    return Chosen(first=one.sort(key), second=other.sort(key), is_paired=True, n_without_partner=n_without)


def _empty(side: str, condition: str) -> DataError:
    found, to_do = f"no graph ({condition})", "Choose a condition that holds for prompts that were traced."
    return DataError(f"{side} side", found=found, expected="at least one", to_do=to_do)
