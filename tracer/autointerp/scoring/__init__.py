"""Scores: how well a label foretells what its feature does, on texts that nobody was shown who wrote it."""
