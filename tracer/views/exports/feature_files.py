"""One feature as circuit-tracer's viewer shows it: the JSON record, its number, and the form with a file per feature.

Source of the format: `frontend/feature_models.py` and `frontend/assets/feature_examples/` of circuit-tracer 0.5.0. The
viewer takes absent fields for unknown; the models in Python want all of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError, model_validator

from tracer.errors import DataError
from tracer.graph.formats.ids import cantor, uncantor

MAX_RECORD_BYTES = 64 * 1024**2
"""Largest record that is read, as JSON text."""


class Record(BaseModel):
    """Base of what is written for, or read from, other tools: finite numbers of the right type; unknown keys are
    skipped.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class ExampleRecord(Record):
    """A window of tokens with the feature's activation at each; `train_token_ind` is the place of the one shown in
    the middle. Repeated data points are drawn faintly.
    """

    tokens_acts_list: tuple[float, ...]
    train_token_ind: int
    is_repeated_datapoint: bool
    tokens: tuple[str, ...]

    @model_validator(mode="after")
    def _check_lengths(self) -> "ExampleRecord":
        if len(self.tokens) != len(self.tokens_acts_list):
            raise ValueError(f"{len(self.tokens)} tokens have {len(self.tokens_acts_list)} activations")
        return self


class ExampleGroup(Record):
    """Examples under a heading."""

    quantile_name: str
    examples: tuple[ExampleRecord, ...]


class FeatureRecord(Record):
    """A feature; `index` is the number that graph files have in `feature` (`cantor`).

    The bars of `histogram` span `act_min` .. `act_max`; `quantile_values` are ascending percentiles.
    """

    transcoder_id: str | None = None
    index: NonNegativeInt
    examples_quantiles: tuple[ExampleGroup, ...]
    top_logits: tuple[str, ...] | None = None
    bottom_logits: tuple[str, ...] | None = None
    act_min: float | None = None
    act_max: float | None = None
    quantile_values: tuple[float, ...] | None = None
    histogram: tuple[float, ...] | None = None
    activation_frequency: float | None = None

    def to_json(self) -> bytes:
        """JSON without the fields that are None."""
        return self.model_dump_json(exclude_none=True).encode()


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """A feature's place and its record."""

    layer: int
    feature: int
    record: FeatureRecord


def parse_record(content: bytes, where: str) -> FeatureRecord:
    """Read a record.

    Args:
        content: JSON text.
        where: names the record in errors.

    Raises:
        DataError: no JSON, a field absent or of the wrong type, or a number that is not finite.
    """
    try:
        return FeatureRecord.model_validate_json(content)
    except ValidationError as error:
        raise as_data_error(error, where, "a feature record of circuit-tracer") from error


def check_number(record: FeatureRecord, layer: int, feature: int, where: str) -> None:
    """Refuse a record that is another feature's; `index` is the number of `cantor`, in some packs the feature's own.

    Args:
        record: the record.
        layer: of the feature whose place it is in.
        feature: its index within the layer.
        where: names the record in errors.

    Raises:
        DataError: `index` is neither number.
    """
    number = cantor(layer, feature)
    if record.index not in (number, feature):
        raise DataError(
            where, found=f"index {record.index}",
            expected=f"{number} or {feature} for feature {feature} of layer {layer}",
            to_do="Write or download the file again.",
        )  # fmt: skip


def as_data_error(error: ValidationError, where: str, expected: str) -> DataError:
    """The first thing that is wrong, as an error for the user."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    found = f"{field}: {first['msg']}" if field else first["msg"]
    return DataError(where, found=found, expected=expected, to_do="Write or download the file again.")


def write_files(folder: Path, files: Iterable[FeatureFile]) -> None:
    """Write `{number}.json` per feature into an existing folder; the number is that of `cantor`."""
    for file in files:
        (folder / f"{cantor(file.layer, file.feature)}.json").write_bytes(file.record.to_json())


def read_files(folder: Path) -> Iterator[FeatureFile]:
    """The features of a folder that `write_files` filled, by layer and feature; other files are passed over.

    Raises:
        DataError: a file is larger than `MAX_RECORD_BYTES`, no feature record, or one of another feature.
    """
    numbers = [int(path.stem) for path in folder.glob("*.json") if path.stem.isascii() and path.stem.isdigit()]
    for (layer, feature), number in sorted((uncantor(number), number) for number in numbers):
        path = folder / f"{number}.json"
        with path.open("rb") as file:
            content = file.read(MAX_RECORD_BYTES + 1)
        if len(content) > MAX_RECORD_BYTES:
            expected = f"at most {MAX_RECORD_BYTES} bytes"
            raise DataError(str(path), found="a larger file", expected=expected, to_do="Check where it comes from.")
        record = parse_record(content, str(path))
        check_number(record, layer, feature, str(path))
        yield FeatureFile(layer, feature, record)
