"""What labelling asks of the model itself: done in this process, or in parts by Ray tasks that load a model each."""

from collections.abc import Mapping, Sequence

from tracer.autointerp.direction_evidence import DirectionTask, measure_directions
from tracer.autointerp.feature_evidence import FeatureEvidence, FeatureKey
from tracer.autointerp.scoring.ablation import measure_ablations, read_sites
from tracer.autointerp.scoring.asking import Effect
from tracer.config import RunConfig
from tracer.tables.database import Connection


class ModelTasks:
    """Loads the run's model when it is needed: `runner.n_actors` times on Ray, or here where `inline`."""

    def __init__(self, config: RunConfig, *, inline: bool) -> None:
        self._config, self._inline = config, inline

    def ablate(self, connection: Connection, keys: Sequence[FeatureKey]) -> Mapping[FeatureKey, Effect]:
        """What ablating features does to next tokens; features without a prompt to ablate them in are absent.

        Args:
            connection: to the run's results file.
            keys: the features.

        Raises:
            ModelError: the model cannot be loaded.
            RunError: a Ray task was lost again and again.
        """
        ablations = read_sites(connection, keys)
        if self._inline or not ablations:
            return measure_ablations(self._config.model, ablations) if ablations else {}
        from tracer.run.ray_tasks import ray_model_tasks

        n_parts = min(self._config.runner.n_actors, len(ablations))
        parts = [ablations[start::n_parts] for start in range(n_parts)]
        found: dict[FeatureKey, Effect] = {}
        for effects in ray_model_tasks(measure_ablations, self._config.model, parts, self._config.runner):
            found |= effects
        return {key: found[key] for key in keys if key in found}

    def read_directions(self, task: DirectionTask) -> list[FeatureEvidence]:
        """Evidence about random directions; of one model, on Ray too, for one pass over the texts serves them all.

        Args:
            task: the features in whose place they stand, and the texts.

        Raises:
            ModelError: the model cannot be loaded.
            RunError: the Ray task was lost again and again.
        """
        if self._inline:
            return measure_directions(self._config.model, task)
        from tracer.run.ray_tasks import ray_model_tasks

        (found,) = ray_model_tasks(measure_directions, self._config.model, [task], self._config.runner)
        return found
