"""How many distinct features there are in more and more prompts: does the number level off?"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from tracer.errors import DataError
from tracer.tables.database import Connection, ask
from tracer.views.results.asking import graphs_of, parse_component, several

FEATURES = "SELECT DISTINCT graph_id, layer, feature FROM nodes WHERE kind = 'feature'"
FIRST_SEEN = """
    WITH chosen AS ({graphs}),
    places AS (
        SELECT prompt_id, row_number() OVER (ORDER BY md5($name || prompt_id), prompt_id) AS place
        FROM (SELECT DISTINCT prompt_id FROM chosen)
    )
    SELECT min(place) AS place
    FROM ({features}) JOIN chosen USING (graph_id) JOIN places USING (prompt_id)
    GROUP BY layer, feature
"""
EVERY = "every component"
"""In the place of a component's name: distinct features of all MLPs."""


def unique_features(
    connection: Connection,
    components: Sequence[str],
    *,
    n_resamples: int,
    n_points: int,
    seed: int,
    by_value: str | None,
    by_column: str,
) -> pl.DataFrame:
    """Distinct features among the first n prompts of several orders of all prompts, by n.

    An order sorts prompts by the MD5 hash of `seed:resample:` and the prompt's id.

    Args:
        connection: to a results file.
        components: names; none of them for the features of all MLPs together.
        n_resamples: orders.
        n_points: most values of n, evenly spread from 1 to the number of prompts.
        seed: names the orders.
        by_value: over the prompts of this value alone; None for all.
        by_column: column of `prompts` that has it.
    """
    if n_resamples < 1 or n_points < 1:
        found = f"{n_resamples} resamples, {n_points} points"
        raise DataError("unique features", found=found, expected="at least 1 of both", to_do="Ask for more.")
    asked = {name: parse_component(connection, name).features for name in several(components)} or {EVERY: FEATURES}
    graphs = graphs_of(connection, by_column, by_value)
    counted = f"SELECT count(DISTINCT prompt_id) AS n FROM ({graphs})"
    n_prompts = int(ask(connection, counted, {"by_value": by_value})["n"][0])
    points = np.unique(np.linspace(1, n_prompts, min(n_points, n_prompts)).round().astype(np.int64))
    frames = []
    for name, features in asked.items():
        sql = FIRST_SEEN.format(graphs=graphs, features=features)
        counts = np.array([
            _distinct(ask(connection, sql, {"by_value": by_value, "name": f"{seed}:{resample}:"}), points)
            for resample in range(n_resamples)
        ])
        frames.append(pl.DataFrame({
            "component": pl.Series([name] * len(points), dtype=pl.String),
            "n_prompts": points,
            "n_features_mean": counts.mean(axis=0),
            "n_features_sd": counts.std(axis=0, ddof=1) if n_resamples > 1 else np.full(len(points), np.nan),
            "n_features_min": counts.min(axis=0),
            "n_features_max": counts.max(axis=0),
        }))  # fmt: skip
    return pl.concat(frames)


def _distinct(first_seen: pl.DataFrame, points: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(first_seen["place"].to_numpy()), points, side="right")
