"""Tables from weights alone: promoted tokens, de-embeddings and neighbours of every feature, against plain products."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.checkpoints import loaded, random_transcoders
from tests.model.readers.sae_lens_writer import random_sae
from tracer.errors import ModelError
from tracer.harvest import promoted
from tracer.harvest.de_embedding import (
    DIRECT,
    EXCITED_SITES,
    embedding,
    excitations,
    feature_excitations,
    heads_before,
)
from tracer.harvest.layer_features import layer_features
from tracer.harvest.neighbours import ACROSS, NEIGHBOUR_SCHEMA, WITHIN, feature_neighbours
from tracer.harvest.promoted import feature_logits, promoted_tokens, write_directions
from tracer.harvest.stable_top import stable_top
from tracer.model.dictionaries import SITE_HOOKS, Site, read_dictionary
from tracer.model.replacement import ReplacementModel

KINDS = ("gpt2", "llama", "gemma2", "neox")


@given(
    arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(0, 12)), elements=st.integers(-2, 2)),
    st.integers(0, 14),
)
def test_the_largest_of_each_row_come_in_the_order_of_columns_where_equal(values: np.ndarray, n: int) -> None:
    top, column = stable_top(torch.from_numpy(values), n)
    for row, found, places in zip(values, top.tolist(), column.tolist(), strict=True):
        expected = sorted(range(len(row)), key=lambda place: (-row[place], place))[:n]
        assert places == expected
        assert found == [row[place] for place in expected]


@pytest.mark.parametrize("n_tile_values", [61, 10**6])
def test_every_feature_has_the_promoted_tokens_that_it_has_alone(
    random_model: ReplacementModel, monkeypatch: pytest.MonkeyPatch, n_tile_values: int
) -> None:
    monkeypatch.setattr(promoted, "N_TILE_VALUES", n_tile_values)
    found = pl.concat(feature_logits(random_model, 5))
    every = [(layer, feature) for layer, n in enumerate(random_model.transcoders.n_features) for feature in range(n)]
    assert found.select("layer", "feature").rows() == every
    for pair, row in zip(every[::17], found.rows(named=True)[::17], strict=True):
        (alone,) = promoted_tokens(random_model, [pair], 5)
        assert row["top_tokens"] == alone["top_tokens"]
        assert row["bottom_tokens"] == alone["bottom_tokens"]
        for name in ("top_token_logits", "bottom_token_logits"):
            assert row[name] == pytest.approx(alone[name], abs=1e-5)
        assert row["decoder_norm"] == pytest.approx(alone["decoder_norm"])


def test_a_feature_that_writes_nothing_promotes_the_first_tokens_by_nothing() -> None:
    model = with_decoders("gpt2", lambda decoder: decoder * (torch.arange(len(decoder)) > 0)[:, None, None])
    row = next(feature_logits(model, 3)).row(0, named=True)
    assert row["top_token_logits"] == row["bottom_token_logits"] == [0.0] * 3
    assert row["top_tokens"] == row["bottom_tokens"] == [model.tokenizer.decode([idx]) for idx in range(3)]


def with_decoders(kind: str, change: Callable[[torch.Tensor], torch.Tensor], n_features: int = 9) -> ReplacementModel:
    """A random model with few features a layer, their decoders changed."""
    _, model = loaded(kind)
    few = random_transcoders(model.n_layers, model.facts.d_model, cross_layer=False, n_features=n_features)
    layers = tuple(replace(layer, W_dec=change(layer.W_dec)) for layer in few.layers)
    return ReplacementModel(model.bridge, model.tokenizer, replace(few, layers=layers), model.facts)


def naive_neighbours(model: ReplacementModel, n: int) -> pl.DataFrame:
    """All cosines at once, sorted in Python."""
    every = [(layer, feature) for layer, n_of in enumerate(model.transcoders.n_features) for feature in range(n_of)]
    directions = write_directions(model, every)
    norms = directions.norm(dim=1)
    rows = []
    for place, (layer, feature) in enumerate(every):
        cosines = (directions @ directions[place]) / norms / norms[place]
        for scope in (WITHIN, ACROSS):
            others = [
                other
                for other in range(len(every))
                if other != place and norms[other] > 0 and norms[place] > 0
                and (every[other][0] == layer) == (scope == WITHIN)
            ]  # fmt: skip
            others.sort(key=lambda other: (-float(cosines[other]), every[other]))
            rows += [
                (layer, feature, scope, rank, *every[other], float(cosines[other]))
                for rank, other in enumerate(others[:n])
            ]
    return pl.DataFrame(rows, schema=NEIGHBOUR_SCHEMA, orient="row")


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**31), n=st.integers(1, 6), n_rows=st.integers(1, 50), n_axes=st.integers(1, 4))
def test_neighbours_equal_all_cosines_sorted_whatever_the_tiles_and_ties(
    seed: int, n: int, n_rows: int, n_axes: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def on_axes(decoder: torch.Tensor) -> torch.Tensor:
        """Vectors of length 0 or 1 on few axes: cosines are exact, and most are tied."""
        axis = torch.randint(n_axes, (9,), generator=generator)
        sign = torch.randint(-1, 2, (9,), generator=generator)
        return torch.eye(decoder.shape[2])[axis][:, None] * sign[:, None, None]

    model = with_decoders("llama", on_axes)
    found = pl.concat(feature_neighbours(model, n, n_rows=n_rows))
    assert found.rows() == naive_neighbours(model, n).rows()


def test_neighbours_of_features_that_write_several_layers_are_those_of_their_sums(
    random_model: ReplacementModel,
) -> None:
    found = pl.concat(feature_neighbours(random_model, 4, n_rows=29))
    expected = naive_neighbours(random_model, 4)
    assert found.drop("cosine").equals(expected.drop("cosine"))
    assert found["cosine"].to_list() == pytest.approx(expected["cosine"].to_list(), abs=1e-5)
    assert found.schema == NEIGHBOUR_SCHEMA


def naive_reads(model: ReplacementModel, layer: int, head: tuple[int, int] | None) -> torch.Tensor:
    """What encoders read of the raw stream, or of that in front of a head, with the checkpoint's own matrices."""
    architecture, d_model = model.facts.architecture, model.facts.d_model
    centring = torch.eye(d_model) - (1 / d_model if architecture.centred_norm else 0)

    def norm(block: int, name: str) -> torch.Tensor:
        return torch.diag(getattr(model.bridge.blocks[block], name).weight + architecture.norm_offset) @ centring

    reads = model.transcoders.layers[layer].W_enc @ norm(layer, "ln2")
    if head is None:
        return reads
    attention = model.bridge.blocks[head[0]].attn
    kv_head = head[1] // (attention.W_O.shape[0] // attention.W_V.shape[0])
    written = attention.W_V[kv_head] @ attention.W_O[head[1]]
    if architecture.post_norms:
        written = written * (model.bridge.blocks[head[0]].ln1_post.weight + architecture.norm_offset)
    return reads @ written.T @ norm(head[0], "ln1")


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_what_enters_the_stream(kind: str) -> None:
    _, model = loaded(kind)
    ids = torch.tensor([0, 5, 9, 33])
    assert torch.allclose(embedding(model)[ids], model.forward(ids).embedding, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_de_embeddings_are_plain_products_of_the_checkpoints_matrices(kind: str) -> None:
    _, model = loaded(kind)
    found = pl.concat(feature_excitations(model, 4, 3))
    tokens, parallel = embedding(model), kind == "neox"
    for layer in range(model.n_layers):
        heads = heads_before(model, layer_features(model)[layer])
        assert heads == [(below, head) for below in range(layer + (not parallel)) for head in range(4)]
        scores = {head: naive_reads(model, layer, head) @ tokens.T for head in (None, *heads)}
        spread = {head: values.std(1, correction=0) for head, values in scores.items()}
        for feature in (0, 11, 47):
            rows = found.filter(pl.col("layer") == layer, pl.col("feature") == feature).rows(named=True)
            strongest = sorted(heads, key=lambda head: -float(spread[head][feature]))[:3]
            assert [(row["via_layer"], row["via_head"]) for row in rows] == [(DIRECT, DIRECT), *sorted(strongest)]
            for row in rows:
                head = None if row["via_head"] == DIRECT else (row["via_layer"], row["via_head"])
                values = scores[head][feature]
                order = values.argsort(descending=True).tolist()[:4]
                assert row["tokens"] == [model.tokenizer.decode([idx]) for idx in order]
                assert row["token_scores"] == pytest.approx(values[order].tolist(), abs=1e-4)
                assert row["score_sd"] == pytest.approx(float(spread[head][feature]), rel=1e-3)


def test_some_features_are_asked_for_through_every_head() -> None:
    _, model = loaded("gpt2")
    found = excitations(model, [(1, 5), (0, 7)], n_tokens=2)
    assert found.select("layer", "feature").unique(maintain_order=True).rows() == [(0, 7), (1, 5)]
    assert found["layer"].to_list() == [0] * 5 + [1] * 9
    assert excitations(model, []).height == 0


def test_de_embeddings_need_an_architecture_whose_norms_are_known() -> None:
    _, model = loaded("mistral")
    with pytest.raises(ModelError, match="outside the table"):
        next(feature_excitations(model, 4, 1))


@pytest.mark.parametrize("site", get_args(Site))
@torch.no_grad()
def test_saes_are_excited_where_they_read(tmp_path: Path, site: Site) -> None:
    _, model = loaded("llama")
    width = model.facts.n_heads * model.facts.d_head if site == "attn_z" else model.facts.d_model
    sae = random_sae("standard", f"blocks.1.{SITE_HOOKS[site]}", d_in=width, apply_b_dec_to_input=False)
    sae.save_model(tmp_path)
    dictionary = read_dictionary(str(tmp_path), model.facts, device=torch.device("cpu"))
    sources = layer_features(model, [dictionary])
    if site not in EXCITED_SITES:
        with pytest.raises(ModelError, match="do not read the stream"):
            next(feature_excitations(model, 3, 9, sources))
        return
    found, tokens = pl.concat(feature_excitations(model, 3, 9, sources)), embedding(model)
    encoder, feature = dictionary.transcoder.W_enc[7], found.filter(pl.col("feature") == 7).rows(named=True)
    norm = torch.diag(model.bridge.blocks[1].ln1.weight)
    for row in feature:
        head = (row["via_layer"], row["via_head"])
        if site == "attn_z":
            assert row["via_layer"] == 1
            W_V = model.bridge.blocks[1].attn.W_V[row["via_head"] // 2]
            reads = W_V @ encoder.reshape(4, -1)[row["via_head"]] @ norm
        else:
            reads = encoder if row["via_head"] == DIRECT else naive_through(model, encoder, head)
        scores = tokens @ reads
        order = scores.argsort(descending=True).tolist()[:3]
        assert row["tokens"] == [model.tokenizer.decode([idx]) for idx in order]
        assert row["token_scores"] == pytest.approx(scores[order].tolist(), abs=1e-4)
    n_paths = {"resid_pre": 1 + 4, "resid_mid": 1 + 8, "resid_post": 1 + 8, "attn_z": 4}[site]
    assert len(feature) == n_paths


def naive_through(model: ReplacementModel, reads: torch.Tensor, head: tuple[int, int]) -> torch.Tensor:
    """What reads the raw stream in front of a llama's head, where that head passes it on to `reads`."""
    attention, norm = model.bridge.blocks[head[0]].attn, torch.diag(model.bridge.blocks[head[0]].ln1.weight)
    return attention.W_V[head[1] // 2] @ attention.W_O[head[1]] @ reads @ norm
