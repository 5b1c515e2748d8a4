"""One worker: holds a replacement model, turns prompts into the rows of a shard. The same code inline and in a Ray
actor.
"""

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa
import torch

from tracer.attribution.prepared import Prepared
from tracer.config import AttributionConfig, RunConfig
from tracer.corpus.prompts import Prompt
from tracer.harvest import counts, examples
from tracer.harvest.firings import collect, firing_frame, token_frame
from tracer.harvest.promoted import promoted_tokens
from tracer.model.device import resolve_device
from tracer.model.readers.registry import set_hash
from tracer.model.reconstruction import poor_reconstruction
from tracer.model.references import content_hash, resolve
from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import token_separator, token_text
from tracer.run.attending import attention_frames, check_attention
from tracer.run.attributing import Attributed, NotAttributed, attribute_prompts, with_less_memory
from tracer.run.backlog import ATTEMPTS_PER_SESSION
from tracer.run.ledger import ShardError
from tracer.run.profiling import phase
from tracer.run.work import SPOILS_THE_PROCESS, SpoilingPromptError
from tracer.tables import rows
from tracer.tables.schema import TABLES


@dataclass(slots=True)
class _ShardRows:
    """What a shard has so far."""

    records: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in ("prompts", "graphs", "logits", "failures")}
    )
    frames: dict[str, list[pl.DataFrame]] = field(
        default_factory=lambda: {name: [] for name in ("nodes", "edges", "head_loadings", "qk_edges")}
    )
    firings: list[pl.DataFrame] = field(default_factory=list)
    tokens: list[pl.DataFrame] = field(default_factory=list)
    traced_ids: list[str] = field(default_factory=list)


class TraceWorker:
    """A loaded model and the settings of the run."""

    def __init__(self, config: RunConfig) -> None:
        torch.set_num_threads(config.runner.n_threads)
        self.config = config
        settings = config.model
        self.model = ReplacementModel.from_pretrained(
            settings.checkpoint,
            settings.transcoders,
            device=resolve_device(settings.device),
            trust_remote_code=settings.trust_remote_code,
            lazy_encoder=settings.lazy_encoder,
            lazy_decoder=settings.lazy_decoder,
            shared_cache=settings.shared_cache,
            check=False,
        )
        self.complaint = poor_reconstruction(self.model)
        check_attention(self.model, config.attribution)
        self.device = str(self.model.weights.W_U.device)
        self.separator = token_separator(self.model.tokenizer)

    def facts(self) -> dict[str, Any]:
        """What the run record says of the model."""
        return {
            "n_layers": self.model.n_layers,
            "model_hash": content_hash(resolve(self.config.model.checkpoint)),
            "transcoders_hash": set_hash(resolve(self.config.model.transcoders)),
            "device": self.device,
            "complaint": self.complaint,
        }

    def trace(
        self,
        prompts: Sequence[Prompt],
        shard_id: str,
        attempt: int,
        *,
        skipped: Sequence[ShardError] = (),
        n_halved: int = 0,
    ) -> dict[str, pa.Table]:
        """Attribute every prompt; one that fails, or is in `skipped`, becomes a row of `failures`. One table per shard
        table. `n_halved`: as in `with_less_memory`.

        Raises:
            SpoilingPromptError: a prompt left this process unusable.
        """
        shard = _ShardRows()
        errors = {error.prompt_id: error for error in skipped}
        volatile = {"device": self.device, "host": socket.gethostname(), "attempt": attempt}
        wanted = []
        for prompt in prompts:
            shard.records["prompts"].append(self._prompt_record(prompt, shard_id))
            if known := errors.get(prompt.prompt_id):
                shard.records["failures"].append(
                    _failure(prompt, shard_id, known.error_class, known.message, known.attempt)
                )
                continue
            wanted.append(prompt)
        config = with_less_memory(self.config, n_halved)
        for outcome in attribute_prompts(self.model, config, wanted, config.attribution.prompts_per_pass):
            if isinstance(outcome, NotAttributed):
                error: Exception | None = outcome.error
            else:
                with phase("prune"):
                    error = self._add_rows(outcome, config.attribution, shard, volatile)
            if error is not None:
                failure = _failure(outcome.prompt, shard_id, type(error).__name__, str(error), attempt)
                shard.records["failures"].append(failure)
        with phase("write"):
            return self._tables(shard)

    @torch.no_grad()
    def feature_logits(self, features: Sequence[tuple[int, int]], n_tokens: int) -> pa.Table:
        """Rows of `feature_logits` for (layer, feature) pairs: what each promotes and suppresses most."""
        return rows.from_records(TABLES["feature_logits"], promoted_tokens(self.model, features, n_tokens))

    def _add_rows(
        self, outcome: Attributed, attribution: AttributionConfig, shard: _ShardRows, volatile: dict[str, Any]
    ) -> Exception | None:
        """Rows of one graph; gives the error if there is one, and then adds nothing."""
        prompt, prepared, graph, pruning = outcome.prompt, outcome.prepared, outcome.graph, self.config.pruning
        started = time.perf_counter()
        try:
            pruned = graph.prune(pruning.node_threshold, pruning.edge_threshold)
            graph_id = rows.make_graph_id(prompt.prompt_id, self._target_set(prompt))
            record = rows.graph_record(graph, pruned, graph_id=graph_id, prompt_id=prompt.prompt_id)
            frames = {"nodes": rows.node_frame(pruned, graph_id), "edges": rows.edge_frame(pruned, graph_id)}
            frames |= attention_frames(self.model, prepared, pruned, graph_id, attribution)
            prompt_idx = len(shard.traced_ids)
            firings = firing_frame(prompt_idx, prepared.active)
            tokens = token_frame(prompt_idx, prompt.token_ids, graph.tokens)
            logits = rows.logit_records(graph, graph_id)
            answers = _answer_columns(prompt, prepared)
        except Exception as error:  # one bad prompt of many must become a row, whatever went wrong
            if type(error).__name__ in SPOILS_THE_PROCESS:
                raise SpoilingPromptError(prompt.prompt_id) from error
            return error
        record |= volatile | {"seconds": outcome.seconds + time.perf_counter() - started}
        own = next(row for row in reversed(shard.records["prompts"]) if row["prompt_id"] == prompt.prompt_id)
        own |= answers
        shard.records["graphs"].append(record)
        shard.records["logits"] += logits
        for name, frame in frames.items():
            shard.frames[name].append(frame)
        shard.firings.append(firings)
        shard.tokens.append(tokens)
        shard.traced_ids.append(prompt.prompt_id)
        return None

    def _tables(self, shard: _ShardRows) -> dict[str, pa.Table]:
        n_ignored = [self.model.facts.n_ignored_positions(frame["token_id"].to_list()) for frame in shard.tokens]
        data = collect(shard.traced_ids, shard.firings, shard.tokens, n_ignored)
        n_context = self.config.aggregate.n_context_tokens
        frames = {
            "feature_counts": counts.feature_counts(data),
            "token_counts": counts.token_counts(data, n_context),
            "feature_tokens": counts.feature_tokens(data, n_context),
            "feature_activation_hist": counts.activation_histogram(data),
            "examples": examples.top_examples(data, self.config.aggregate.n_examples, self.separator),
        }
        tables = {name: rows.from_records(TABLES[name], records) for name, records in shard.records.items()}
        for name, parts in shard.frames.items():
            found = (
                rows.as_table(TABLES[name], pl.concat(parts)) if parts else TABLES[name].arrow_schema().empty_table()
            )
            tables[name] = found
        return tables | {name: rows.as_table(TABLES[name], frame) for name, frame in frames.items()}

    def _target_set(self, prompt: Prompt) -> dict[str, Any]:
        if prompt.targets:
            return {"given": list(prompt.targets)}
        attribution = self.config.attribution
        return {"max_n_logits": attribution.max_n_logits, "desired_logit_prob": attribution.desired_logit_prob}

    def _prompt_record(self, prompt: Prompt, shard_id: str) -> dict[str, Any]:
        return {
            "prompt_id": prompt.prompt_id,
            "shard_id": shard_id,
            "text": prompt.text,
            "token_ids": list(prompt.token_ids),
            "tokens": [token_text(self.model.tokenizer, token_id) for token_id in prompt.token_ids],
            "n_tokens": len(prompt.token_ids),
            "task": prompt.task,
            "split": prompt.split,
            "pair_id": prompt.pair_id,
            "answer": prompt.answer,
            "counterfactual_answer": prompt.counterfactual_answer,
            "answer_token_id": prompt.answer_token_id,
            "metadata": json.dumps(prompt.metadata, sort_keys=True, ensure_ascii=False),
        }


def _answer_columns(prompt: Prompt, prepared: Prepared) -> dict[str, Any]:
    """How the model does on the prompt's answer."""
    if prompt.answer_token_id is None:
        return {}
    log_probs = prepared.forward.logits[-1].double().log_softmax(-1)
    own = log_probs[prompt.answer_token_id]
    rank = int((log_probs > own).sum())
    return {
        "answer_rank": rank,
        "answer_prob": float(own.exp()),
        "answer_loss": -float(own),
        "is_correct": rank == 0,
    }


def _failure(prompt: Prompt, shard_id: str, error_class: str, message: str, attempt: int) -> dict[str, Any]:
    return {
        "stage": "trace",
        "item_id": prompt.prompt_id,
        "shard_id": shard_id,
        "error_class": error_class,
        "message": " ".join(message.split())[:500],
        "text": prompt.text,
        "attempts": attempt % ATTEMPTS_PER_SESSION + 1,
    }
