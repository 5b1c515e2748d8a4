"""Aggregation: the parts of every shard become the tables of one results file, one file per question."""
