"""A whole small run folder with real parts and a real results file, for tests of whatever reads one."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.tables.tiny_prompts import N_LAYERS, TinyPrompt, draw_prompts
from tests.tables.tiny_shard import tiny_feature_logits, write_shard
from tracer.aggregate.build import Site, aggregate
from tracer.config import AggregateConfig, CircuitConfig
from tracer.storage.store import open_store
from tracer.tables.parts import Part, write_part
from tracer.tables.schema import TABLES

METADATA_COLUMNS = {"difficulty": "int", "text": "text", "state": "text", "city": "text"}
PROMPTS_PER_SHARD = 20
TINY_CIRCUITS = CircuitConfig(n_resamples=2, max_clusters=3)
TINY_CONFIG = AggregateConfig(min_support=3, circuits=TINY_CIRCUITS)


def build_tiny_run(root: Path, n_shards: int = 3, seed: int = 0) -> Path:
    """Make parts, aggregates and rule labels under `root`; the path of `results.duckdb`. Takes two seconds."""
    from tracer.autointerp.rules import RuleLabeller
    from tracer.autointerp.run_labels import label_features

    target = aggregate_prompts(root, draw_prompts(n_shards * PROMPTS_PER_SHARD, seed), n_shards)
    label_features(target, RuleLabeller())
    return target


def aggregate_prompts(
    root: Path,
    prompts: list[TinyPrompt],
    n_shards: int,
    *,
    config: AggregateConfig | None = None,
    reverse: bool = False,
) -> Path:
    """Write the prompts in `n_shards` shards, and a failure that reached none, and aggregate them; no labels.

    Args:
        reverse: hand the parts over in the opposite order.
    """
    shards = [prompts[start::n_shards] for start in range(n_shards)]
    written = [write_shard(root, shard, f"shard{number}", attempt=number) for number, shard in enumerate(shards)]
    parts = parts_by_table(written[::-1] if reverse else written)
    parts["failures"].append(_corpus_failure(root))
    target = root / "results.duckdb"
    aggregate(
        tiny_site(root),
        parts,
        config=config or TINY_CONFIG,
        metadata_columns=METADATA_COLUMNS,
        run_row=tiny_run_row(root, len(prompts)),
        feature_logits=tiny_feature_logits,
    )
    return target


def tiny_site(root: Path) -> Site:
    """A build in the run folder itself, from nothing."""
    return Site(root=root, target=root / "results.duckdb", state=root / "aggregates" / "state.duckdb")


def parts_by_table(shards: Iterable[dict[str, Part]]) -> dict[str, list[Part]]:
    """The parts of some shards by table name."""
    parts = defaultdict(list)
    for shard in shards:
        for name, part in shard.items():
            parts[name].append(part)
    return parts


def tiny_run_row(root: Path, n_prompts: int) -> dict[str, Any]:
    """What the driver knows of the run."""
    return {
        "run_id": root.name,
        "config_fingerprint": "c0ffee",
        "corpus_fingerprint": "beef",
        "config": json.dumps({"model": {"checkpoint": "tiny"}}),
        "model": "tiny",
        "model_hash": "aa",
        "transcoders": "tiny-transcoders",
        "neuronpedia": "tiny/mlp-set",
        "transcoders_hash": "bb",
        "corpus": "tasks:tiny",
        "n_layers": N_LAYERS,
        "n_prompts": n_prompts,
        "tracer_version": "0.0.0",
        "versions": json.dumps({"python": "3.11"}),
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "seconds": 12.5,
    }


def _corpus_failure(root: Path) -> Part:
    row = {
        "stage": "corpus",
        "item_id": "too-long",
        "error_class": "DataError",
        "message": "prompt 7: found 90 tokens; expected at most 64. Set truncate.",
        "text": "the the the",
        "attempts": 1,
    }
    table = TABLES["failures"]
    return write_part(
        open_store(root), table, pa.Table.from_pylist([row], schema=table.arrow_schema()), shard_id="corpus", attempt=0
    )
