"""Where a run lies: a folder of this machine or a prefix of an object store, each with one lock."""
