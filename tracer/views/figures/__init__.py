"""Figures: each takes a frame of `tracer.views.results` and gives a matplotlib Figure."""
