"""The settings of labelling: which features, from what, tested how."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from tracer.config.autointerp import ClientConfig
from tracer.config.base import Settings, Share
from tracer.config.run import checked_config, read_settings

Scorer = Literal["detection", "fuzzing", "intruder", "simulation", "output_logits", "output_ablation"]
GroupKind = Literal["consensus", "supernode", "feature_cluster", "profile_cluster", "graph_cluster", "hyperedge", "mlp"]


class LabelConfig(Settings):
    """What a language model labels and how its labels are tested; a count of 0 leaves a step out."""

    influence_share: Share = Field(
        0.95, description="tier 1: features that carry this share of all influence in circuits get a label"
    )
    max_features: int | None = Field(None, ge=1, description="of those at most so many, most influence first")
    keep_imported: bool = Field(True, description="pay for no feature that has an imported label or a person's")
    n_examples: int = Field(15, ge=1, description="texts that a label is made from, half of them the strongest")
    n_circuit_examples: int = Field(3, ge=0, description="prompts of the run shown with what the feature reads there")
    n_scored: int = Field(
        200, ge=0, description="tier 2: labels that are tested, by layer and activation frequency in equal parts"
    )
    scorers: tuple[Scorer, ...] = Field(
        ("detection", "fuzzing", "intruder", "output_logits"),
        description="tests; simulation costs most, output_ablation loads the model",
    )
    n_positives: int = Field(10, ge=1, description="texts of a test in which the feature is active")
    n_negatives: int = Field(10, ge=1, description="texts of a test in which it is not, half of them near misses")
    with_other_label: bool = Field(
        True, description="test each feature also with the label of another one that fires as often: the null"
    )
    with_random_direction: bool = Field(
        False,
        description="test for each feature also the label of a random direction that is active as often: the null of "
        "features that mean nothing. One label and one call of each scorer more a feature, and the model is loaded",
    )
    deep: tuple[str, ...] = Field((), description="tier 3: features looked at again and again, such as L0/12")
    n_drafts: int = Field(5, ge=2, description="tier 3: drafts of a label, each from other texts")
    groups: tuple[GroupKind, ...] = Field(("consensus", "supernode", "mlp"), description="groups that get a label")
    max_groups: int = Field(100, ge=0, description="of each kind at most so many, those in most graphs first")
    seed: int = Field(0, description="what texts and features are drawn by")


class LabellingConfig(Settings):
    """Everything that `tracer label` needs to know when it asks a language model."""

    autointerp: ClientConfig = Field(default_factory=ClientConfig, description="the endpoint, prices and bounds")
    labels: LabelConfig = Field(default_factory=LabelConfig, description="what is labelled and how it is tested")


def load_labelling_config(path: Path | str) -> LabellingConfig:
    """Read the YAML file of a labelling.

    Raises:
        ConfigError: the file is absent, is not YAML, or a setting is unknown or of the wrong type.
    """
    return checked_config(read_settings(path), str(path), LabellingConfig)
