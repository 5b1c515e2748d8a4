"""Reads the evidence about features out of a results file, a batch of features at a time."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.autointerp.labeller import Evidence, Example, TokenEvidence
from tracer.tables.database import Connection, connect

FEATURES_AT_ONCE = 512
WANTED = "(SELECT unnest($layers) AS layer, unnest($features) AS feature)"

FEATURES_SQL = f"""
SELECT layer, feature, support, n_firings, activation_frequency, activation_mean, activation_max,
    top_tokens, top_token_logits, bottom_tokens, bottom_token_logits
FROM features JOIN {WANTED} USING (layer, feature) ORDER BY layer, feature
"""
TOKENS_SQL = f"""
SELECT layer, feature, token_id, fired.token, fired.n_at, fired.n_before, fired.n_context,
    coalesce(held.n_at, 0), coalesce(held.n_before, 0), coalesce(held.n_context, 0)
FROM feature_tokens AS fired JOIN {WANTED} USING (layer, feature) LEFT JOIN token_counts AS held USING (token_id)
ORDER BY layer, feature, token_id
"""
EXAMPLES_SQL = f"""
SELECT layer, feature, window_tokens, window_activations, pos - window_start, context
FROM examples JOIN {WANTED} USING (layer, feature) WHERE split = 'explain' ORDER BY layer, feature, rank
"""
HOLDERS_SQL = """
WITH numbered AS (SELECT row_number() OVER (ORDER BY prompt_id) - 1 AS prompt_idx, token_ids FROM prompts)
SELECT DISTINCT unnest(token_ids) AS token_id, prompt_idx FROM numbered ORDER BY token_id, prompt_idx
"""

Holders = dict[int, npt.NDArray[np.int64]]
NOBODY: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)


def read_evidence(database: Path) -> Iterator[list[Evidence]]:
    """Batches of evidence about every feature that is kept in at least one graph, by layer and feature.

    Raises:
        ArtifactError: the file is absent or not a results file.
    """
    with connect(database) as connection:
        sql = "SELECT layer, feature FROM features WHERE support >= 1 ORDER BY layer, feature"
        kept = connection.execute(sql).fetchall()
        holders = _read_holders(connection)
        for start in range(0, len(kept), FEATURES_AT_ONCE):
            yield _read_batch(connection, kept[start : start + FEATURES_AT_ONCE], holders)


def _read_holders(connection: Connection) -> Holders:
    rows = connection.execute(HOLDERS_SQL).fetchnumpy()
    token_ids, starts = np.unique(rows["token_id"], return_index=True)
    parts = np.split(rows["prompt_idx"], starts[1:]) if len(token_ids) else []
    return dict(zip(token_ids.tolist(), parts, strict=True))


def _read_batch(connection: Connection, kept: Sequence[tuple[int, int]], holders: Holders) -> list[Evidence]:
    wanted = {"layers": [layer for layer, _ in kept], "features": [feature for _, feature in kept]}
    tokens, examples = defaultdict(list), defaultdict(list)
    for layer, feature, token_id, *counts in connection.execute(TOKENS_SQL, wanted).fetchall():
        tokens[layer, feature].append(_token(counts, holders.get(token_id, NOBODY)))
    for layer, feature, *window in connection.execute(EXAMPLES_SQL, wanted).fetchall():
        examples[layer, feature].append(_example(window))
    rows = connection.execute(FEATURES_SQL, wanted).fetchall()
    return [_evidence(row, tuple(tokens[row[:2]]), tuple(examples[row[:2]])) for row in rows]


def _token(counts: Sequence[Any], prompts: npt.NDArray[np.int64]) -> TokenEvidence:
    token, fired_at, fired_before, fired_context, n_at, n_before, n_context = counts
    return TokenEvidence(
        token=token,
        fired_at=fired_at,
        fired_before=fired_before,
        fired_context=fired_context,
        n_at=n_at,
        n_before=n_before,
        n_context=n_context,
        prompts=prompts,
    )


def _example(window: Sequence[Any]) -> Example:
    tokens, activations, peak_idx, context = window
    return Example(tokens=tuple(tokens), activations=tuple(activations), peak_idx=peak_idx, context=context)


def _evidence(row: Sequence[Any], tokens: tuple[TokenEvidence, ...], examples: tuple[Example, ...]) -> Evidence:
    layer, feature, support, n_firings, frequency, mean, largest, top, top_logits, bottom, bottom_logits = row
    return Evidence(
        layer=layer,
        feature=feature,
        support=support,
        n_firings=n_firings,
        activation_frequency=frequency or 0.0,
        activation_mean=mean,
        activation_max=largest,
        tokens=tokens,
        promoted=tuple(zip(top or (), top_logits or (), strict=True)),
        suppressed=tuple(zip(bottom or (), bottom_logits or (), strict=True)),
        examples=examples,
    )
