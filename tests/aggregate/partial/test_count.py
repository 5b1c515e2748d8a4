"""One batch, counted again where the process that counted it was lost."""

from pathlib import Path

import pyarrow.parquet as pq

from tests.tables.tiny_prompts import draw_prompts
from tests.tables.tiny_run import METADATA_COLUMNS, TINY_CONFIG
from tests.tables.tiny_shard import write_shard
from tracer.aggregate.metadata import MetadataColumns
from tracer.aggregate.partial.count import READ, Batch, Counting, count_batch


def test_a_batch_is_counted_again_over_what_was_left_of_it(tmp_path: Path) -> None:
    parts = {name: (part,) for name, part in write_shard(tmp_path, draw_prompts(8), "s0").items() if name in READ}
    counting = Counting(
        root=tmp_path,
        scratch=tmp_path / "scratch",
        columns=MetadataColumns.of(TINY_CONFIG, METADATA_COLUMNS),
        head_share=TINY_CONFIG.head_share,
        memory_limit_bytes=2**28,
        n_threads=1,
    )
    batch = Batch(number=3, parts=parts, first_graph_idx=40)
    left = tmp_path / "scratch" / "batch-3"
    left.mkdir(parents=True)
    (left / "features.parquet").write_text("half a file")
    counted = {name: pq.read_table(file) for name, file in count_batch(counting, batch).items()}
    assert counted["graph_numbers"]["graph_idx"].to_pylist() == list(range(40, 48))
    again = {name: pq.read_table(file) for name, file in count_batch(counting, batch).items()}
    for name, table in counted.items():
        keys = [(column, "ascending") for column in table.column_names if table[column].type != "double"]
        assert table.sort_by(keys).equals(again[name].sort_by(keys)), name
