"""Builds the tables of a harvest from the parts of its shards."""
