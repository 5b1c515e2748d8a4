"""What a run found, in the files of other tools: circuit-tracer's feature files and Neuronpedia's bulk import."""
