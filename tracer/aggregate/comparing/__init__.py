"""Comparisons of two sets of graphs: differences with intervals, multiplicity and a permutation null."""
