"""Checkpoints and transcoder files in, a `ReplacementModel` out."""
