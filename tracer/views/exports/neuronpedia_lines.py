"""The lines of Neuronpedia's bulk import: one class per file, its fields named as the columns of the table it fills.

Source: `apps/webapp/prisma/schema.prisma` and `apps/webapp/lib/db/import.ts` of hijohnnylin/neuronpedia. The importer
takes the columns from the first line of a file, so every line has every field of its class. Columns that no run can
fill are in no line, and get the table's defaults.
"""

import hashlib

from pydantic import ConfigDict

from tracer.views.exports.feature_files import Record
from tracer.views.exports.neuronpedia_settings import Visibility

MAX_INDEX = 10_000_000
MAX_EFFECTS, MAX_TOKENS, MAX_CHARACTERS = 20, 1024, 512
"""Most promoted or suppressed tokens of a feature, tokens of an activation, characters of an explanation."""

TOP_GROUP = -1.0
"""`binMin` and `binContains` of an activation that is one of the largest, not of an interval."""


class Line(Record):
    """Base of all lines: every field of its class is there, and no other, so that all lines of a file are alike."""

    model_config = ConfigDict(extra="forbid")


class ReleaseLine(Line):
    """The line of release.jsonl, table SourceRelease."""

    name: str
    description: str
    urls: tuple[str, ...]
    creatorName: str
    creatorId: str
    visibility: Visibility
    createdAt: str


class ModelLine(Line):
    """The line of model.jsonl, table Model."""

    id: str
    displayName: str
    displayNameShort: str
    creatorId: str
    layers: int
    neuronsPerLayer: int
    owner: str
    instruct: bool
    visibility: Visibility
    createdAt: str


class SourceSetLine(Line):
    """The line of sourceset.jsonl, table SourceSet."""

    modelId: str
    name: str
    description: str
    type: str
    creatorName: str
    urls: tuple[str, ...]
    creatorId: str
    releaseName: str
    hasDashboards: bool
    allowInferenceSearch: bool
    visibility: Visibility
    createdAt: str


class SourceLine(Line):
    """The line of source.jsonl, table Source."""

    id: str
    modelId: str
    setName: str
    creatorId: str
    hasDashboards: bool
    visibility: Visibility
    num_prompts: int
    dataset: str
    notes: str
    createdAt: str


class FeatureLine(Line):
    """A line of features/, table Neuron."""

    modelId: str
    layer: str
    index: str
    sourceSetName: str
    creatorId: str
    createdAt: str
    maxActApprox: float
    hasVector: bool
    neg_str: tuple[str, ...]
    neg_values: tuple[float, ...]
    pos_str: tuple[str, ...]
    pos_values: tuple[float, ...]
    frac_nonzero: float
    freq_hist_data_bar_heights: tuple[float, ...]
    freq_hist_data_bar_values: tuple[float, ...]


class ActivationLine(Line):
    """A line of activations/, table Activation; `dataIndex` is prompt and position, `PROMPT_ID:POS`."""

    id: str
    tokens: tuple[str, ...]
    dataIndex: str
    index: str
    layer: str
    modelId: str
    dataSource: str
    maxValue: float
    maxValueTokenIndex: int
    minValue: float
    values: tuple[float, ...]
    creatorId: str
    createdAt: str
    binMin: float
    binMax: float
    binContains: float
    qualifyingTokenIndex: int


class ExplanationLine(Line):
    """A line of explanations/, table Explanation; `notes` are the label's description and provenance."""

    id: str
    modelId: str
    layer: str
    index: str
    description: str
    authorId: str
    notes: str
    typeName: str
    explanationModelName: str | None
    createdAt: str


def stable_id(*parts: str) -> str:
    """25 characters in the form of Neuronpedia's ids (cuid): equal for equal parts."""
    digest = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest())
    digits = []
    for _ in range(24):
        digest, digit = divmod(digest, 36)
        digits.append("0123456789abcdefghijklmnopqrstuvwxyz"[digit])
    return "c" + "".join(digits)


def without_nul(text: str) -> str:
    """`text` without NUL, which the database's texts cannot hold, and without the escape of it spelled out, which the
    importer takes for one.
    """
    return text.replace("\0", "").replace("\\u0000", "")
