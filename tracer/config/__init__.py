"""The settings of a run, section by section; each has a description, and unknown ones are refused."""

from tracer.config.aggregate import AggregateConfig
from tracer.config.base import NOT_IN_RESULTS, Settings, Share
from tracer.config.circuits import CircuitConfig, MotifConfig
from tracer.config.comparison import ComparedKind, ComparisonConfig
from tracer.config.run import RunConfig, load_config, parse_config, result_settings
from tracer.config.sections import AttributionConfig, CorpusConfig, ModelConfig, PruningConfig, RunnerConfig

__all__ = [
    "NOT_IN_RESULTS",
    "AggregateConfig",
    "AttributionConfig",
    "CircuitConfig",
    "ComparedKind",
    "ComparisonConfig",
    "CorpusConfig",
    "ModelConfig",
    "MotifConfig",
    "PruningConfig",
    "RunConfig",
    "RunnerConfig",
    "Settings",
    "Share",
    "load_config",
    "parse_config",
    "result_settings",
]
