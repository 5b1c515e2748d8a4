"""The settings of a harvest: a reference corpus, how it is cut into windows, what is kept of each feature."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tracer.config.base import NOT_IN_RESULTS, Settings, Share
from tracer.config.coactivation import CoactivationConfig
from tracer.config.run import RunConfig, WorkConfig, checked_config, read_settings


class WindowConfig(Settings):
    """How documents become windows, and which of their positions count."""

    packed: bool = Field(
        True,
        description="true: a document is cut into windows back to back, to its end; false: each document is one "
        "window, its first `window_tokens`. No window holds parts of two documents",
    )
    window_tokens: int = Field(128, ge=2, description="longest window, tokens, the special one in front included")
    limit: int | None = Field(25_600, ge=1, description="use at most this many windows, in the order of the corpus")
    high_norm_ratio: Annotated[float, Field(gt=1.0)] | None = Field(
        10.0,
        description="a position is left out where the stream in front of any layer has more than this times the "
        "median norm of its window, special tokens aside; none: no position is",
    )


class ExampleConfig(Settings):
    """Which windows are kept to show a feature."""

    n_top: int = Field(25, ge=1, description="windows of largest activation, one per document and per text")
    n_quantiles: int = Field(5, ge=1, description="groups of equal number into which drawn firings are sorted")
    n_per_quantile: int = Field(5, ge=0, description="firings drawn for each group, one per document")
    n_random: int = Field(10, ge=0, description="windows in which the feature is not active at all")
    n_near_miss: int = Field(
        10, ge=0, description="such windows that hold one of its tokens, or in which a neighbour of it is active"
    )
    n_reference_windows: int = Field(
        256, ge=1, description="windows, drawn by hash, from which those without the feature are chosen"
    )
    n_before: int = Field(23, ge=0, description="tokens shown in front of the firing")
    n_after: int = Field(8, ge=0, description="tokens shown behind it")
    seed: int = Field(0, description="seed of all draws")


class WeightsConfig(Settings):
    """How much is listed of what the weights of a feature say, without any text."""

    n_promoted_tokens: int = Field(20, ge=1, description="promoted and suppressed tokens kept per feature")
    n_neighbours: int = Field(
        10, ge=0, description="features of most similar write vectors, of its layer and of others; 0: not looked for"
    )
    n_exciting_tokens: int = Field(
        10, ge=0, description="tokens whose embeddings excite a feature most, for each path; 0: not looked for"
    )
    n_exciting_heads: int = Field(3, ge=0, description="paths through one attention head kept per feature")


class HarvestSettings(Settings):
    """What is collected, and with which arithmetic."""

    windows: WindowConfig = Field(default_factory=WindowConfig, description="windows")
    examples: ExampleConfig = Field(default_factory=ExampleConfig, description="examples")
    saes: list[str] = Field(
        default_factory=list,
        description="SAEs saved by sae-lens, at most one a layer, harvested in the place of the transcoders",
    )
    layers: Annotated[list[int], Field(min_length=1)] | None = Field(
        None, description="layers whose features are harvested; none given: all"
    )
    dense_frequency: Share = Field(0.1, description="share of token positions above which a feature is flagged dense")
    coactivation: CoactivationConfig = Field(
        default_factory=CoactivationConfig,
        description="features whose co-activation is counted; none named: nothing is",
    )
    weights: WeightsConfig = Field(default_factory=WeightsConfig, description="what is listed of a feature's weights")
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32", description="arithmetic of encoder products, which are summed in float32"
    )
    model_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="precision in which the language model is held and run"
    )
    batch_tokens: int = Field(4096, ge=1, description="token positions encoded at once; fixed, sums round by it")
    memory_limit_bytes: int = Field(
        4 * 1024**3,
        ge=2**28,
        description="memory of the database while shards are merged, bytes; what does not fit lies on disk meanwhile",
        json_schema_extra=NOT_IN_RESULTS,
    )


class HarvestConfig(WorkConfig):
    """Everything that a harvest needs to know. A row of `corpus` is a document; `corpus.limit` counts documents,
    `runner.shard_size` windows.
    """

    harvest: HarvestSettings = Field(default_factory=HarvestSettings, description="what is collected")


def load_harvest_config(path: Path | str) -> HarvestConfig:
    """Read the YAML file of a harvest.

    Raises:
        ConfigError: the file is absent, is not YAML, or a setting is unknown or of the wrong type.
    """
    return checked_config(read_settings(path), str(path), HarvestConfig)


def load_any_config(path: Path | str) -> RunConfig | HarvestConfig:
    """Read the YAML file of a harvest, which has a section `harvest`, or of a run.

    Raises:
        ConfigError: as `load_harvest_config`.
    """
    settings = read_settings(path)
    if "harvest" in settings:
        return checked_config(settings, str(path), HarvestConfig)
    return checked_config(settings, str(path), RunConfig)
