"""How many rows a coverage takes, in all and of each layer: what is known before any row is computed.

Only how fast and large a graph is made depends on it, never what it holds.
"""

ROWS_SHARES = {0.9: 0.32, 0.95: 0.42, 0.99: 0.58, 0.999: 0.72, 1.0: 1.0}
"""Share of the features whose rows are computed at a coverage; from `tests/benchmarks/bound.py`, mean of its models."""


def rows_share(coverage: float) -> float:
    """Share of the rows at a coverage, between those measured by straight lines."""
    known = sorted(ROWS_SHARES.items())
    if coverage <= known[0][0]:
        return known[0][1] * coverage / known[0][0]
    for (low, low_share), (high, high_share) in zip(known, known[1:], strict=False):
        if coverage <= high:
            return low_share + (high_share - low_share) * (coverage - low) / (high - low)
    return 1.0


def layer_shares(share: float, n_layers: int) -> list[float]:
    """Share of each layer's rows where `share` of all rows are chosen from the targets down.

    Nearly all of the lowest layer's and hardly any of the highest's: low rows cost least, and what higher layers do not
    leave out, lower ones may. Measured: .90 .77 .70 .57 .44 .27 .13 .02 at eight layers and .46 in all.
    """
    if share >= 1.0:
        return [1.0] * n_layers
    shares = [2 * share * (n_layers - layer - 0.5) / n_layers for layer in range(n_layers)]
    # What does not fit below is needed above.
    for layer, found in enumerate(shares):
        left = max(0.0, found - 1.0)
        shares[layer] = found - left
        if layer + 1 < n_layers:
            shares[layer + 1] += left
    return shares
