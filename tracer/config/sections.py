"""The sections of a configuration, but for aggregation, which has a file of its own."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tracer.config.base import NOT_IN_RESULTS, Settings, Share


class ModelConfig(Settings):
    """Which model, with which transcoders, on what."""

    checkpoint: str = Field(
        description="Hugging Face checkpoint: local folder, `package:NAME/path`, `org/repo[/path][@revision]` or "
        "`hf://org/repo[/path][?revision=...]`"
    )
    transcoders: str = Field(
        description="transcoder set in a layout of tracer/model/readers: the same kinds of reference, or "
        "`saelens:RELEASE`"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: CUDA if present", json_schema_extra=NOT_IN_RESULTS
    )
    neuronpedia: str | None = Field(
        None,
        pattern="^[^/]+/[^/]+$",
        description="MODEL_ID/SOURCE_SET of these transcoders on Neuronpedia, to which features are linked then",
        json_schema_extra=NOT_IN_RESULTS,
    )
    lazy_encoder: bool = Field(
        False, description="leave encoders on disk, read anew for every prompt", json_schema_extra=NOT_IN_RESULTS
    )
    lazy_decoder: bool | None = Field(
        None,
        description="leave decoders on disk and read rows of active features; none given: if they are large",
        json_schema_extra=NOT_IN_RESULTS,
    )
    shared_cache: str | None = Field(
        None,
        description="folder on a local disk for weights converted to float32, which all actors of a machine without "
        "GPUs share then; none given: each holds its own",
        json_schema_extra=NOT_IN_RESULTS,
    )
    trust_remote_code: bool = Field(False, description="whether a repository may run code of its own")


class CorpusConfig(Settings):
    """Where the prompts come from and which of them are used."""

    source: str = Field(
        description="`tasks:NAME`, a .jsonl / .parquet / .csv / .txt file, a datasets folder, or the hub name "
        "`org/name[@revision]` of a dataset"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of a `tasks:` generator")
    dataset_config: str | None = Field(None, description="configuration name of a datasets source")
    dataset_split: str = Field("train", description="split of a datasets source")
    streaming: bool = Field(False, description="read a datasets source as a stream")
    text_column: str = Field("text", description="column that holds the prompt")
    metadata_columns: list[str] | None = Field(None, description="columns kept beside the text; none given: all")
    limit: int | None = Field(None, ge=1, description="use at most this many prompts, in source order")
    sample: Share | None = Field(None, description="keep this share of the prompts, chosen by hash")
    sample_seed: int = Field(0, description="seed of that hash")
    max_tokens: int | None = Field(None, ge=2, description="longest prompt, tokens; none given: the model's context")
    truncate: Literal["no", "left", "right"] = Field(
        "no", description="which end of a longer prompt is cut; no: it fails"
    )
    keep_duplicates: bool = Field(False, description="trace identical prompts as often as they occur")


class AttributionConfig(Settings):
    """What is attributed and how exactly."""

    max_n_logits: int = Field(10, ge=1, description="at most this many logit targets")
    desired_logit_prob: Share = Field(0.95, description="probability mass that the logit targets reach")
    max_feature_nodes: int | None = Field(
        None, ge=1, description="hard cap on computed feature rows, most influential first"
    )
    coverage: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.95, description="share of logit weight whose influence is followed; 1.0 computes every row"
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32", description="arithmetic of the engine's large products"
    )
    offload: Literal["cpu", "disk"] | None = Field(
        None,
        description="where the language model's weights that rows do not need lie while rows are computed",
        json_schema_extra=NOT_IN_RESULTS,
    )
    prompts_per_pass: int = Field(
        8, ge=1, description="most prompts attributed in one pass; fixed, because sums round by it"
    )
    head_loadings: Share | None = Field(
        None,
        description="share of every kept edge that its parts in `head_loadings` reach, largest first, the rest as one; "
        "none given: no rows",
    )
    n_qk_scores: int = Field(
        0, ge=0, description="attention scores explained in `qk_edges` per graph: those that carry most of its edges"
    )
    n_qk_sources: int = Field(10, ge=1, description="rows per explained score of each side, and of pairs of sources")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="rows computed at once; none given: chosen from the memory budget",
        json_schema_extra=NOT_IN_RESULTS,
    )
    memory_budget_bytes: int = Field(
        2 * 1024**3,
        ge=2**20,
        description="working memory of attribution, bytes: half for the rows at work, half for rows that are held",
        json_schema_extra=NOT_IN_RESULTS,
    )


class PruningConfig(Settings):
    """How much of a graph is kept."""

    node_threshold: Share = Field(0.8, description="cumulative influence up to which nodes are kept")
    edge_threshold: Share = Field(0.98, description="cumulative edge score up to which edges are kept")


class RunnerConfig(Settings):
    """How the work is spread; nothing here changes a result."""

    out: str | None = Field(
        None, description="run folder; the command line's --out wins", json_schema_extra=NOT_IN_RESULTS
    )
    n_actors: int = Field(
        2,
        ge=1,
        description="most Ray actors, each holding the model; those without room join when there is some",
        json_schema_extra=NOT_IN_RESULTS,
    )
    min_actors: int = Field(
        1, ge=1, description="fewest of them with room, else the run ends", json_schema_extra=NOT_IN_RESULTS
    )
    node_wait_s: float = Field(
        30.0,
        ge=0.0,
        description="time that machines get to join before that, seconds; long where a cluster grows on demand",
        json_schema_extra=NOT_IN_RESULTS,
    )
    cpus_per_actor: float = Field(
        1.0, gt=0, description="CPU cores reserved per actor", json_schema_extra=NOT_IN_RESULTS
    )
    gpus_per_actor: float = Field(
        0.0, ge=0, description="GPUs reserved per actor; may be a fraction", json_schema_extra=NOT_IN_RESULTS
    )
    resources_per_actor: dict[str, Annotated[float, Field(gt=0.0)]] = Field(
        default_factory=dict,
        description="custom Ray resources reserved per actor, by name",
        json_schema_extra=NOT_IN_RESULTS,
    )
    n_threads: int = Field(1, ge=1, description="CPU threads per actor; fixed, because sums round by it")
    shard_size: int = Field(64, ge=1, description="prompts per shard, the unit of commit and retry")
    lease_s: float = Field(
        60.0,
        gt=0.0,
        description="time that the driver of a run in an object store may be silent before another may take its place, "
        "seconds",
        json_schema_extra=NOT_IN_RESULTS,
    )
    max_attempts: int = Field(
        3, ge=1, description="tries per shard before quarantine", json_schema_extra=NOT_IN_RESULTS
    )
    max_load_failures: int = Field(
        3, ge=1, description="failed actor starts before giving up", json_schema_extra=NOT_IN_RESULTS
    )
    hung_after_s: float = Field(
        3600.0,
        gt=0.0,
        description="time, seconds, after which an actor that still loads its model counts as hung; one at a shard "
        "does too, if shards of that size usually take far less, and after ten times this while nothing is usual yet",
        json_schema_extra=NOT_IN_RESULTS,
    )
    profile: bool = Field(
        False, description="say how the time of the workers divides into phases", json_schema_extra=NOT_IN_RESULTS
    )
    log_file: str | None = Field(
        None, description="file for the log, one JSON object a line", json_schema_extra=NOT_IN_RESULTS
    )
