"""A pruned attribution graph of a tiny prompt: edges run from earlier layers and positions to later ones."""

from dataclasses import dataclass
from random import Random
from typing import Any

from tests.tables.tiny_prompts import N_LAYERS, VOCABULARY, TinyPrompt

Rows = list[dict[str, Any]]
SIGNS = (1, 1, 1, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyGraph:
    """Rows of `graphs` (but for time and machine) and of the tables that hang on it."""

    row: dict[str, Any]
    logits: Rows
    nodes: Rows
    edges: Rows
    head_loadings: Rows
    qk_edges: Rows


def tiny_graph(prompt: TinyPrompt) -> TinyGraph:
    """The same graph for the same prompt, always."""
    rng = Random(f"graph {prompt.prompt_id}")
    logits = _logits(prompt, rng)
    nodes = _nodes(prompt, logits, rng)
    edges = _edges(nodes, rng)
    kinds = [node["kind"] for node in nodes]
    row = {
        "graph_id": prompt.graph_id,
        "prompt_id": prompt.prompt_id,
        "n_tokens": len(prompt.tokens),
        "n_active_features": len(prompt.activations),
        "n_rows_computed": len(prompt.activations),
        "n_feature_nodes": kinds.count("feature"),
        "n_error_nodes": kinds.count("error"),
        "n_nodes": len(nodes),
        "n_edges": len(edges),
        "replacement_score": rng.uniform(0.7, 0.9),
        "completeness_score": rng.uniform(0.9, 0.96),
        "uncovered_influence": 0.0,
        "n_near_cut": 0,
    }
    loadings, scores = _head_loadings(edges, rng), _qk_edges(prompt, rng)
    return TinyGraph(row=row, logits=logits, nodes=nodes, edges=edges, head_loadings=loadings, qk_edges=scores)


def _logits(prompt: TinyPrompt, rng: Random) -> Rows:
    probability = rng.uniform(0.6, 0.9)
    answers = ((prompt.answer, probability), (prompt.counterfactual_answer, 0.95 - probability))
    return [
        {
            "graph_id": prompt.graph_id,
            "target_idx": target_idx,
            "token_id": VOCABULARY.index(token),
            "token": token,
            "pos": len(prompt.tokens) - 1,
            "probability": chance,
            "logit": 8 + 4 * chance,
        }
        for target_idx, (token, chance) in enumerate(answers)
    ]


def _nodes(prompt: TinyPrompt, logits: Rows, rng: Random) -> Rows:
    last = len(prompt.tokens) - 1
    kept: Rows = []
    for (layer, pos, feature), activation in sorted(prompt.activations.items()):
        if feature < 10 or rng.random() < 0.7:
            kept.append({"kind": "feature", "layer": layer, "pos": pos, "feature": feature, "activation": activation})
    kept += [{"kind": "error", "layer": layer, "pos": last} for layer in range(N_LAYERS)]
    kept += [{"kind": "token", "pos": pos} for pos in range(len(prompt.tokens))]
    for node in kept:
        node["influence"] = rng.uniform(0.5, 1) if node.get("feature", 99) < 10 else rng.uniform(0.01, 0.3)
        node["token"], node["token_id"] = prompt.tokens[node["pos"]], prompt.token_ids[node["pos"]]
    total, reached = sum(node["influence"] for node in kept), 0.0
    for node in sorted(kept, key=lambda node: -node["influence"]):
        node["influence"] /= total
        reached += node["influence"]
        node["cumulative_influence"] = reached
    kept += [
        {"kind": "logit", "pos": logit["pos"], "token": logit["token"], "token_id": logit["token_id"]}
        | {"influence": logit["probability"], "cumulative_influence": 0.0}
        for logit in logits
    ]
    return [node | {"graph_id": prompt.graph_id, "node_idx": node_idx} for node_idx, node in enumerate(kept)]


def _depth(node: dict[str, Any]) -> int:
    return {"token": -1, "logit": N_LAYERS}.get(node["kind"], node.get("layer", 0))


def _edges(nodes: Rows, rng: Random) -> Rows:
    edges: Rows = []
    for target in (node for node in nodes if node["kind"] in ("feature", "logit")):
        sources = [node for node in nodes if _depth(node) < _depth(target) and node["pos"] <= target["pos"]]
        kept = [source for source in sources if source.get("feature", 99) < 10 or rng.random() < 0.4]
        weights = [rng.choice(SIGNS) * rng.uniform(0.05, 2) * (3 if "feature" in source else 1) for source in kept]
        total = sum(map(abs, weights))
        edges += [
            {
                "graph_id": target["graph_id"],
                "target_idx": target["node_idx"],
                "source_idx": source["node_idx"],
                "weight": weight,
                "normalised_weight": abs(weight) / total,
                "edge_score": abs(weight) / total * target["influence"],
            }
            for source, weight in zip(kept, weights, strict=True)
        ]
    return edges


def _head_loadings(edges: Rows, rng: Random) -> Rows:
    """Every edge in two parts: what a head carries, and the residual stream."""
    rows: Rows = []
    for edge in edges:
        share, place = rng.uniform(0.5, 0.9), {name: edge[name] for name in ("graph_id", "target_idx", "source_idx")}
        head = {"kind": "head", "layer": rng.randrange(N_LAYERS), "head": rng.randrange(2)}
        for rank, (part, held) in enumerate(((head, share), ({"kind": "residual"}, 1 - share))):
            rows.append(place | part | {"rank": rank, "weight": held * edge["weight"]})
    return rows


def _qk_edges(prompt: TinyPrompt, rng: Random) -> Rows:
    """One score, and one source of each side."""
    last = len(prompt.tokens) - 1
    place = {"graph_id": prompt.graph_id, "layer": 0, "head": 1, "query_pos": last, "key_pos": 1, "rank": 0}
    query, key = {"query_kind": "bias"}, {"key_kind": "token", "key_source_pos": 1}
    score = {"score": rng.uniform(1, 2), "pattern": rng.random()}
    sides = {"query": query, "key": key, "pair": query | key}
    return [place | score | sources | {"side": side, "weight": rng.random()} for side, sources in sides.items()]
