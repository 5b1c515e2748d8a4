"""The run: a folder, a ledger of shards, workers inline or on Ray, and the stages in their order."""
