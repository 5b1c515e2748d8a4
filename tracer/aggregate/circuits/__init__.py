"""Recurring circuits: consensus graphs, clusters of graphs and features, supernodes, motifs."""
