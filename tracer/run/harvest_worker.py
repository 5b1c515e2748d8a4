"""One worker of a harvest: holds a model with its features, turns documents into the rows of a shard."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import polars as pl
import pyarrow as pa
import torch

from tracer.config.harvest import HarvestConfig
from tracer.corpus.prompts import Prompt, hash_ids
from tracer.corpus.tokens import SpecialTokenRule
from tracer.corpus.windows import Window, windows_of
from tracer.harvest.coactivation import CoactivationCounts
from tracer.harvest.de_embedding import EXCITED_SITES, feature_excitations
from tracer.harvest.layer_features import layer_features
from tracer.harvest.neighbours import feature_neighbours
from tracer.harvest.promoted import feature_logits
from tracer.harvest.reading import WindowReader, encoders_of, encoders_of_saes
from tracer.harvest.shard import DocumentCounts, Harvester
from tracer.harvest.windows import Accumulator
from tracer.model.device import resolve_device
from tracer.model.dictionaries import Dictionary, read_dictionary
from tracer.model.readers.registry import set_hash
from tracer.model.reconstruction import poor_reconstruction
from tracer.model.references import content_hash, resolve
from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import token_separator, token_text
from tracer.run.backlog import ATTEMPTS_PER_SESSION
from tracer.run.ledger import ShardError
from tracer.run.profiling import phase
from tracer.run.work import SPOILS_THE_PROCESS, SpoilingPromptError
from tracer.tables import rows
from tracer.tables.harvest_tables import HARVEST_SHARD_TABLES, HARVEST_TABLES

MIN_BATCH_TOKENS = 16
"""Batches do not become smaller than this where memory runs out."""
Features = Sequence[tuple[int, int]]


def make_harvest_worker(reference_share: float, chosen: Features, config: HarvestConfig) -> "HarvestWorker":
    """The product's worker.

    Args:
        reference_share: share of the windows that are reference windows.
        chosen: (layer, feature) pairs whose co-activation is counted.
        config: the settings.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would write over the harvest's own
    return HarvestWorker(config, reference_share=reference_share, chosen=chosen)


class HarvestWorker:
    """A loaded model with its encoders, and the settings of the harvest."""

    def __init__(self, config: HarvestConfig, *, reference_share: float, chosen: Features = ()) -> None:
        torch.set_num_threads(config.runner.n_threads)
        self.config = config
        settings, harvest = config.model, config.harvest
        has_saes = bool(harvest.saes)
        self.model = ReplacementModel.from_pretrained(
            settings.checkpoint,
            settings.transcoders,
            device=resolve_device(settings.device),
            dtype=getattr(torch, harvest.model_dtype),
            trust_remote_code=settings.trust_remote_code,
            lazy_encoder=settings.lazy_encoder or has_saes,
            lazy_decoder=True if has_saes else settings.lazy_decoder,
            shared_cache=settings.shared_cache,
            check=False,
        )
        self.saes = [read_dictionary(sae, self.model.facts, device=self.model.device) for sae in harvest.saes]
        self.complaint = None if has_saes else poor_reconstruction(self.model)
        if has_saes:
            encoders = encoders_of_saes([sae for sae in self.saes if _is_wanted(sae, harvest.layers)])
        else:
            encoders = encoders_of(self.model, harvest.layers)
        self._n_features = {encoder.layer: len(encoder.transcoder.b_enc) for encoder in encoders}
        self._chosen = chosen
        self._harvester = Harvester(
            WindowReader(
                self.model,
                encoders,
                high_norm_ratio=harvest.windows.high_norm_ratio,
                precision=harvest.precision,
            ),
            harvest.examples,
            lru_cache(maxsize=None)(partial(token_text, self.model.tokenizer)),
            d_vocab=max(self.model.facts.d_vocab, len(self.model.tokenizer)),
            reference_share=reference_share,
            more=self._coactivation,
        )

    def facts(self) -> dict[str, Any]:
        """What the record says of the model."""
        saes = [content_hash(resolve(reference)) for reference in self.config.harvest.saes]
        return {
            "n_layers": self.model.n_layers,
            "model_hash": content_hash(resolve(self.config.model.checkpoint)),
            "transcoders_hash": hash_ids(saes) if saes else set_hash(resolve(self.config.model.transcoders)),
            "n_features": [list(pair) for pair in self._n_features.items()],
            "paired_features": [list(pair) for pair in self._chosen],
            "token_separator": token_separator(self.model.tokenizer),
            "device": str(self.model.device),
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
        """Harvest the documents of a shard; one that is in `skipped`, or has values that are no number, becomes a row
        of `failures`. One table per shard table; batches are halved `n_halved` times.

        Raises:
            SpoilingPromptError: the one document of the shard left this process unusable.
        """
        errors = {error.prompt_id: error for error in skipped}
        wanted = [prompt for prompt in prompts if prompt.prompt_id not in errors]
        batch_tokens = max(MIN_BATCH_TOKENS, self.config.harvest.batch_tokens >> n_halved)
        try:
            with phase("harvest"):
                windows = _windows(wanted, self.model.special_token_rule, self.config.harvest.windows.window_tokens)
                shard = self._harvester.harvest([*windows], batch_tokens)
        except Exception as error:
            if type(error).__name__ in SPOILS_THE_PROCESS and len(wanted) == 1:
                raise SpoilingPromptError(wanted[0].prompt_id) from error
            raise
        failures = []
        for prompt in prompts:
            counts, known = shard.documents.get(prompt.prompt_id), errors.get(prompt.prompt_id)
            if known is not None:
                failures.append(_failure(prompt, shard_id, known.error_class, known.message, known.attempt))
            elif counts is not None and counts.n_not_finite:
                message = f"values that are no number at {counts.n_not_finite} positions, which are left out"
                failures.append(_failure(prompt, shard_id, "NotFiniteError", message, attempt))
        failed = {failure["item_id"] for failure in failures}
        records = [self._document(prompt, shard_id, shard.documents, failed) for prompt in prompts]
        with phase("write"):
            tables = {table.name: table.arrow_schema().empty_table() for table in HARVEST_SHARD_TABLES}
            by_name = {table.name: table for table in HARVEST_SHARD_TABLES}
            tables["documents"] = rows.from_records(by_name["documents"], records)
            tables["failures"] = rows.from_records(by_name["failures"], failures)
            return tables | {name: rows.as_table(by_name[name], frame) for name, frame in shard.tables.items()}

    def forget(self) -> None:
        """As `RememberingWorker.forget`."""
        self._harvester.forget()

    def feature_logits(self, features: Features, n_tokens: int) -> pa.Table:
        """As `Worker.feature_logits`; a harvest lists all features at once, see `weights_table`."""
        asked = pl.DataFrame(list(features), schema={"layer": pl.Int64, "feature": pl.Int64}, orient="row")
        found = pl.concat([*feature_logits(self.model, n_tokens, self._sources())])
        return rows.as_table(HARVEST_TABLES["feature_logits"], asked.join(found, on=["layer", "feature"]))

    def weights_table(self, name: str) -> pa.Table:
        """As `FeatureWorker.weights_table`: feature_logits, feature_neighbours or feature_excitations.

        Where the architecture's norms and heads are not known, nothing excites and nothing is promoted; nor do
        embeddings excite an SAE that does not read the stream.
        """
        settings, sources = self.config.harvest.weights, self._sources()
        frames: Iterable[pl.DataFrame] = ()
        if not self.model.facts.explicit:
            pass
        elif name == "feature_logits":
            frames = feature_logits(self.model, settings.n_promoted_tokens, sources)
        elif name == "feature_neighbours" and settings.n_neighbours:
            frames = feature_neighbours(self.model, settings.n_neighbours, sources)
        elif name == "feature_excitations" and settings.n_exciting_tokens:
            readable = [source for source in sources if source.site is None or source.site in EXCITED_SITES]
            frames = feature_excitations(self.model, settings.n_exciting_tokens, settings.n_exciting_heads, readable)
        tables = [rows.as_table(HARVEST_TABLES[name], frame) for frame in frames]
        return pa.concat_tables(tables) if tables else HARVEST_TABLES[name].arrow_schema().empty_table()

    def _sources(self) -> Sequence[Any]:
        return layer_features(self.model, self.saes, self.config.harvest.layers)

    def _coactivation(self) -> Iterator[Accumulator]:
        if self._chosen:
            n_features = [self._n_features.get(layer, 0) for layer in range(max(self._n_features) + 1)]
            yield CoactivationCounts(self._chosen, n_features)

    def _document(
        self, prompt: Prompt, shard_id: str, counted: dict[str, DocumentCounts], failed: set[str]
    ) -> dict[str, Any]:
        counts = counted.get(prompt.prompt_id, DocumentCounts())
        n_front = int(prompt.token_ids[0] in self.model.special_token_rule.special_ids)
        return {
            "document_id": prompt.prompt_id,
            "shard_id": shard_id,
            "n_tokens": len(prompt.token_ids) - n_front,
            "n_windows": counts.n_windows,
            "n_eligible_tokens": counts.n_eligible,
            "n_special_tokens": counts.n_special,
            "n_high_norm_tokens": counts.n_high_norm,
            "status": "failed" if prompt.prompt_id in failed else "harvested",
            "metadata": json.dumps(prompt.metadata, sort_keys=True, ensure_ascii=False),
        }


def _windows(documents: Sequence[Prompt], rule: SpecialTokenRule, window_tokens: int) -> Iterator[Window]:
    for document in documents:
        yield from windows_of(document.prompt_id, document.token_ids, rule, window_tokens=window_tokens)


def _is_wanted(sae: Dictionary, layers: Sequence[int] | None) -> bool:
    return layers is None or sae.layer in layers


def _failure(prompt: Prompt, shard_id: str, error_class: str, message: str, attempt: int) -> dict[str, Any]:
    return {
        "stage": "harvest",
        "item_id": prompt.prompt_id,
        "shard_id": shard_id,
        "error_class": error_class,
        "message": " ".join(message.split())[:500],
        "text": prompt.text[:2000],
        "attempts": attempt % ATTEMPTS_PER_SESSION + 1,
    }
