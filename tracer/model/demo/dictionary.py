"""Training of the embedded demo transcoders, per-layer or cross-layer, on the demo language model.

A feature reads the normalised MLP input (after the norm's weight and bias) and writes MLP outputs: of its own layer,
or, in the cross-layer set, of its own and every later layer. Activations are JumpReLU with one threshold a layer, moved
while training so that the mean number of active features per token equals `k` (as in BatchTopK, Bussmann et al. 2024,
arXiv 2412.06410), with `k` annealed from wide to narrow. Cross-layer form: Ameisen et al. 2025.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from tracer.model.demo.text import packed_rows, single_prompts


class DictionaryRecipe(BaseModel):
    """How a demo transcoder set is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cross_layer: bool = Field(False, description="whether a feature writes at later layers too")
    n_features: int = Field(768, description="features a layer")
    k_start: float = Field(16.0, description="mean active features per token and layer at the start")
    k_end: float = Field(5.0, description="the same from `anneal_share` of training on")
    anneal_share: float = Field(0.4, description="share of training over which k is annealed")
    n_steps: int = Field(3500, description="optimiser steps")
    n_tokens: int = Field(1024, description="tokens a step")
    learning_rate: float = Field(2e-3, description="rate of Adam, decayed linearly over the last 30 % of training")
    single_share: float = Field(0.85, description="share of tokens from single prompts; the rest is packed text")
    n_pool_tokens: int = Field(120_000, description="tokens held at once; drawn anew every `n_pool_steps`")
    n_pool_steps: int = Field(500, description="steps between draws of the pool")
    revive_until: float = Field(0.35, description="share of training after which dead features are left alone")
    revive_share: float = Field(0.05, description="largest share of a layer's features re-pointed at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpSamples:
    """MLP inputs and outputs of all layers at the same tokens."""

    inputs: Float[Tensor, "layer token d_model"]
    outputs: Float[Tensor, "layer token d_model"]


def _blocks(model: GPT2LMHeadModel) -> list[Any]:
    return list(model.transformer.h)


@torch.no_grad()
def mlp_samples(model: GPT2LMHeadModel, tokens: Tensor, keep: Tensor) -> MlpSamples:
    """Run `tokens` (row, pos) and keep the positions where `keep` is true."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def record(_module: torch.nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs.append(args[0][keep])
        outputs.append(output[keep])

    handles = [block.mlp.register_forward_hook(record) for block in _blocks(model)]
    try:
        for rows, kept in zip(tokens.split(512), keep.split(512), strict=True):
            keep = kept
            model.transformer(rows)
    finally:
        for handle in handles:
            handle.remove()
    n_layers = len(model.transformer.h)
    return MlpSamples(
        inputs=torch.stack([torch.cat(inputs[layer::n_layers]) for layer in range(n_layers)]),
        outputs=torch.stack([torch.cat(outputs[layer::n_layers]) for layer in range(n_layers)]),
    )


def draw_pool(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, rng: Random, *, n_tokens: int, single_share: float
) -> MlpSamples:
    """MLP samples from single prompts and packed rows; special tokens are left out."""
    n_ctx = model.config.n_positions
    n_packed_rows = round(n_tokens * (1 - single_share) / n_ctx)
    n_prompts = round(n_tokens * single_share / 8)
    prompts, _ = single_prompts(tokenizer, rng, n_prompts=n_prompts, n_ctx=n_ctx)
    parts = [mlp_samples(model, prompts, prompts > tokenizer.bos_token_id)]
    if n_packed_rows:
        rows, _ = packed_rows(tokenizer, rng, n_rows=n_packed_rows, n_ctx=n_ctx, answer_weight=1.0)
        parts.append(mlp_samples(model, rows, rows > tokenizer.bos_token_id))
    return MlpSamples(
        inputs=torch.cat([part.inputs for part in parts], dim=1),
        outputs=torch.cat([part.outputs for part in parts], dim=1),
    )


N_CANDIDATES = 30
"""Tokens looked at for every distinct one that is wanted."""


def distinct(candidates: Int[Tensor, " candidate"], inputs: Float[Tensor, "token d_model"], n_wanted: int) -> Tensor:
    """The first `n_wanted` candidates whose inputs differ: features that start at equal inputs stay twins for ever."""
    _, group = (inputs[candidates] * 10).round().unique(dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(candidates)).scatter_reduce(
        0, group, torch.arange(len(candidates)), "amin"
    )
    return candidates[first.sort().values[:n_wanted]]


class Dictionary(torch.nn.Module):
    """The transcoders of all layers under training, on inputs and outputs scaled to unit size.

    `W_dec[i]` has shape (feature, n written layers, d_model): one written layer, or `n_layers - i` where cross-layer.
    """

    threshold: Tensor

    def __init__(self, recipe: DictionaryRecipe, samples: MlpSamples, generator: torch.Generator) -> None:
        super().__init__()
        n_layers, n_samples, d_model = samples.inputs.shape
        self.cross_layer = recipe.cross_layer
        self.input_mean = samples.inputs.mean(1, keepdim=True)
        self.output_mean = samples.outputs.mean(1, keepdim=True)
        self.input_scale = (samples.inputs - self.input_mean).square().mean((1, 2), keepdim=True).sqrt()
        self.output_scale = (samples.outputs - self.output_mean).square().mean((1, 2), keepdim=True).sqrt()
        inputs, outputs = self.scaled(samples)
        shuffled = torch.randperm(n_samples, generator=generator)[: N_CANDIDATES * recipe.n_features]
        points = [distinct(shuffled, inputs[layer], recipe.n_features) for layer in range(n_layers)]
        rows = torch.stack([inputs[layer, points[layer]] for layer in range(n_layers)])
        self.W_enc = torch.nn.Parameter(rows / rows.norm(dim=-1, keepdim=True))
        self.b_enc = torch.nn.Parameter(torch.zeros(n_layers, recipe.n_features))
        self.b_dec = torch.nn.Parameter(torch.zeros(n_layers, 1, d_model))
        self.register_buffer("threshold", torch.zeros(n_layers))
        decoders = []
        for layer in range(n_layers):
            written = range(layer, n_layers) if self.cross_layer else range(layer, layer + 1)
            directions = torch.stack([outputs[target, points[layer]] for target in written], dim=1)
            share = torch.tensor([1 / (target + 1) if self.cross_layer else 1.0 for target in written])
            decoders.append(torch.nn.Parameter(directions * share[None, :, None] / d_model**0.5))
        self.W_dec = torch.nn.ParameterList(decoders)
        self._fit_decoder_scale(inputs[:, :4096], outputs[:, :4096], recipe.k_start)

    def scaled(self, samples: MlpSamples) -> tuple[Tensor, Tensor]:
        """Centred inputs and outputs of unit mean square."""
        return (
            (samples.inputs - self.input_mean) / self.input_scale,
            (samples.outputs - self.output_mean) / self.output_scale,
        )

    @torch.no_grad()
    def _fit_decoder_scale(self, inputs: Tensor, outputs: Tensor, k: float) -> None:
        activations = self.activations(inputs, self.batch_threshold(inputs, k))
        decoded = self.decode(activations)
        scale = (decoded * outputs).sum((1, 2)) / decoded.square().sum((1, 2)).clamp_min(1e-9)
        for layer, decoder in enumerate(self.W_dec):
            decoder *= scale[layer : layer + decoder.shape[1], None].expand(-1, decoder.shape[2])

    def pre_activations(self, inputs: Float[Tensor, "layer token d_model"]) -> Float[Tensor, "layer token feature"]:
        """Encoder output before the threshold."""
        return torch.baddbmm(self.b_enc[:, None], inputs, self.W_enc.transpose(1, 2))

    def activations(self, inputs: Tensor, threshold: Float[Tensor, " layer"]) -> Tensor:
        """Pre-activations above the layer's threshold, else zero."""
        pre = self.pre_activations(inputs)
        return pre * (pre > threshold[:, None, None])

    @torch.no_grad()
    def batch_threshold(self, inputs: Tensor, k: float) -> Float[Tensor, " layer"]:
        """The threshold at which this batch has `k` active features per token, per layer; never below zero."""
        pre = self.pre_activations(inputs).flatten(1)
        n_active = round(k * inputs.shape[1])
        return pre.topk(n_active, dim=1).values[:, -1].clamp_min(0.0)

    def decode(self, activations: Float[Tensor, "layer token feature"]) -> Float[Tensor, "layer token d_model"]:
        """Scaled MLP outputs of every layer."""
        outputs = list(self.b_dec.expand(-1, activations.shape[1], -1))
        for layer, decoder in enumerate(self.W_dec):
            written = torch.einsum("tf,fwd->wtd", activations[layer], decoder)
            for offset, vector in enumerate(written):
                outputs[layer + offset] = outputs[layer + offset] + vector
        return torch.stack(outputs)

    @torch.no_grad()
    def repoint(self, layer: int, features: Tensor, inputs: Tensor, residual: Tensor) -> None:
        """Point dead features at the tokens that are reconstructed worst."""
        badly = residual[layer].square().sum(-1).argsort(descending=True)[: N_CANDIDATES * len(features)]
        worst = distinct(badly, inputs[layer], len(features))
        features = features[: len(worst)]
        rows = inputs[layer, worst]
        self.W_enc[layer, features] = rows / rows.norm(dim=-1, keepdim=True)
        self.b_enc[layer, features] = 0.0
        self.W_dec[layer][features] = 0.0
        self.W_dec[layer][features, 0] = residual[layer, worst] / rows.norm(dim=-1, keepdim=True)


def _k_at(step: int, recipe: DictionaryRecipe) -> float:
    share = min(1.0, step / (recipe.anneal_share * recipe.n_steps))
    return recipe.k_start * (recipe.k_end / recipe.k_start) ** share


def _batches(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, recipe: DictionaryRecipe, rng: Random
) -> Iterator[MlpSamples]:
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    while True:
        pool = draw_pool(model, tokenizer, rng, n_tokens=recipe.n_pool_tokens, single_share=recipe.single_share)
        for _ in range(recipe.n_pool_steps):
            chosen = torch.randint(pool.inputs.shape[1], (recipe.n_tokens,), generator=generator)
            yield MlpSamples(inputs=pool.inputs[:, chosen], outputs=pool.outputs[:, chosen])


def train_dictionary(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, recipe: DictionaryRecipe, seed: int
) -> Dictionary:
    """Train a transcoder set from `seed`; prints unexplained variance and L0 by layer every 500 steps."""
    rng = Random(f"dictionary-{recipe.cross_layer}-{seed}")
    generator = torch.Generator().manual_seed(seed)
    first_pool = draw_pool(model, tokenizer, rng, n_tokens=recipe.n_pool_tokens, single_share=recipe.single_share)
    dictionary = Dictionary(recipe, first_pool, generator)
    optimizer = torch.optim.Adam(dictionary.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99))
    decay = 0.3 * recipe.n_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (recipe.n_steps - step) / decay))
    last_fired = torch.zeros(dictionary.b_enc.shape, dtype=torch.long)
    for step, batch in zip(range(recipe.n_steps), _batches(model, tokenizer, recipe, rng), strict=False):
        inputs, outputs = dictionary.scaled(batch)
        if step <= recipe.anneal_share * recipe.n_steps:
            dictionary.threshold.copy_(dictionary.batch_threshold(inputs, _k_at(step, recipe)))
        activations = dictionary.activations(inputs, dictionary.threshold.clone())
        residual = outputs - dictionary.decode(activations)
        loss = residual.square().mean((1, 2)).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        n_active = (activations > 0).sum(2).float().mean(1)
        dictionary.threshold.mul_((0.02 * (n_active / _k_at(step, recipe) - 1).clamp(-1, 1)).exp())
        last_fired[(activations > 0).any(1)] = step
        if step % 100 == 99 and step < recipe.revive_until * recipe.n_steps:
            _revive(dictionary, recipe, last_fired, step, inputs, residual.detach())
        if step % 500 == 0 or step == recipe.n_steps - 1:
            unexplained = ", ".join(f"{value:.4f}" for value in residual.square().mean((1, 2)).tolist())
            active = ", ".join(f"{value:.1f}" for value in n_active.tolist())
            print(f"dictionary: step {step:>5}, unexplained [{unexplained}], L0 [{active}]", flush=True)
    return dictionary.eval()


def _revive(
    dictionary: Dictionary, recipe: DictionaryRecipe, last_fired: Tensor, step: int, inputs: Tensor, residual: Tensor
) -> None:
    for layer in range(last_fired.shape[0]):
        dead = (step - last_fired[layer] > 100).nonzero().flatten()
        dead = dead[: round(recipe.revive_share * recipe.n_features)]
        if len(dead):
            dictionary.repoint(layer, dead, inputs, residual)
            last_fired[layer, dead] = step
