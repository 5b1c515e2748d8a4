"""The co-occurrence hypergraph: pairs and sets of features that share graphs, against a length-aware null."""
