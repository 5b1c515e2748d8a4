"""Feature edits in, logits, activations and generations out: they prove the edges and the circuits."""
