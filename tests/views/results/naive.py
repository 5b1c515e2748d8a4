"""The tiny run's rows as plain Python, from which tests count by hand what `Results` says."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.tables.tiny_graph import tiny_graph
from tests.tables.tiny_prompts import TinyPrompt, draw_prompts
from tests.tables.tiny_run import PROMPTS_PER_SHARD

N_SHARDS = 3
HEAD_SHARE = 0.02
Feature = tuple[int, int]


@dataclass(frozen=True)
class Naive:
    """Every graph of the tiny run by its id."""

    prompts: list[TinyPrompt]

    @cached_property
    def graphs(self) -> dict[str, Any]:
        """Rows by graph."""
        return {prompt.graph_id: tiny_graph(prompt) for prompt in self.prompts}

    def of_task(self, task: str | None) -> list[str]:
        """Ids of the graphs of a task, or all."""
        return [prompt.graph_id for prompt in self.prompts if task in (None, prompt.task)]

    def features(self, graph_id: str) -> dict[str, set[Feature]]:
        """The features of each component in a graph: kept ones of an MLP, those that a head reads from most."""
        graph = self.graphs[graph_id]
        nodes = {node["node_idx"]: node for node in graph.nodes}
        found: dict[str, set[Feature]] = defaultdict(set)
        for node in graph.nodes:
            if node["kind"] == "feature":
                found[f"MLP{node['layer']}"].add((node["layer"], node["feature"]))
        for part in graph.head_loadings:
            source = nodes[part["source_idx"]]
            if part["kind"] == "head" and part["rank"] == 0 and source["kind"] == "feature":
                found[f"L{part['layer']}H{part['head']}"].add((source["layer"], source["feature"]))
        return found

    def components(self, graph_id: str) -> set[str]:
        """The components that count as part of a graph."""
        graph = self.graphs[graph_id]
        scores = {(edge["target_idx"], edge["source_idx"]): edge["edge_score"] for edge in graph.edges}
        sums: dict[tuple[int, int], float] = defaultdict(float)
        for part in graph.head_loadings:
            sums[part["target_idx"], part["source_idx"]] += abs(part["weight"])
        carried: dict[str, float] = defaultdict(float)
        for part in graph.head_loadings:
            edge = part["target_idx"], part["source_idx"]
            if part["kind"] == "head" and sums[edge]:
                carried[f"L{part['layer']}H{part['head']}"] += abs(part["weight"]) / sums[edge] * scores[edge]
        total = sum(scores.values())
        heads = {name for name, amount in carried.items() if amount >= HEAD_SHARE * total}
        return heads | {name for name in self.features(graph_id) if name.startswith("MLP")}


def naive_run() -> Naive:
    """The prompts of `tests.tables.tiny_run.build_tiny_run`."""
    return Naive(draw_prompts(N_SHARDS * PROMPTS_PER_SHARD))
