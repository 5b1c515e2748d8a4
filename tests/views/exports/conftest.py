"""A finished run with rows that the formats cannot take as they are."""

import shutil
from pathlib import Path

import pytest

from tracer.tables.database import connect


@pytest.fixture(scope="session")
def awkward_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run with NUL in texts, numbers that are not finite, a label without words, and features that never
    fired or have no promoted tokens.
    """
    database = tmp_path_factory.mktemp("awkward") / "results.duckdb"
    shutil.copy(finished_run, database)
    with connect(database, read_only=False) as connection:
        for statement in (
            "UPDATE runs SET corpus = corpus || chr(0)",
            "UPDATE all_labels SET label = repeat('long ', 200), description = chr(0) || description WHERE feature = 0",
            "UPDATE all_labels SET label = ' ' || chr(0) WHERE feature = 1",
            "UPDATE features SET top_tokens = list_transform(top_tokens, lambda token: chr(0) || token)",
            "UPDATE features SET top_token_logits = list_transform(top_token_logits, lambda logit: 'inf'::DOUBLE) "
            "WHERE layer = 0 AND feature = 10",
            "UPDATE examples SET window_tokens = list_transform(window_tokens, lambda token: token || chr(0))",
            "UPDATE examples SET window_activations = list_transform(window_activations, lambda value: 'nan'::DOUBLE) "
            "WHERE layer = 2 AND feature = 10 AND rank = 0",
            "UPDATE features SET activation_max = 'inf'::DOUBLE WHERE layer = 1 AND feature = 0",
            "DELETE FROM feature_activation_hist WHERE layer = 1 AND feature = 1",
            "UPDATE features SET bottom_tokens = NULL, bottom_token_logits = NULL WHERE layer = 1 AND feature = 2",
        ):
            connection.execute(statement)
    return database
