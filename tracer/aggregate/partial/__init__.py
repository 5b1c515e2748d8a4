"""What is counted of one batch of shards, so that batches add up: sums, extremes and the incidence of its graphs."""
