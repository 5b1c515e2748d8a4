"""What features fire on: counts, histograms and top windows over all activations, before any pruning."""
