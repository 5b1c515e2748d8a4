"""The settings of a run: YAML in, a checked `RunConfig` out, and the fingerprint of those settings that affect
results.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from tracer.config.aggregate import AggregateConfig
from tracer.config.base import NOT_IN_RESULTS, Settings
from tracer.config.sections import AttributionConfig, CorpusConfig, ModelConfig, PruningConfig, RunnerConfig
from tracer.errors import ConfigError

Config = TypeVar("Config", bound=Settings)


class WorkConfig(Settings):
    """What the configurations of all work with a ledger have in common."""

    model: ModelConfig = Field(description="model and transcoders")
    corpus: CorpusConfig = Field(description="prompts, or documents")
    runner: RunnerConfig = Field(default_factory=RunnerConfig, description="execution")

    def result_settings(self) -> dict[str, Any]:
        """The settings that affect results, as plain data."""
        return result_settings(self)

    def fingerprint(self) -> str:
        """Hash of `result_settings`; with equal corpus, model and transcoder files, an equal one means equal tables."""
        canonical = json.dumps(self.result_settings(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


Work = TypeVar("Work", bound=WorkConfig)


def with_runner(config: Work, **given: int | str | bool | None) -> Work:
    """The same with these settings of `runner`; None leaves one as it is."""
    update = {name: value for name, value in given.items() if value is not None}
    return config.model_copy(update={"runner": config.runner.model_copy(update=update)})


class RunConfig(WorkConfig):
    """Everything that a run needs to know."""

    attribution: AttributionConfig = Field(default_factory=AttributionConfig, description="attribution")
    pruning: PruningConfig = Field(default_factory=PruningConfig, description="pruning")
    aggregate: AggregateConfig = Field(default_factory=AggregateConfig, description="aggregation")


def result_settings(settings: BaseModel) -> dict[str, Any]:
    """The settings of a configuration, or of one section, that affect results, as plain data."""
    kept = {}
    for name, field in type(settings).model_fields.items():
        if field.json_schema_extra == NOT_IN_RESULTS:
            continue
        kept[name] = _plain(getattr(settings, name))
    return kept


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return result_settings(value) if isinstance(value, BaseModel) else value


def load_config(path: Path | str) -> RunConfig:
    """Read the YAML file of a run.

    Raises:
        ConfigError: the file is absent, is not YAML, or a setting is unknown or of the wrong type.
    """
    return parse_config(read_settings(path), where=str(path))


def read_settings(path: Path | str) -> dict[str, Any]:
    """What a YAML file says, unchecked.

    Raises:
        ConfigError: the file is absent or is not YAML of settings.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(str(path), found="no such file", expected="a YAML configuration", to_do="Check the path.")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = " ".join(str(error).split())
        raise ConfigError(str(path), found=found, expected="valid YAML", to_do="Mend the file.") from error
    if not isinstance(settings, dict):
        found = type(settings).__name__
        raise ConfigError(str(path), found=found, expected="a mapping of settings", to_do="See configs/demo.yaml.")
    return settings


def parse_config(settings: dict[str, Any], where: str = "configuration") -> RunConfig:
    """Check plain data against `RunConfig`.

    Raises:
        ConfigError: a setting is unknown, missing or of the wrong type; names the first such setting.
    """
    return checked_config(settings, where, RunConfig)


def checked_config(settings: dict[str, Any], where: str, config_type: type[Config]) -> Config:
    """Check plain data against a configuration of any kind.

    Args:
        settings: the data.
        where: names it in errors.
        config_type: the kind.

    Raises:
        ConfigError: as `parse_config`.
    """
    try:
        return config_type.model_validate(settings)
    except ValidationError as error:
        raise _as_config_error(error, where, config_type) from error


def _as_config_error(error: ValidationError, where: str, config_type: type[BaseModel]) -> ConfigError:
    first, n_more = error.errors()[0], error.error_count() - 1
    setting = ".".join(str(part) for part in first["loc"])
    more = f" {n_more} more setting(s) are wrong too." if n_more else ""
    if first["type"] == "extra_forbidden":
        section = config_type
        for part in first["loc"][:-1]:
            # a number is a place in a list, whose type says what stands there
            annotation = None if isinstance(part, int) else section.model_fields[part].annotation
            for inner in (annotation, *get_args(annotation)):
                section = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else section
        known = ", ".join(section.model_fields)
        return ConfigError(
            f"{where}, {setting}",
            found="an unknown setting",
            expected=f"one of: {known}",
            to_do=f"Remove or rename it.{more}",
        )
    found = "nothing" if first["type"] == "missing" else repr(first["input"])
    return ConfigError(
        f"{where}, {setting}", found=found, expected=first["msg"].lower(), to_do=f"Mend the setting.{more}"
    )
