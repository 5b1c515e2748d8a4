"""The tables that a worker would write for some tiny prompts: consistent with one another, by plain Python."""

import hashlib
import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from tests.tables.tiny_graph import tiny_graph
from tests.tables.tiny_prompts import N_LAYERS, STATES, VOCABULARY, TinyPrompt
from tracer.storage.store import open_store
from tracer.tables.parts import Part, write_part
from tracer.tables.schema import SHARD_TABLES, TABLES

Rows = list[dict[str, Any]]
WINDOW = 3


def shard_tables(
    prompts: list[TinyPrompt], shard_id: str, *, attempt: int = 0, n_examples: int = 25
) -> dict[str, pa.Table]:
    """One Arrow table per name in `SHARD_TABLES`."""
    rows: dict[str, Rows] = {table.name: [] for table in SHARD_TABLES}
    for prompt in prompts:
        rows["prompts"].append(_prompt_row(prompt, shard_id))
        graph = tiny_graph(prompt)
        rows["graphs"].append(
            graph.row | {"seconds": 0.1 * attempt, "device": "cpu", "host": "here", "attempt": attempt}
        )
        rows["logits"] += graph.logits
        rows["nodes"] += graph.nodes
        rows["edges"] += graph.edges
        rows["head_loadings"] += graph.head_loadings
        rows["qk_edges"] += graph.qk_edges
    rows["feature_counts"] = _feature_counts(prompts)
    rows["token_counts"] = _token_counts(prompts)
    rows["feature_tokens"] = _feature_tokens(prompts)
    rows["feature_activation_hist"] = _hist(prompts)
    rows["examples"] = _examples(prompts, n_examples)
    return {name: pa.Table.from_pylist(found, schema=TABLES[name].arrow_schema()) for name, found in rows.items()}


def write_shard(root: Path, prompts: list[TinyPrompt], shard_id: str, *, attempt: int = 0) -> dict[str, Part]:
    """Write the parts of one shard."""
    tables = shard_tables(prompts, shard_id, attempt=attempt)
    return {
        name: write_part(open_store(root), TABLES[name], rows, shard_id=shard_id, attempt=attempt)
        for name, rows in tables.items()
    }


def tiny_feature_logits(features: list[tuple[int, int]]) -> pa.Table:
    """State features promote the state and its capital far above the rest; all others promote nothing in particular."""
    rows = []
    for layer, feature in features:
        rng = Random(f"{layer}:{feature}")
        names = list(STATES)
        favourites = [f" {names[feature]}", f" {STATES[names[feature]][0]}"] if feature < len(names) else []
        others = [token for token in VOCABULARY[1:] if token not in favourites]
        logits = {token: 3.0 - 0.3 * place for place, token in enumerate(favourites)}
        logits |= {token: rng.uniform(0.6, 0.8) * (1 if place % 6 else -1) for place, token in enumerate(others)}
        order = sorted(logits, key=lambda token: -logits[token])
        top, bottom = order[:20], order[:-21:-1]
        rows.append({
            "layer": layer,
            "feature": feature,
            "decoder_norm": 1 + rng.random(),
            "top_tokens": top,
            "top_token_logits": [logits[token] for token in top],
            "bottom_tokens": bottom,
            "bottom_token_logits": [logits[token] for token in bottom],
        })
    return pa.Table.from_pylist(rows, schema=TABLES["feature_logits"].arrow_schema())


def _prompt_row(prompt: TinyPrompt, shard_id: str) -> dict[str, Any]:
    rng = Random(prompt.prompt_id)
    prob = rng.uniform(0.4, 0.99)
    return {
        "prompt_id": prompt.prompt_id,
        "shard_id": shard_id,
        "text": "".join(prompt.tokens[1:]).strip(),
        "token_ids": prompt.token_ids,
        "tokens": list(prompt.tokens),
        "n_tokens": len(prompt.tokens),
        "task": prompt.task,
        "split": "held_out" if rng.random() < 0.3 else "seen",
        "pair_id": prompt.pair_id,
        "answer": prompt.answer,
        "counterfactual_answer": prompt.counterfactual_answer,
        "answer_token_id": VOCABULARY.index(prompt.answer),
        "answer_rank": 0 if prob > 0.5 else 1,
        "answer_prob": prob,
        "answer_loss": -math.log(prob),
        "is_correct": prob > 0.5,
        "metadata": json.dumps(prompt.metadata),
    }


def _by_feature(prompts: list[TinyPrompt]) -> dict[tuple[int, int], list[tuple[TinyPrompt, int, float]]]:
    firings = defaultdict(list)
    for prompt in prompts:
        for (layer, pos, feature), activation in sorted(prompt.activations.items()):
            firings[layer, feature].append((prompt, pos, activation))
    return dict(sorted(firings.items()))


def _feature_counts(prompts: list[TinyPrompt]) -> Rows:
    return [
        {
            "layer": layer,
            "feature": feature,
            "n_firings": len(firings),
            "n_prompts": len({prompt.prompt_id for prompt, _, _ in firings}),
            "activation_sum": sum(activation for _, _, activation in firings),
            "activation_square_sum": sum(activation**2 for _, _, activation in firings),
            "activation_max": max(activation for _, _, activation in firings),
        }
        for (layer, feature), firings in _by_feature(prompts).items()
    ]


def _token_counts(prompts: list[TinyPrompt]) -> Rows:
    counts = {name: Counter[str]() for name in ("n_at", "n_before", "n_context")}
    for prompt in prompts:
        for pos in range(1, len(prompt.tokens)):
            counts["n_at"][prompt.tokens[pos]] += 1
            counts["n_before"][prompt.tokens[pos - 1]] += 1
            counts["n_context"].update(set(prompt.tokens[:pos]))
    return [_token(token) | {name: count[token] for name, count in counts.items()} for token in _seen(counts)]


def _feature_tokens(prompts: list[TinyPrompt]) -> Rows:
    rows: Rows = []
    for (layer, feature), firings in _by_feature(prompts).items():
        counts = {name: Counter[str]() for name in ("n_at", "n_before", "n_after", "n_context")}
        for prompt, pos, _ in firings:
            counts["n_at"][prompt.tokens[pos]] += 1
            counts["n_before"][prompt.tokens[pos - 1]] += 1
            counts["n_after"].update(prompt.tokens[pos + 1 : pos + 2])
            counts["n_context"].update(set(prompt.tokens[:pos]))
        place = {"layer": layer, "feature": feature}
        rows += [
            place | _token(token) | {name: count[token] for name, count in counts.items()} for token in _seen(counts)
        ]
    return rows


def _seen(counts: dict[str, Counter[str]]) -> list[str]:
    return sorted({token for count in counts.values() for token in count}, key=VOCABULARY.index)


def _token(token: str) -> dict[str, Any]:
    return {"token_id": VOCABULARY.index(token), "token": token}


def _hist(prompts: list[TinyPrompt]) -> Rows:
    bins: Counter[tuple[int, int, int]] = Counter()
    for (layer, feature), firings in _by_feature(prompts).items():
        bins.update((layer, feature, math.floor(4 * math.log2(activation))) for _, _, activation in firings)
    return [
        {"layer": layer, "feature": feature, "is_negative": False, "bin": bin_idx, "n": n}
        for (layer, feature, bin_idx), n in sorted(bins.items())
    ]


def _examples(prompts: list[TinyPrompt], n_examples: int) -> Rows:
    rows: Rows = []
    for (layer, feature), firings in _by_feature(prompts).items():
        best: dict[str, tuple[TinyPrompt, int, float]] = {}
        for prompt, pos, activation in firings:
            if prompt.prompt_id not in best or activation > best[prompt.prompt_id][2]:
                best[prompt.prompt_id] = (prompt, pos, activation)
        order = sorted(best.values(), key=lambda firing: (-firing[2], firing[0].prompt_id))
        rows += [_example(layer, feature, rank, *firing) for rank, firing in enumerate(order[:n_examples])]
    return rows


def _example(layer: int, feature: int, rank: int, prompt: TinyPrompt, pos: int, activation: float) -> dict[str, Any]:
    start, stop = max(pos - WINDOW, 0), pos + WINDOW + 1
    window = prompt.tokens[start:stop]
    before, after = "".join(prompt.tokens[max(pos - 5, 0) : pos]), "".join(prompt.tokens[pos + 1 : pos + 2])
    digest = hashlib.sha256(prompt.prompt_id.encode()).digest()
    assert layer < N_LAYERS
    return {
        "layer": layer,
        "feature": feature,
        "rank": rank,
        "prompt_id": prompt.prompt_id,
        "pos": pos,
        "token": prompt.tokens[pos],
        "activation": activation,
        "context": f"{before}<<{prompt.tokens[pos]}>>{after}",
        "window_start": start,
        "window_tokens": list(window),
        "window_activations": [prompt.activations.get((layer, start + i, feature), 0.0) for i in range(len(window))],
        "split": "score" if digest[0] % 3 == 0 else "explain",
    }
