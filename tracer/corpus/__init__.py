"""Prompts: read from a source or made by a task, tokenised once, written once, cut into shards."""
