"""Results in Python: `tracer.open(run)` gives frames for the questions that users of circuits ask."""
