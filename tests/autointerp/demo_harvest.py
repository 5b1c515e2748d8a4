"""A small harvest of the shipped model over atlas sentences, made here in one pass, in the declared tables."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracer.config.harvest import HarvestConfig
from tracer.corpus.prompt_files import writing
from tracer.corpus.prompts import FIELDS_IN_ID, Prompt
from tracer.corpus.tasks.atlas_rows import AtlasOptions, atlas_rows
from tracer.harvest.examples import example_split
from tracer.harvest.promoted import promoted_tokens
from tracer.model.replacement import ReplacementModel
from tracer.tables.building import build_database, create_table, insert_rows
from tracer.tables.harvest_tables import HARVEST_TABLES
from tracer.tables.schema import SCHEMA_VERSION

N_TOP, N_QUANTILE, N_RANDOM, N_NEAR = 14, 16, 14, 14
CONFIG = {"model": {"checkpoint": "x", "transcoders": "x"}, "corpus": {"source": "x"}}
Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Document:
    """A sentence without its special token, and what fires where in it: activation by position, by feature."""

    document_id: str
    tokens: tuple[str, ...]
    firing: dict[Key, dict[int, float]]


def atlas_texts(n: int, seed: int, split: str = "both") -> list[str]:
    """Distinct sentences of the atlas."""
    options = AtlasOptions(n_prompts=n, seed=seed, split=split)  # type: ignore[arg-type]
    return [str(row["text"]) for row in atlas_rows(None, options)]  # type: ignore[arg-type]


def read_documents(model: ReplacementModel, texts: list[str]) -> list[Document]:
    """Run the model over sentences."""
    documents = []
    for text in texts:
        tokens = tuple(text.split())
        firing: dict[Key, dict[int, float]] = defaultdict(dict)
        for layer, activations in enumerate(model.get_activations(text)):
            found = (activations.pos.tolist(), activations.feature.tolist(), activations.value.tolist())
            for pos, feature, value in zip(*found, strict=True):
                if pos:  # the special token is no place to fire
                    firing[layer, feature][pos - 1] = value
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        documents.append(Document(digest, tokens, dict(firing)))
    return documents


def write_harvest(model: ReplacementModel, documents: list[Document], folder: Path, transcoders_hash: str) -> Path:
    """Make results.duckdb of a harvest, and its documents beside it; its folder."""
    _write_documents(model, documents, folder)
    rows = {name: [] for name in HARVEST_TABLES}
    counts, totals = _token_counts(documents)
    token_ids = {token: idx for idx, token in enumerate(sorted(totals))}
    rows["harvests"] = [
        {"harvest_id": "h", "transcoders_hash": transcoders_hash, "n_documents": len(documents),
         "n_eligible_tokens": sum(len(document.tokens) for document in documents), "schema_version": SCHEMA_VERSION,
         "config": HarvestConfig.model_validate(CONFIG).model_dump_json()}
    ]  # fmt: skip
    rows["token_counts"] = [
        {"token_id": token_ids[token], "token": token, "n_at": n[0], "n_before": n[1], "n_after": n[2]}
        for token, n in totals.items()
    ]
    rows["feature_tokens"] = [
        {"layer": key[0], "feature": key[1], "token_id": token_ids[token], "token": token, "n_at": n[0],
         "n_before": n[1], "n_after": n[2]}
        for (key, token), n in counts.items()
    ]  # fmt: skip
    by_feature: dict[Key, list[Document]] = defaultdict(list)
    for document in documents:
        for key in document.firing:
            by_feature[key].append(document)
    keys = sorted(by_feature)
    logits = {(one["layer"], one["feature"]): one for one in promoted_tokens(model, keys, 20)}
    n_tokens = sum(len(document.tokens) for document in documents)
    for key in keys:
        values = [value for document in by_feature[key] for value in document.firing[key].values()]
        rows["features"].append({
            "n_firings": len(values), "n_documents": len(by_feature[key]), "activation_max": max(values),
            "activation_frequency": len(values) / n_tokens, "activation_mean": sum(values) / len(values),
            "document_frequency": len(by_feature[key]) / len(documents), "is_dense": len(values) > 0.1 * n_tokens,
        } | logits[key])  # fmt: skip
        rows["examples"] += _examples(key, by_feature[key], documents)
    with build_database(folder / "results.duckdb") as connection:
        for name, table in HARVEST_TABLES.items():
            create_table(connection, table)
            insert_rows(connection, table, pa.Table.from_pylist(rows[name], schema=table.arrow_schema()))
    return folder


def _write_documents(model: ReplacementModel, documents: list[Document], folder: Path) -> None:
    with writing(folder) as writer:
        for document in documents:
            text = " ".join(document.tokens)
            writer.add(
                Prompt(
                    prompt_id=document.document_id, text=text, token_ids=tuple(model.tokenize(text).tolist()),
                    targets=(), metadata={}, **dict.fromkeys(FIELDS_IN_ID),
                )
            )  # fmt: skip


def _token_counts(documents: list[Document]) -> tuple[dict[tuple[Key, str], list[int]], dict[str, list[int]]]:
    counts: dict[tuple[Key, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for document in documents:
        tokens = document.tokens
        for pos in range(len(tokens)):
            for place, other in enumerate((pos, pos - 1, pos + 1)):
                if 0 <= other < len(tokens):
                    totals[tokens[other]][place] += 1
        for key, firing in document.firing.items():
            for pos in firing:
                for place, other in enumerate((pos, pos - 1, pos + 1)):
                    if 0 <= other < len(tokens):
                        counts[key, tokens[other]][place] += 1
    return counts, totals


def _examples(key: Key, active: list[Document], documents: list[Document]) -> list[dict[str, Any]]:
    def order(document: Document) -> str:
        return hashlib.sha256(f"{key}|{document.document_id}".encode()).hexdigest()

    top = sorted(active, key=lambda document: (-max(document.firing[key].values()), document.document_id))
    marked = {document.tokens[max(document.firing[key], key=document.firing[key].get)] for document in top[:5]}
    inactive = sorted((document for document in documents if key not in document.firing), key=order)
    near = [document for document in inactive if marked & set(document.tokens)]
    kinds = {
        "top": top[:N_TOP], "quantile": sorted(active, key=order)[:N_QUANTILE], "random": inactive[:N_RANDOM],
        "near_miss": near[:N_NEAR],
    }  # fmt: skip
    return [
        _example(key, kind, rank, document) for kind, chosen in kinds.items() for rank, document in enumerate(chosen)
    ]


def _example(key: Key, kind: str, rank: int, document: Document) -> dict[str, Any]:
    firing = document.firing.get(key, {})
    pos = max(firing, key=lambda place: firing[place]) if firing else len(document.tokens) - 1
    return {
        "layer": key[0], "feature": key[1], "kind": kind, "rank": rank, "document_id": document.document_id,
        "quantile": 0 if kind == "quantile" else None, "pos": pos + 1, "token": document.tokens[pos],
        "activation": firing.get(pos, 0.0), "window_start": 1, "window_tokens": list(document.tokens),
        "window_activations": [firing.get(place, 0.0) for place in range(len(document.tokens))],
        "split": example_split(document.document_id), "copies": 0, "document_start": 0,
    }  # fmt: skip
