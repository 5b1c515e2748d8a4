"""The null of a random direction: what a label is worth beyond that of a direction which nobody trained.

Labels of random directions, and of transcoders of random models, score well too (Heap et al., arXiv 2501.17727). So in
the place of each tested feature stands a Gaussian direction, as long as the feature's encoder vector, which reads what
the feature reads, and writes another one, as long as what the feature adds to the stream. Its encoder bias makes its
mean pre-activation 0. As with JumpReLU its activation is the pre-activation above a threshold and 0 elsewhere; the
threshold is where it is active as often as the feature.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.autointerp.feature_evidence import FeatureKey
from tracer.autointerp.scoring.measures import generator
from tracer.config.harvest import HarvestSettings
from tracer.corpus.windows import Window, batches_of
from tracer.harvest.promoted import write_directions
from tracer.harvest.reading import WindowReader, encoders_of, padded_windows
from tracer.model.replacement import ReplacementModel

N_LEVELS = 1_024
"""Activations are multiples of the standard deviation of pre-activations over this: equal texts are equally active,
whatever stands beside them in a batch, so that every go asks the same.
"""
Vectors = Mapping[FeatureKey, Float[Tensor, " d_model"]]


def read_vectors(model: ReplacementModel, keys: Sequence[FeatureKey], seed: int) -> Vectors:
    """For each feature a random direction as long as its encoder vector, in the space that its encoder reads.

    Args:
        model: the replacement model.
        keys: the features.
        seed: what directions are drawn by, with the feature.
    """
    found = {}
    for layer, feature in keys:
        (row,) = model.transcoders.layers[layer].encoder_rows(torch.tensor([feature], device=model.device))
        found[layer, feature] = random_vector(f"{seed}|reads|{layer}|{feature}", row)
    return found


def write_vectors(model: ReplacementModel, keys: Sequence[FeatureKey], seed: int) -> Vectors:
    """For each feature a random direction as long as what it adds to the stream, over all layers that it writes.

    Args:
        model: the replacement model.
        keys: the features.
        seed: what directions are drawn by, with the feature.
    """
    rows = zip(keys, write_directions(model, keys), strict=True)
    return {key: random_vector(f"{seed}|writes|{key[0]}|{key[1]}", row) for key, row in rows}


def random_vector(name: str, like: Float[Tensor, " width"]) -> Float[Tensor, " width"]:
    """A vector of uniformly distributed direction that comes from a name alone, as long as another one."""
    drawn = torch.from_numpy(generator(name).standard_normal(len(like))).to(like)
    return drawn * (like.norm() / drawn.norm())


@torch.no_grad()
def pre_activations(
    model: ReplacementModel, vectors: Vectors, windows: Sequence[Window], settings: HarvestSettings
) -> tuple[Int[Tensor, "position 2"], Float[Tensor, "direction position"]]:
    """What directions hold, without a bias, at all positions that would count in a harvest: the (window, position) of
    each, and dot products. A batch of windows is run once for all directions, up to the last layer that one of them
    reads.

    Args:
        model: the replacement model.
        vectors: by feature, the direction that stands in its place; in the order of keys.
        windows: the texts.
        settings: which positions are left out, and how many are run at once.
    """
    encoders = encoders_of(model, [layer for layer, _ in vectors])
    reader = WindowReader(model, encoders, high_norm_ratio=settings.windows.high_norm_ratio)
    places, scores, n_read = [], [], 0
    for batch in batches_of(windows, settings.batch_tokens):
        token_ids = padded_windows(batch, model.device)
        reads = reader.reads(token_ids, reader.ordinary(token_ids, batch))
        counts = reads.is_finite & ~reads.is_high
        values = {encoder.layer: read[counts] for encoder, read in zip(encoders, reads.values, strict=True)}
        # one by one, so that what a direction gives does not depend on how many others there are
        scores.append(torch.stack([values[layer] @ vector for (layer, _), vector in vectors.items()]).cpu())
        places.append(reads.place[counts].cpu() + torch.tensor([n_read, 0]))
        n_read += len(batch)
    return torch.cat(places), torch.cat(scores, dim=1)


def activations_of(
    scores: Float[Tensor, " position"], window: Int[Tensor, " position"], *, frequency: float, n_windows: int
) -> Float[Tensor, " position"]:
    """Activations of one direction.

    It is active at `frequency` of all positions, and at more where the value at the threshold recurs; at more, too,
    where it would be active in fewer than `n_windows` windows (or half of all): a feature's texts are sought in the
    whole corpus and a direction's in a part of it, and a rare one would have none to be explained and tested by. Only
    positive activations count, which makes it at most about half of all positions.

    Args:
        scores: dot products, at least one.
        window: the window of each position, numbered from 0.
        frequency: share of positions.
        n_windows: the fewest windows.
    """
    centred = scores - scores.mean()
    level = centred.square().mean().sqrt() / N_LEVELS
    levels = (centred / level).round().nan_to_num()
    peaks = torch.full((int(window.max()) + 1,), -torch.inf).scatter_reduce(0, window, levels, "amax")
    n_active = max(1, round(frequency * len(scores)))
    n_fewest = min(n_windows, len(peaks) // 2)
    threshold = levels.topk(n_active).values[-1]
    if n_fewest:
        threshold = torch.minimum(threshold, peaks.topk(n_fewest).values[-1])
    return torch.where(levels >= threshold.clamp(min=1), levels, 0) * level
