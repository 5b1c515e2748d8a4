"""Frequencies of features, components, edges and errors, over the run and by metadata, from the counts of the state."""
