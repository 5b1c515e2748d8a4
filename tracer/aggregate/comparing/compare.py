"""Question: what is in the graphs of one set of prompts, and not of another?

Sides are SQL conditions on `prompts`, of one run or of two over the same model and transcoders; or one condition and
the counterfactual partners of its prompts. Cost: one pass over the nodes and edges of the chosen graphs, and the
permutations (`tracer.aggregate.comparing.permutation`), which take longest where many pairs of features are compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import polars as pl

from tracer.aggregate.comparing.choosing import Chosen, choose
from tracer.aggregate.comparing.held import ENDS, Held, read_held
from tracer.aggregate.comparing.items import Columns, Items, frequent_columns, frequent_pairs
from tracer.aggregate.comparing.measures import measure
from tracer.aggregate.comparing.sides import Sides
from tracer.aggregate.incidence import Ints
from tracer.config import ComparedKind, ComparisonConfig
from tracer.errors import ConfigError, DataError
from tracer.tables.database import Connection
from tracer.tables.schema import TABLES

Databases = Connection | tuple[Connection, Connection]
"""One results file, or that of each side."""
KINDS: tuple[ComparedKind, ...] = get_args(ComparedKind)
COUNTERFACTUAL: Literal["counterfactual"] = "counterfactual"
SAME_IN_BOTH = ("model_hash", "transcoders_hash")
"""Columns of `runs` in which two runs must agree for their features to be the same ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was found, in the columns of `comparisons`, and between how many graphs.

    Where `is_paired`, `n_without_partner` graphs of the first side were left out for want of a partner.
    """

    items: pl.DataFrame
    n_first: int
    n_second: int
    is_paired: bool
    n_without_partner: int


def compare(
    databases: Databases,
    first: str,
    second: str | None = None,
    *,
    against: Literal["counterfactual"] | None = None,
    paired: bool | None = None,
    kinds: Sequence[str] = KINDS,
    min_support: int = 5,
    n_permutations: int = 1000,
    seed: int = 0,
    stratify_by: str | None = None,
) -> pl.DataFrame:
    """Compare two sets of graphs, item by item, in the columns of `comparisons` (its name is empty).

    Rows come kind by kind, the largest effect first; among equal ones those that more graphs hold.

    Args:
        databases: the results file; or that of each side, then pairs are of the same prompt.
        first: SQL condition on the prompts of the first side.
        second: that of the second side.
        against: `counterfactual` for the partners of the first side's prompts by `pair_id`, instead of `second`.
        paired: whether graphs are compared in pairs; where not given, they are against counterfactuals alone.
        kinds: what is compared: features, pairs of features, edges.
        min_support: least graphs of both sides together that hold an item.
        n_permutations: how often sides are dealt out anew for `p_permutation`; 0 for none.
        seed: of those deals.
        stratify_by: column of `prompts` within whose values graphs are dealt out; for graphs that are not paired.

    Raises:
        DataError: runs over different models or transcoders, a condition that is none, an unknown column, a side
            without graphs, sides that overlap, graphs that should be paired and cannot be.
        ConfigError: contradictory or unknown settings.
    """
    if (second is None) == (against is None) or against not in {None, COUNTERFACTUAL}:
        found = "neither" if second is against is None else f"second = {second!r}, against = {against!r}"
        expected = f"either a second condition or against = {COUNTERFACTUAL!r}"
        raise ConfigError("comparison", found=found, expected=expected, to_do="Give one of them.")
    if not kinds or not set(kinds) <= set(KINDS):
        expected = f"some of: {', '.join(KINDS)}"
        raise ConfigError("kinds", found=", ".join(kinds) or "none", expected=expected, to_do="Name what to compare.")
    settings = ComparisonConfig(
        name="",
        first=first,
        second=second,
        paired=paired,
        kinds=cast("list[ComparedKind]", list(kinds)),
        n_permutations=n_permutations,
        seed=seed,
        stratify_by=stratify_by,
    )
    return compare_as(databases, settings, min_support=min_support).items


def compare_as(databases: Databases, settings: ComparisonConfig, *, min_support: int) -> Comparison:
    """The comparison that settings describe.

    Args:
        databases: as for `compare`.
        settings: its sides and how they are compared.
        min_support: least graphs of both sides together that hold an item.

    Raises:
        DataError: as `compare`.
        ConfigError: counterfactuals between two runs, or without pairs.
    """
    connections = databases if isinstance(databases, tuple) else (databases, databases)
    is_one_run = connections[0] is connections[1]
    if not is_one_run:
        _refuse_other_features(*connections)
    is_counterfactual = settings.second is None
    if is_counterfactual and (settings.paired is False or not is_one_run):
        found = "two runs" if not is_one_run else "paired = False"
        to_do = "Give both conditions instead."
        raise ConfigError("counterfactual", found=found, expected="pairs within one run", to_do=to_do)
    is_paired = is_counterfactual or bool(settings.paired)
    chosen = choose(connections, settings.first, settings.second, paired=is_paired, stratum=settings.stratify_by)
    items = _compare_chosen(connections, chosen, settings, min_support)
    items = items.with_columns(pl.lit(settings.name).alias("comparison"))
    return Comparison(
        items=items.select(TABLES["comparisons"].column_names()),
        n_first=chosen.first.height,
        n_second=chosen.second.height,
        is_paired=is_paired,
        n_without_partner=chosen.n_without_partner,
    )


def _compare_chosen(
    connections: Sequence[Connection], chosen: Chosen, settings: ComparisonConfig, min_support: int
) -> pl.DataFrame:
    sides = Sides.of(
        chosen.first["graph_id"].to_list(), chosen.second["graph_id"].to_list(),
        is_paired=chosen.is_paired, stratum=_strata(chosen) if settings.stratify_by else None,
    )  # fmt: skip
    held: dict[str, Held] = {}
    frames = []
    for kind in settings.kinds:
        what: Literal["feature", "edge"] = "edge" if kind == "edge" else "feature"
        held[what] = held.get(what) or read_held(connections, chosen, what)
        items, names = _items(held[what], kind, min_support)
        measures = measure(sides, items, n_permutations=settings.n_permutations, seed=settings.seed)
        frame = pl.concat([names, measures], how="horizontal").with_columns(pl.lit(kind).alias("kind"))
        frames.append(_by_effect(frame))
    return pl.concat(frames)


def _by_effect(frame: pl.DataFrame) -> pl.DataFrame:
    # rounding would break ties between equal counts
    size = pl.col("effect_size").abs().round(9)
    n_graphs = pl.col("support_first") + pl.col("support_second")
    return frame.sort(size, n_graphs, *ENDS, descending=[True, True, *([False] * len(ENDS))], nulls_last=True)


def _items(held: Held, kind: ComparedKind, min_support: int) -> tuple[Items, pl.DataFrame]:
    if kind != "pair":
        columns: Columns = frequent_columns(held.incidence, min_support)
        return columns, held.names[columns.idx]
    pairs = frequent_pairs(held.incidence, min_support)
    one, other = held.names[pairs.first], held.names[pairs.second]
    ends = {f"{part}_b": other[f"{part}_a"] for part in ("kind", "layer", "feature")}
    return pairs, one.with_columns(**ends)


def _strata(chosen: Chosen) -> Ints:
    """Numbers of the strata; graphs without a value are a stratum of their own."""
    values = pl.concat([chosen.first["stratum"], chosen.second["stratum"]])
    return values.rank("dense").fill_null(0).to_numpy().astype(np.int64)


def _refuse_other_features(one: Connection, other: Connection) -> None:
    sql = f"SELECT {', '.join(SAME_IN_BOTH)} FROM runs"
    (here,), (there,) = one.execute(sql).fetchall(), other.execute(sql).fetchall()
    for column, expected, found in zip(SAME_IN_BOTH, here, there, strict=True):
        if expected != found:
            to_do = "Compare runs over the same model and transcoders."
            raise DataError(f"other run, {column}", found=str(found), expected=str(expected), to_do=to_do)
