"""What an export for Neuronpedia needs to know beside the tables."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints, ValidationError

from tracer.config import Settings
from tracer.errors import ConfigError

Text = Annotated[str, StringConstraints(min_length=1)]
ModelId = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
SourceSetName = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Visibility = Literal["PUBLIC", "UNLISTED", "PRIVATE"]


class ExplanationNames(Settings):
    """Under which names the labels of a method go; both must exist on the server."""

    type_name: Text = Field(description="ExplanationType: how the labels were made")
    model_name: Text | None = Field(None, description="ExplanationModelType: which language model made them, if any")


class NeuronpediaSettings(Settings):
    """Names and owners of what is imported."""

    release: Text = Field(description="name of the release that the source set belongs to")
    description: Text = Field(description="what the release and its source set are")
    urls: tuple[str, ...] = Field((), description="where more is written about them")
    model_id: ModelId = Field(description="the model's id on Neuronpedia")
    model_name: Text = Field(description="the model's name as shown")
    model_owner: Text = Field(description="who made the model")
    neurons_per_layer: int = Field(ge=0, description="MLP neurons per layer of the model")
    instruct: bool = Field(False, description="whether the model is tuned to follow instructions")
    source_set: SourceSetName = Field(description="name of the transcoder set; the source of layer 3 is 3-NAME")
    source_set_type: str = Field("", description="kind of the transcoders, as shown")
    creator_id: Text = Field(description="id of the user on Neuronpedia who owns what is imported")
    creator_name: Text = Field(description="the creator's name as shown")
    visibility: Visibility = Field("PRIVATE", description="who sees model, release and sources")
    explanations: dict[str, ExplanationNames] = Field(
        default_factory=dict, description="by method of `labels`, under which names its labels go; others stay out"
    )


def load_neuronpedia_settings(path: Path) -> NeuronpediaSettings:
    """Read a YAML file.

    Args:
        path: the file.

    Raises:
        ConfigError: the file is absent, is not YAML, or a setting is unknown, absent or wrong.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())
        raise ConfigError(str(path), found=found, expected="a YAML file of settings", to_do="Mend the file.") from error
    try:
        return NeuronpediaSettings.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        setting = ".".join(str(part) for part in first["loc"])
        expected = f"settings among: {', '.join(NeuronpediaSettings.model_fields)}"
        where = f"{path}, {setting}" if setting else str(path)
        raise ConfigError(where, found=first["msg"].lower(), expected=expected, to_do="Mend the setting.") from error
