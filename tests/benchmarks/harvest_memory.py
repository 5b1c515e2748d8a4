"""One harvest of the embedded model over a made corpus: `python -m tests.benchmarks.harvest_memory N_TOKENS SENTENCES`.

Documents are `SENTENCES` sentences of the toy atlas each, drawn anew for every document. Told are resident memory at
its highest while shards are worked on, above what the loaded model takes, the same while they are merged, and the size
of `feature_tokens`.
"""

import io
import json
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.benchmarks.measuring import measured
from tracer.config.harvest import HarvestConfig
from tracer.corpus.tasks import generate
from tracer.model.tokenizer import load_tokenizer
from tracer.run import harvesting

FILES = "package:tracer.model.demo/files"


def main(n_tokens: int, n_sentences: int) -> None:
    """Make the corpus, harvest it, and tell."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "corpus.jsonl"
        _write(source, n_tokens, n_sentences)
        config = HarvestConfig.model_validate({
            "model": {"checkpoint": f"{FILES}/language_model", "transcoders": f"{FILES}/per_layer"},
            "corpus": {"source": str(source)},
            "harvest": {"windows": {"window_tokens": 64, "limit": None}},
            "runner": {"shard_size": 512},
        })  # fmt: skip
        console = Console(file=io.StringIO())
        with harvesting.held_harvest(config, Path(place) / "harvest", inline=True, console=console) as session:
            session.workers.weights_table("feature_logits")  # the model is loaded before anything is measured
            shards = measured(session.trace, "cpu", trace=True)
            merge = measured(session.aggregate, "cpu")
            database = session.result().database
        trace = shards.trace_bytes
        quarters = [max(trace[len(trace) * part // 4 : len(trace) * (part + 1) // 4]) >> 20 for part in range(4)]
        parts = [path.stat().st_size for path in (Path(place) / "harvest" / "parts").glob("feature_token_sums-*")]
        print(json.dumps({
            "n_tokens": n_tokens,
            "shards_seconds": round(shards.seconds, 1),
            "shards_peak_mb": shards.peak_bytes >> 20,
            "shards_peak_mb_by_quarter": quarters,
            "merge_seconds": round(merge.seconds, 1),
            "merge_peak_mb": merge.peak_bytes >> 20,
            "feature_tokens_parts_mb": round(sum(parts) / 2**20, 1),
            "results_mb": round(database.stat().st_size / 2**20, 1),
            "others_share": round(shards.others_share, 2),
        }))  # fmt: skip


def _write(source: Path, n_tokens: int, n_sentences: int) -> None:
    tokenizer = load_tokenizer(f"{FILES}/language_model")
    options = {"n_prompts": 8192, "split": "both", "seed": 5}
    sentences = [row["text"] for row in generate("atlas", tokenizer, options)]
    lengths = [len(tokenizer.encode(sentence, add_special_tokens=False)) + 1 for sentence in sentences]
    draws, n_written = random.Random(0), 0
    with source.open("w", encoding="utf-8") as file:
        while n_written < n_tokens:
            chosen = draws.choices(range(len(sentences)), k=n_sentences)
            n_written += sum(lengths[place] for place in chosen)
            file.write(json.dumps({"text": " . ".join(sentences[place] for place in chosen)}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
