"""Training of the embedded demo language model: a GPT-2 of 0.9 million parameters on the toy atlas."""

import math
from random import Random

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tracer.model.demo.text import packed_rows


class LanguageModelRecipe(BaseModel):
    """How the demo language model is built and trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_layers: int = Field(4, description="transformer blocks")
    d_model: int = Field(128, description="width of the residual stream")
    n_heads: int = Field(4, description="attention heads a layer")
    d_mlp: int = Field(512, description="MLP neurons a layer")
    n_ctx: int = Field(64, description="longest input, tokens")
    n_steps: int = Field(2800, description="optimiser steps")
    n_rows: int = Field(32, description="packed rows a step")
    learning_rate: float = Field(2.5e-3, description="peak learning rate of AdamW")
    n_warmup_steps: int = Field(100, description="steps of linear warm-up")
    final_share: float = Field(0.02, description="share of the peak rate at the end of the cosine")
    weight_decay: float = Field(0.1, description="decay of matrices; vectors are not decayed")
    answer_weight: float = Field(4.0, description="loss weight of tokens that the text before them determines")


def build_language_model(recipe: LanguageModelRecipe, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """A freshly initialised GPT-2: inputs of attention and MLP at 0.06, writers to the residual stream scaled down by
    depth.
    """
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=recipe.n_ctx,
            n_embd=recipe.d_model,
            n_layer=recipe.n_layers,
            n_head=recipe.n_heads,
            n_inner=recipe.d_mlp,
            activation_function="gelu_new",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        std = 0.02
        if name.endswith(("c_attn.weight", "c_fc.weight")):
            std = 0.06
        elif name.endswith("c_proj.weight"):
            std = 0.02 / math.sqrt(2 * recipe.n_layers)
        torch.nn.init.normal_(parameter, std=std)
    return model


def _learning_rate_share(step: int, recipe: LanguageModelRecipe) -> float:
    if step < recipe.n_warmup_steps:
        return (step + 1) / recipe.n_warmup_steps
    progress = (step - recipe.n_warmup_steps) / max(1, recipe.n_steps - recipe.n_warmup_steps)
    return recipe.final_share + (1 - recipe.final_share) * 0.5 * (1 + math.cos(math.pi * progress))


def _weighted_loss(model: GPT2LMHeadModel, tokens: Tensor, weights: Tensor) -> Tensor:
    logits = model(tokens).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    target_weights = weights[:, 1:].flatten()
    return (losses * target_weights).sum() / target_weights.sum()


def train_language_model(recipe: LanguageModelRecipe, tokenizer: PreTrainedTokenizerFast, seed: int) -> GPT2LMHeadModel:
    """Train from `seed` in float32, which is faster than bfloat16 on most CPUs; prints the loss every 200 steps."""
    torch.manual_seed(seed)
    rng = Random(seed)
    model = build_language_model(recipe, tokenizer)
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate_share(step, recipe))
    model.train()
    for step in range(recipe.n_steps):
        tokens, weights = packed_rows(
            tokenizer, rng, n_rows=recipe.n_rows, n_ctx=recipe.n_ctx, answer_weight=recipe.answer_weight
        )
        loss = _weighted_loss(model, tokens, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == recipe.n_steps - 1:
            print(f"language model: step {step:>5} of {recipe.n_steps}, loss {loss.item():.4f}", flush=True)
    return model.eval()
