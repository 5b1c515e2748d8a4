"""Labels: what a feature is, in a few words, with the evidence that was used and who said so."""
