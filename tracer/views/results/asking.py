"""What the questions share: values of metadata, names of components, and which graph holds what of a component."""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from tracer.config import AggregateConfig
from tracer.errors import DataError
from tracer.tables.database import Connection, ask
from tracer.tables.quoting import quoted

COMPONENT = re.compile(r"MLP(?P<mlp>\d+)|L(?P<layer>\d+)H(?P<head>\d+)")
N_NAMED = 12
"""Most names that a message lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentName:
    """A component by its name; `head` is None for an MLP."""

    name: str
    layer: int
    head: int | None

    @property
    def features(self) -> str:
        """SQL: the features of this component in each graph, distinct (graph_id, layer, feature).

        Those of an MLP are its kept features, those of a head the features from which it carries the largest part of
        an edge.
        """
        if self.head is None:
            return (
                f"SELECT DISTINCT graph_id, layer, feature FROM nodes WHERE kind = 'feature' AND layer = {self.layer}"
            )
        return f"""
            SELECT DISTINCT graph_id, nodes.layer, nodes.feature
            FROM head_loadings AS parts JOIN nodes USING (graph_id)
            WHERE parts.kind = 'head' AND parts.layer = {self.layer} AND parts.head = {self.head}
                AND parts.rank = 0 AND parts.weight <> 0
                AND nodes.node_idx = parts.source_idx AND nodes.kind = 'feature'
        """


def parse_component(connection: Connection, name: str) -> ComponentName:
    """A component by its name, if the run knows it.

    Args:
        connection: to a results file.
        name: such as MLP0 or L9H9.

    Raises:
        DataError: there is no such component in the run.
    """
    known = component_names(connection)
    match = COMPONENT.fullmatch(name) if isinstance(name, str) else None
    if match is None or name not in known:
        to_do = (
            "Attention heads are known where `attribution.head_loadings` was set." if match and match["head"] else ""
        )
        raise DataError(
            f"component {name!r}", found="no such component in this run", expected=listed(known),
            to_do=to_do or "The table `components` has all of them.",
        )  # fmt: skip
    if match["mlp"] is not None:
        return ComponentName(name=name, layer=int(match["mlp"]), head=None)
    return ComponentName(name=name, layer=int(match["layer"]), head=int(match["head"]))


def several(components: Sequence[str]) -> Sequence[str]:
    """Names of components, if they are several and not the letters of one.

    Raises:
        DataError: a single text.
    """
    if isinstance(components, str):
        to_do = f"Write [{components!r}]."
        raise DataError("components", found=repr(components), expected="a list of names", to_do=to_do)
    return components


def component_names(connection: Connection) -> list[str]:
    """All components of the run: MLPs by layer, then heads by layer."""
    return ask(connection, "SELECT component FROM components ORDER BY kind = 'head', layer, head")[
        "component"
    ].to_list()


def check_value(connection: Connection, by_column: str, by_value: str) -> None:
    """Refuse a value of metadata that nothing was counted for.

    Args:
        connection: to a results file.
        by_column: column of `prompts`.
        by_value: its value, as text.

    Raises:
        DataError: no graphs were counted under it.
    """
    if not ask(connection, "SELECT n_graphs FROM runs")["n_graphs"][0]:
        to_do = "`tracer status RUN` and the table `failures` say why."
        raise DataError(f"{by_column} {by_value!r}", found="a run without graphs", expected="graphs", to_do=to_do)
    counted = ask(connection, "SELECT DISTINCT by_column, by_value FROM component_frequency ORDER BY ALL")
    columns = counted["by_column"].unique(maintain_order=True).to_list()
    if by_column not in columns:
        raise DataError(
            f"column {by_column!r}", found="nothing counted by it", expected=listed(columns),
            to_do="Name it in `aggregate.by` and count anew: `tracer aggregate RUN --config FILE`.",
        )  # fmt: skip
    values = counted.filter(pl.col("by_column") == by_column)["by_value"].to_list()
    if by_value not in values:
        raise DataError(
            f"{by_column} {by_value!r}", found="no graph of it", expected=listed(values),
            to_do=f"`SELECT DISTINCT {by_column} FROM prompts` lists them.",
        )  # fmt: skip


def graphs_of(connection: Connection, by_column: str, by_value: str | None) -> str:
    """SQL: the graphs of a value, or all; `by_value` goes in as the parameter of that name.

    Args:
        connection: to a results file.
        by_column: column of `prompts`.
        by_value: its value, as text; None for all graphs.

    Raises:
        DataError: as `check_value`.
    """
    if by_value is None:
        return "SELECT graph_id, prompt_id FROM graphs WHERE $by_value IS NULL"
    check_value(connection, by_column, by_value)
    return f"""
        SELECT graph_id, prompt_id FROM graphs JOIN prompts USING (prompt_id)
        WHERE CAST(prompts.{quoted(by_column)} AS VARCHAR) = $by_value
    """


def aggregate_settings(connection: Connection) -> AggregateConfig:
    """The settings that the tables were counted under, defaults where the run does not say."""
    config = ask(connection, "SELECT config FROM runs")["config"][0]
    known = AggregateConfig.model_fields
    given = json.loads(config or "{}").get("aggregate") or {}
    return AggregateConfig(**{name: value for name, value in given.items() if name in known})


def listed(names: Collection[str]) -> str:
    """Some names in a message."""
    if not names:
        return "none, since the run has none"
    shown = ", ".join(list(names)[:N_NAMED])
    return f"one of: {shown}" + (f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else "")
