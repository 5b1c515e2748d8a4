"""Tables: declared once, written as Parquet parts by shard, read back as one DuckDB file."""
