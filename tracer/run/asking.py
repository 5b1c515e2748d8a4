"""The label stage with a language model: what it asks with, the order of its steps, what they would cost."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tracer.autointerp.client.answerer import Answerer
from tracer.autointerp.direction_evidence import direction_task
from tracer.autointerp.estimating import StageEstimate, estimate_stage
from tracer.autointerp.feature_evidence import FeatureEvidence, FeatureKey, source_of
from tracer.autointerp.groups import label_groups
from tracer.autointerp.keeping import FOLDER
from tracer.autointerp.rows import Rows
from tracer.autointerp.scoring.asking import Effect
from tracer.autointerp.stage import Stage
from tracer.autointerp.tier1 import label_features
from tracer.autointerp.tier2 import score_labels
from tracer.autointerp.tier3 import look_deeper
from tracer.config.labels import LabellingConfig
from tracer.run.label_progress import LabelProgress
from tracer.run.model_tasks import ModelTasks
from tracer.run.record import load_record
from tracer.storage.store import Store
from tracer.tables.database import connect
from tracer.tables.joining import connect_harvest


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A stage, what answers it, the model that is measured in, and the folder of documents, if they are needed."""

    stage: Stage
    answerer: Answerer
    tasks: ModelTasks
    documents: Path | None

    def label(self) -> Rows:
        """Labels of features, their tests, deep looks, labels of groups; goes on where an earlier go was stopped, since
        what was answered is in the ledger.
        """
        settings, is_tested = self.stage.settings, self.stage.source.is_harvest
        label_features(self.stage)
        if is_tested and settings.n_scored:
            score_labels(self.stage, self.ablate, self.read_directions)
        if settings.deep:
            deep = look_deeper(self.stage)
            if is_tested and deep:
                score_labels(self.stage, self.ablate, only=deep)
        if settings.max_groups:
            label_groups(self.stage)
        return self.stage.rows

    def estimate(self) -> StageEstimate:
        """What that will cost, from a sample, which is asked."""
        return estimate_stage(
            self.stage, self.answerer, measure_effects=self.ablate, measure_directions=self.read_directions
        )

    def ablate(self, keys: Sequence[FeatureKey]) -> Mapping[FeatureKey, Effect]:
        """What ablating features does to next tokens."""
        return self.tasks.ablate(self.stage.connection, keys)

    def read_directions(self, frequencies: Mapping[FeatureKey, float]) -> Sequence[FeatureEvidence]:
        """Evidence about a random direction for each feature, active as often."""
        assert self.documents is not None, "random directions are read on documents of the harvest"
        return self.tasks.read_directions(direction_task(self.stage, self.documents, frequencies))


@contextmanager
def opened_stage(
    store: Store, database: Path, config: LabellingConfig, harvest: Path | None, documents: Path | None, *,
    inline: bool, console: Console,
) -> Iterator[Asking]:  # fmt: skip
    """What is needed to ask a language model about a run.

    Args:
        store: the run folder.
        database: its results file, with labels by rule.
        config: the endpoint, and what is labelled and tested.
        harvest: the harvest's results file, if there is one.
        documents: a local folder with the harvest's corpus, which random directions are read on.
        inline: whether Ray stays out.
        console: where progress is shown.
    """
    tasks = ModelTasks(load_record(store).run_config, inline=inline)
    with (
        connect(database) if harvest is None else connect_harvest(harvest, database) as connection,
        Answerer(config.autointerp, store, FOLDER) as answerer,
        LabelProgress(console, answerer) as progress,
    ):
        stage = Stage(
            connection=connection, source=source_of(connection, has_harvest=harvest is not None), answerer=answerer,
            settings=config.labels, model=answerer.place.model, watcher=progress,
        )  # fmt: skip
        yield Asking(stage=stage, answerer=answerer, tasks=tasks, documents=documents)
