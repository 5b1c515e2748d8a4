"""Question: the co-activation of which features is counted? Those of a list, and those that many graphs hold."""

from collections.abc import Mapping
from pathlib import Path

from tracer.config.coactivation import CoactivationConfig
from tracer.errors import ConfigError
from tracer.tables.database import ask, connect
from tracer.tables.schema import DATABASE_NAME


def features_to_pair(
    config: CoactivationConfig, n_features: Mapping[int, int], transcoders_hash: str
) -> list[tuple[int, int]]:
    """Sorted (layer, feature) pairs: all that are listed, and of the run's those in most graphs, as many as there is
    room for.

    Args:
        config: which are asked for.
        n_features: features of each layer that is harvested.
        transcoders_hash: hash of the harvest's features.

    Raises:
        ConfigError: there is no such feature, or the run is of other transcoders.
        ArtifactError: the run has no results.
    """
    chosen = {(layer, feature) for layer, feature in config.features}
    for layer, feature in sorted(chosen):
        if not 0 <= feature < n_features.get(layer, 0):
            raise ConfigError(
                "harvest.coactivation.features", found=f"[{layer}, {feature}]",
                expected=f"features of layers {', '.join(map(str, n_features))}", to_do="Mend the list.",
            )  # fmt: skip
    if config.run is not None:
        path = Path(config.run).expanduser()
        with connect(path / DATABASE_NAME if path.is_dir() else path) as connection:
            found = ask(connection, "SELECT transcoders_hash FROM runs")["transcoders_hash"].item()
            if found != transcoders_hash:
                raise ConfigError(
                    "harvest.coactivation.run", found=f"transcoders {found}", expected=transcoders_hash,
                    to_do="Name a run of the transcoders that are harvested.",
                )  # fmt: skip
            rows = ask(
                connection,
                "SELECT layer, feature FROM features WHERE support >= ? ORDER BY support DESC, layer, feature",
                [config.min_graphs],
            ).rows()
        there = [pair for pair in rows if pair[0] in n_features and pair not in chosen]
        chosen |= set(there[: config.max_features - len(chosen)])
    return sorted(chosen)
