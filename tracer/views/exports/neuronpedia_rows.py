"""Lines for Neuronpedia from what was read of a feature."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from tracer.tables.database import Connection
from tracer.views.exports.activation_distribution import ActivationDistribution
from tracer.views.exports.feature_readings import Effects, ExampleReading, FeatureReading, LabelReading
from tracer.views.exports.neuronpedia_lines import (
    MAX_CHARACTERS,
    MAX_EFFECTS,
    MAX_TOKENS,
    TOP_GROUP,
    ActivationLine,
    ExplanationLine,
    FeatureLine,
    ModelLine,
    ReleaseLine,
    SourceLine,
    SourceSetLine,
    stable_id,
    without_nul,
)
from tracer.views.exports.neuronpedia_settings import NeuronpediaSettings
from tracer.views.formats import shorten

RUN_SQL = """
SELECT n_layers, n_prompts, corpus, model, transcoders, config_fingerprint, corpus_fingerprint, tracer_version,
    epoch_ms(started_at) FROM runs
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What every line takes from the run; `created_at` is when the run began, so that two exports are equal."""

    n_layers: int
    n_prompts: int
    corpus: str
    notes: str
    created_at: str


def read_run(connection: Connection) -> RunFacts:
    """The facts of the run."""
    row = connection.execute(RUN_SQL).fetchall()[0]
    n_layers, n_prompts, corpus, model, transcoders, config, corpus_hash, version, started_ms = row
    began = datetime.fromtimestamp(started_ms / 1000, UTC)
    return RunFacts(
        n_layers=n_layers,
        n_prompts=n_prompts,
        corpus=without_nul(corpus),
        notes=without_nul(
            f"tracer {version}: transcoders {transcoders} of {model} on the corpus {corpus}; "
            f"fingerprints of configuration {config} and corpus {corpus_hash}"
        ),
        created_at=began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )


@dataclass(frozen=True, slots=True)
class LineMaker:
    """Makes the lines of one source, which is a layer of the transcoder set."""

    settings: NeuronpediaSettings
    run: RunFacts
    layer: int

    @property
    def source_id(self) -> str:
        """What the tables call `layer`."""
        return f"{self.layer}-{self.settings.source_set}"

    def release(self) -> ReleaseLine:
        """The release."""
        return ReleaseLine(
            name=self.settings.release,
            description=self.settings.description,
            urls=self.settings.urls,
            creatorName=self.settings.creator_name,
            creatorId=self.settings.creator_id,
            visibility=self.settings.visibility,
            createdAt=self.run.created_at,
        )

    def model(self) -> ModelLine:
        """The model; where the server has one of this id, the importer keeps that."""
        return ModelLine(
            id=self.settings.model_id,
            displayName=self.settings.model_name,
            displayNameShort=self.settings.model_name,
            creatorId=self.settings.creator_id,
            layers=self.run.n_layers,
            neuronsPerLayer=self.settings.neurons_per_layer,
            owner=self.settings.model_owner,
            instruct=self.settings.instruct,
            visibility=self.settings.visibility,
            createdAt=self.run.created_at,
        )

    def source_set(self) -> SourceSetLine:
        """The source set."""
        return SourceSetLine(
            modelId=self.settings.model_id,
            name=self.settings.source_set,
            description=self.settings.description,
            type=self.settings.source_set_type,
            creatorName=self.settings.creator_name,
            urls=self.settings.urls,
            creatorId=self.settings.creator_id,
            releaseName=self.settings.release,
            hasDashboards=True,
            allowInferenceSearch=False,
            visibility=self.settings.visibility,
            createdAt=self.run.created_at,
        )

    def source(self) -> SourceLine:
        """The source."""
        return SourceLine(
            id=self.source_id,
            modelId=self.settings.model_id,
            setName=self.settings.source_set,
            creatorId=self.settings.creator_id,
            hasDashboards=True,
            visibility=self.settings.visibility,
            num_prompts=self.run.n_prompts,
            dataset=self.run.corpus,
            notes=self.run.notes,
            createdAt=self.run.created_at,
        )

    def feature(self, reading: FeatureReading, spread: ActivationDistribution, frequency: float) -> FeatureLine:
        """A feature that fired: its distribution and frequency are measured."""
        promoted, suppressed = _shown(reading.promoted), _shown(reading.suppressed)
        heights, middles = spread.histogram()
        return FeatureLine(
            modelId=self.settings.model_id,
            layer=self.source_id,
            index=str(reading.feature),
            sourceSetName=self.settings.source_set,
            creatorId=self.settings.creator_id,
            createdAt=self.run.created_at,
            maxActApprox=spread.upper,
            hasVector=False,
            neg_str=tuple(token for token, _ in suppressed),
            neg_values=tuple(value for _, value in suppressed),
            pos_str=tuple(token for token, _ in promoted),
            pos_values=tuple(value for _, value in promoted),
            frac_nonzero=frequency,
            freq_hist_data_bar_heights=tuple(heights),
            freq_hist_data_bar_values=tuple(middles),
        )

    def activation(self, feature: int, example: ExampleReading, activation_max: float) -> ActivationLine:
        """An example; of a longer window, the tokens around the peak."""
        start = max(0, min(example.peak_idx - MAX_TOKENS // 2, len(example.tokens) - MAX_TOKENS))
        tokens = tuple(without_nul(token) for token in example.tokens[start : start + MAX_TOKENS])
        values = example.activations[start : start + MAX_TOKENS]
        data_index = f"{example.prompt_id}:{example.pos}"
        return ActivationLine(
            id=stable_id("activation", self.settings.model_id, self.source_id, str(feature), data_index),
            tokens=tokens,
            dataIndex=data_index,
            index=str(feature),
            layer=self.source_id,
            modelId=self.settings.model_id,
            dataSource=self.run.corpus,
            maxValue=max(values),
            maxValueTokenIndex=values.index(max(values)),
            minValue=min(values),
            values=values,
            creatorId=self.settings.creator_id,
            createdAt=self.run.created_at,
            binMin=TOP_GROUP,
            binMax=activation_max,
            binContains=TOP_GROUP,
            qualifyingTokenIndex=example.peak_idx - start,
        )

    def explanation(self, feature: int, label: LabelReading) -> ExplanationLine | None:
        """A label; None where its method has no names in the settings, or it says nothing."""
        names = self.settings.explanations.get(label.method)
        text = shorten(without_nul(label.label).strip(), MAX_CHARACTERS)
        if names is None or not text:
            return None
        return ExplanationLine(
            id=stable_id(
                "explanation", self.settings.model_id, self.source_id, str(feature), label.method, names.type_name, text
            ),
            modelId=self.settings.model_id,
            layer=self.source_id,
            index=str(feature),
            description=text,
            authorId=self.settings.creator_id,
            notes=without_nul(f"{label.description}\n{label.provenance}"),
            typeName=names.type_name,
            explanationModelName=names.model_name,
            createdAt=self.run.created_at,
        )


def _shown(effects: Effects | None) -> Effects:
    return tuple((without_nul(token), value) for token, value in effects or () if math.isfinite(value))[:MAX_EFFECTS]
