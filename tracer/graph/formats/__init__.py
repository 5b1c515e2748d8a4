"""Graphs in files: tracer's own, circuit-tracer's, and the JSON that its viewer and Neuronpedia show."""
