"""Small datasets under published names: Parquet files where the hub has them, and what names their configurations."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.recipes.tokenizer_files import SENTENCES


def write_fineweb(folder: Path) -> None:
    """HuggingFaceFW/fineweb: configurations in the card, the samples in folders of their own."""
    configs = [("default", "data/*/*"), ("sample-10BT", "sample/10BT/*")]
    card = ["---", "configs:"]
    for name, pattern in configs:
        card += [f"- config_name: {name}", "  data_files:", "  - split: train", f"    path: {pattern}"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    rows = [
        {
            "text": text, "id": f"<urn:uuid:{idx}>", "dump": "CC-MAIN-2013-20", "url": f"http://example.org/{idx}",
            "date": "2013-05-18T08:08:48Z", "file_path": "s3://commoncrawl/crawl-data/0.warc.gz", "language": "en",
            "language_score": 0.97, "token_count": 12,
        }
        for idx, text in enumerate(SENTENCES)
    ]  # fmt: skip
    _write_parquet(rows, folder / "sample" / "10BT" / "000_00000.parquet")
    _write_parquet(rows[:1], folder / "data" / "CC-MAIN-2013-20" / "000_00000.parquet")


def write_pile(folder: Path) -> None:
    """NeelNanda/pile-10k: one file, its columns in dataset_infos.json."""
    rows = [
        {"text": text, "meta": {"pile_set_name": "Pile-CC" if idx % 2 else "Github"}}
        for idx, text in enumerate(SENTENCES)
    ]
    _write_parquet(rows, folder / "data" / "train-00000-of-00001-4746b8785c874cc7.parquet")
    text = {"dtype": "string", "id": None, "_type": "Value"}
    splits = {"train": {"name": "train", "num_examples": len(rows), "dataset_name": "pile-10k"}}
    infos = {"features": {"text": text, "meta": {"pile_set_name": text}}, "splits": splits}
    (folder / "dataset_infos.json").write_text(json.dumps({"NeelNanda--pile-10k": infos}))


def write_stories(folder: Path) -> None:
    """roneneldan/TinyStories: splits by the names of files, older text files beside them."""
    names = ("train-00000-of-00004-2d5a1467fff1081b", "validation-00000-of-00001-869c898b519ad725")
    for name in names:
        _write_parquet([{"text": text} for text in SENTENCES], folder / "data" / f"{name}.parquet")
    (folder / "TinyStories-train.txt").write_text("\n".join(SENTENCES))


def _write_parquet(rows: list[dict], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
