"""A comparison for people: labels and tokens beside the items, figures as they are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from tracer.aggregate.comparing.compare import Comparison
from tracer.corpus.tokens import visible
from tracer.tables.database import query
from tracer.views.formats import MISSING, chance, count, number
from tracer.views.readings import BEST_LABEL
from tracer.views.records import FeatureRef, TokenRef

NAMES = f"""
    WITH {BEST_LABEL}
    SELECT 'feature' AS kind, layer, feature, label FROM best_label
    UNION ALL
    SELECT kind, -1, token_id, min(token) FROM nodes WHERE kind IN ('token', 'logit') AND token_id IS NOT NULL
    GROUP BY kind, token_id
"""


def with_labels(items: pl.DataFrame, databases: Sequence[Path]) -> pl.DataFrame:
    """Rows of `comparisons` with `label_a` and `label_b`: a feature's label, a token's text; null where there is none.

    Args:
        items: the rows.
        databases: the results files compared; the first that has a label gives it.
    """
    keys = ["kind", "layer", "feature"]
    names = pl.concat([query(database, NAMES) for database in databases])
    names = names.unique(keys, keep="first", maintain_order=True)
    for end in ("a", "b"):
        renamed = names.rename({name: f"{name}_{end}" for name in names.columns})
        items = items.join(renamed, on=[f"{key}_{end}" for key in keys], how="left", maintain_order="left")
    return items


def shown(items: pl.DataFrame) -> pl.DataFrame:
    """Those rows as texts for a terminal: names, labels, graphs of each side, difference, interval, effect, chances."""
    has_second_end = "none" not in set(items["kind_b"])
    return pl.DataFrame([_row(row, has_second_end) for row in items.iter_rows(named=True)], infer_schema_length=None)


def _row(row: dict[str, Any], has_second_end: bool) -> dict[str, str]:
    texts = _end(row, "a") | (_end(row, "b") if has_second_end else {})
    texts |= {side: f"{count(row[f'support_{side}'])}/{count(row[f'n_{side}'])}" for side in ("first", "second")}
    return texts | {
        "difference": number(row["difference"]),
        "95 %": f"{number(row['difference_low'])} to {number(row['difference_high'])}",
        "effect h": number(row["effect_size"]),
        "p": chance(row["p"]),
        "q": chance(row["q"]),
        "family-wise p": chance(row["p_permutation"]),
    }


def _end(row: dict[str, Any], end: str) -> dict[str, str]:
    kind, label = row[f"kind_{end}"], row[f"label_{end}"]
    if kind != "feature":
        return {end: TokenRef(kind=kind, label="").name, f"label {end}": MISSING if label is None else visible(label)}
    ref = FeatureRef(layer=row[f"layer_{end}"], feature=row[f"feature_{end}"], label=label)
    return {end: ref.name, f"label {end}": label or MISSING}


def sides_line(found: Comparison) -> str:
    """How many graphs were compared, in a line."""
    if not found.is_paired:
        return f"{count(found.n_first)} graphs against {count(found.n_second)}"
    left_out = (
        f"; {count(found.n_without_partner)} graphs without a partner left out" if found.n_without_partner else ""
    )
    return f"{count(found.n_first)} pairs of graphs{left_out}"
