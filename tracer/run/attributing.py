"""Attribution of a list of prompts, several in one pass, where one that fails does not take others with it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from tracer.attribution.attribute import default_engine
from tracer.attribution.encoded import encode
from tracer.attribution.graphs import graphs_of
from tracer.attribution.prepared import Prepared, prepare_forward
from tracer.config import RunConfig
from tracer.corpus.prompts import Prompt
from tracer.graph.graph import Graph
from tracer.model.replacement import ReplacementModel
from tracer.run.backlog import N_UNBLAMED
from tracer.run.profiling import phase
from tracer.run.work import SPOILS_THE_PROCESS, SpoilingPromptError

MAX_PASS_TOKENS = 2048
"""Tokens of a pass, padding included: beyond, its products are large enough and only memory grows."""

LEAST_BUDGET_BYTES = 2**20
"""Working memory below which nothing is gained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """A prompt with its graph: edges between nodes that pruning keeps, influence of all."""

    prompt: Prompt
    prepared: Prepared
    graph: Graph
    seconds: float
    """Its share of the time of its pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAttributed:
    """A prompt that failed."""

    prompt: Prompt
    error: Exception


def attribute_prompts(
    model: ReplacementModel, config: RunConfig, prompts: Sequence[Prompt], prompts_per_pass: int
) -> Iterator[Attributed | NotAttributed]:
    """Attribute prompts in their order.

    Raises:
        SpoilingPromptError: a prompt left this process unusable.
        Exception: a pass of several did, and which of them is not known.
    """
    for together in _passes(prompts, prompts_per_pass):
        try:
            yield from _one_pass(model, config, together)
        except Exception as error:  # one bad prompt of many must not take the others with it, whatever went wrong
            if type(error).__name__ in SPOILS_THE_PROCESS:
                if len(together) > 1:
                    raise
                raise SpoilingPromptError(together[0].prompt_id) from error
            if len(together) > 1:
                yield from attribute_prompts(model, config, together, prompts_per_pass=1)
            else:
                yield NotAttributed(prompt=together[0], error=error)


def with_less_memory(config: RunConfig, n_halved: int) -> RunConfig:
    """The settings of an attempt at a shard on which memory ran out `n_halved` times: half a pass and half a batch of
    rows, then one prompt a pass and ever smaller batches. Sums round by it; nothing else changes.
    """
    if n_halved == 0:
        return config
    asked = config.attribution
    less: dict[str, int] = {
        "prompts_per_pass": max(1, asked.prompts_per_pass // 2) if n_halved < N_UNBLAMED else 1,
        "memory_budget_bytes": max(LEAST_BUDGET_BYTES, asked.memory_budget_bytes >> n_halved),
    }
    if asked.batch_size is not None:
        less["batch_size"] = max(1, asked.batch_size >> n_halved)
    return config.model_copy(update={"attribution": asked.model_copy(update=less)})


def _passes(prompts: Sequence[Prompt], most: int) -> Iterator[list[Prompt]]:
    together: list[Prompt] = []
    for prompt in prompts:
        longest = max(len(other.token_ids) for other in [*together, prompt])
        if together and (len(together) == most or longest * (len(together) + 1) > MAX_PASS_TOKENS):
            yield together
            together = []
        together.append(prompt)
    if together:
        yield together


def _one_pass(model: ReplacementModel, config: RunConfig, prompts: Sequence[Prompt]) -> list[Attributed]:
    attribution, started, device = config.attribution, time.perf_counter(), model.weights.W_U.device
    with phase("forward"):
        forwards = model.forward_batch([torch.tensor(prompt.token_ids, device=device) for prompt in prompts])
    with phase("encode"):
        prepared = [
            prepare_forward(
                model,
                forward,
                given_targets=prompt.targets,
                max_n_logits=attribution.max_n_logits,
                desired_logit_prob=attribution.desired_logit_prob,
                encoded=encoded,
            )
            for prompt, forward, encoded in zip(prompts, forwards, encode(model, forwards), strict=True)
        ]
    with phase("rows"):
        graphs = graphs_of(
            model,
            prepared,
            texts=[prompt.text for prompt in prompts],
            coverage=attribution.coverage,
            batch_size=attribution.batch_size,
            max_feature_nodes=attribution.max_feature_nodes,
            memory_budget_bytes=attribution.memory_budget_bytes,
            node_threshold=config.pruning.node_threshold,
            precision=attribution.precision,
            offload=attribution.offload,
            engine=default_engine(model),
        )
    seconds = (time.perf_counter() - started) / len(prompts)
    return [
        Attributed(prompt=prompt, prepared=ready, graph=graph, seconds=seconds)
        for prompt, ready, graph in zip(prompts, prepared, graphs, strict=True)
    ]
