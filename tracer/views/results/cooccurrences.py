"""Which features of two or more components share graphs; each feature stays with the component that owns it."""

from collections.abc import Sequence
from itertools import combinations

import polars as pl

from tracer.errors import DataError
from tracer.tables.database import Connection, ask
from tracer.views.results.asking import ComponentName, graphs_of, parse_component, several

PAIRS = """
    WITH a AS ({a}), b AS ({b}),
    a_support AS (SELECT layer, feature, count(*) AS n FROM a GROUP BY layer, feature),
    b_support AS (SELECT layer, feature, count(*) AS n FROM b GROUP BY layer, feature),
    shared AS (
        SELECT a.layer AS layer_a, a.feature AS feature_a, b.layer AS layer_b, b.feature AS feature_b,
            count(*) AS support
        FROM a JOIN b USING (graph_id) WHERE {condition}
        GROUP BY ALL HAVING count(*) >= $min_support
    ),
    size AS (SELECT count(*) AS n_graphs FROM graphs)
    SELECT $name_a AS component_a, shared.layer_a, shared.feature_a, $name_b AS component_b, shared.layer_b,
        shared.feature_b,
        a_support.n AS n_a, b_support.n AS n_b, shared.support,
        shared.support / (a_support.n + b_support.n - shared.support) AS jaccard,
        a_support.n * b_support.n / n_graphs AS expected_independent,
        shared.support / (a_support.n * b_support.n / n_graphs) AS lift_independent,
        {null_columns}
    FROM shared CROSS JOIN size
    JOIN a_support ON (a_support.layer, a_support.feature) = (shared.layer_a, shared.feature_a)
    JOIN b_support ON (b_support.layer, b_support.feature) = (shared.layer_b, shared.feature_b)
    {null_join}
    ORDER BY shared.support DESC, shared.layer_a, shared.feature_a, shared.layer_b, shared.feature_b
"""
NULL_MEASURES = ("lift", "npmi", "q_above", "q_below", "lift_stratified", "q_above_stratified", "q_below_stratified")
NULL_JOIN = """
    LEFT JOIN cooccurrence AS known
    ON known.layer_a = shared.layer_{low} AND known.feature_a = shared.feature_{low}
        AND known.layer_b = shared.layer_{high} AND known.feature_b = shared.feature_{high}
"""
N_SUPPORT = "SELECT layer, feature, count(*) AS n FROM ({features}) SEMI JOIN chosen USING (graph_id) GROUP BY ALL"


def cooccurrences(connection: Connection, component_a: str, component_b: str, min_support: int) -> pl.DataFrame:
    """Pairs of a feature of each component that share graphs.

    Args:
        connection: to a results file.
        component_a: the first component.
        component_b: the second; the same again for pairs within it.
        min_support: fewest graphs of a pair that is listed.
    """
    a, b = parse_component(connection, component_a), parse_component(connection, component_b)
    condition = "(a.layer, a.feature) < (b.layer, b.feature)" if a == b else _differing("a", a, "b", b) or "true"
    columns, join = _null(a, b)
    sql = PAIRS.format(a=a.features, b=b.features, condition=condition, null_columns=columns, null_join=join)
    return ask(connection, sql, {"name_a": a.name, "name_b": b.name, "min_support": min_support})


def _differing(relation_a: str, a: ComponentName, relation_b: str, b: ComponentName) -> str:
    """SQL: no feature of an MLP beside a head that reads it, since that it is in the graphs of both says nothing."""
    if (a.head is None) == (b.head is None):
        return ""
    return f"({relation_a}.layer, {relation_a}.feature) <> ({relation_b}.layer, {relation_b}.feature)"


def _null(a: ComponentName, b: ComponentName) -> tuple[str, str]:
    """Between MLPs, what `cooccurrence` says of the pair; features that heads read were compared with no such null."""
    if a.head is None and b.head is None:
        low, high = ("a", "b") if a.layer <= b.layer else ("b", "a")
        return ", ".join(f"known.{name}" for name in NULL_MEASURES), NULL_JOIN.format(low=low, high=high)
    return ", ".join(f"NULL::DOUBLE AS {name}" for name in NULL_MEASURES), ""


def top_feature_tuples(
    connection: Connection, k: int, components: Sequence[str], by_value: str | None, by_column: str
) -> pl.DataFrame:
    """The tuples of one feature of each component that most graphs hold.

    A tuple is in no more graphs than any of its features. So features are taken from a least support on that falls
    until the k-th tuple reaches it: then no tuple is missing.

    Args:
        connection: to a results file.
        k: most tuples.
        components: names, each once.
        by_value: over the graphs of this value alone; None for all graphs.
        by_column: column of `prompts` that has it.
    """
    if k < 1:
        raise DataError("feature tuples", found=f"k {k}", expected="at least 1", to_do="Ask for more.")
    names = [parse_component(connection, name) for name in several(components)]
    if not names or len({name.name for name in names}) < len(names):
        found = ", ".join(components) or "no component"
        to_do = "`cooccurrences(a, a)` gives pairs within one component."
        raise DataError("feature tuples", found=found, expected="different components", to_do=to_do)
    graphs = graphs_of(connection, by_column, by_value)
    floor = min(_largest_support(connection, name, graphs, by_value) for name in names)
    while True:
        found_tuples = _tuples(connection, k, names, graphs, by_value, max(floor, 1))
        if floor <= 1 or (found_tuples.height == k and found_tuples["support"][-1] >= floor):
            return found_tuples
        floor //= 2


def _largest_support(connection: Connection, name: ComponentName, graphs: str, by_value: str | None) -> int:
    sql = f"WITH chosen AS ({graphs}) SELECT coalesce(max(n), 0) AS n FROM ({N_SUPPORT.format(features=name.features)})"
    return int(ask(connection, sql, {"by_value": by_value})["n"][0])


def _tuples(
    connection: Connection, k: int, names: Sequence[ComponentName], graphs: str, by_value: str | None, floor: int
) -> pl.DataFrame:
    parts, places, joins = [f"chosen AS ({graphs})"], [], []
    for idx, name in enumerate(names):
        parts.append(f"held_{idx} AS MATERIALIZED (SELECT * FROM ({name.features}) SEMI JOIN chosen USING (graph_id))")
        parts.append(
            f"part_{idx} AS (SELECT * FROM held_{idx} SEMI JOIN (SELECT layer, feature FROM held_{idx} "
            f"GROUP BY layer, feature HAVING count(*) >= $floor) USING (layer, feature))"
        )
        places += [f'part_{idx}.layer AS "{name.name}_layer"', f'part_{idx}.feature AS "{name.name}_feature"']
        joins.append(f"part_{idx}" if idx == 0 else f"JOIN part_{idx} USING (graph_id)")
    columns = [place.split(" AS ")[1] for place in places]
    differing = [_differing(f"part_{i}", a, f"part_{j}", b) for (i, a), (j, b) in combinations(enumerate(names), 2)]
    sql = f"""
        WITH {", ".join(parts)}
        SELECT {", ".join(places)}, count(*) AS support,
            count(*) / (SELECT count(*) FROM chosen) AS frequency
        FROM {" ".join(joins)} WHERE {" AND ".join(filter(None, differing)) or "true"}
        GROUP BY ALL ORDER BY support DESC, {", ".join(columns)} LIMIT $k
    """
    return ask(connection, sql, {"by_value": by_value, "floor": floor, "k": k})
