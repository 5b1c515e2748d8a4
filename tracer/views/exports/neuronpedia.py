"""Neuronpedia's bulk import: a folder per layer with release, model, source set and source, and their rows in batches.

`exports/{modelId}/{layer}-{sourceSet}/` holds release.jsonl, model.jsonl, sourceset.jsonl, source.jsonl, and
features/, activations/ and explanations/ with batch-{n}.jsonl.gz; rows of one feature are in batches of one number.
"""

import gzip
from collections.abc import Sequence
from pathlib import Path

from tracer.tables.database import Connection, connect
from tracer.views.exports.feature_readings import FeatureReading, read_layer, read_sizes
from tracer.views.exports.folders import new_folder
from tracer.views.exports.neuronpedia_lines import (
    MAX_INDEX,
    ActivationLine,
    ExplanationLine,
    FeatureLine,
    Line,
)
from tracer.views.exports.neuronpedia_reading import EXPORTS_NAME
from tracer.views.exports.neuronpedia_rows import LineMaker, read_run
from tracer.views.exports.neuronpedia_settings import NeuronpediaSettings
from tracer.views.exports.tally import ExportSummary, Progress, Tally

COMPRESSION = 5
"""Level of gzip."""


def export_neuronpedia(
    database: Path, out: Path, settings: NeuronpediaSettings, progress: Progress | None = None
) -> ExportSummary:
    """Write every feature that fired on the corpus of a run, with its examples and labels.

    Args:
        database: the results.duckdb of a finished run.
        out: a new or empty folder.
        settings: names and owners of what is imported.
        progress: told how far the export is.

    Returns:
        What was written. Left out are features that never fired where firings are counted, or whose index is too
        large, with their examples and labels; and examples with an activation that is no finite number.

    Raises:
        ArtifactError: `database` is no results file, or `out` is not empty.
    """
    with connect(database) as connection, new_folder(out) as folder:
        tally, run = Tally(read_sizes(connection), progress), read_run(connection)
        for layer in range(tally.sizes.n_layers):
            maker = LineMaker(settings, run, layer)
            _write_source(connection, folder / EXPORTS_NAME / settings.model_id / maker.source_id, maker, tally)
    return tally.summary(out)


def _write_source(connection: Connection, folder: Path, maker: LineMaker, tally: Tally) -> None:
    folder.mkdir(parents=True)
    for name, line in (
        ("release", maker.release()),
        ("model", maker.model()),
        ("sourceset", maker.source_set()),
        ("source", maker.source()),
    ):
        (folder / f"{name}.jsonl").write_bytes(_as_json(line))
    for number, batch in enumerate(read_layer(connection, maker.layer)):
        _write_batch(folder, number, batch, maker, tally)
        tally.advance(len(batch))


def _write_batch(folder: Path, number: int, batch: list[FeatureReading], maker: LineMaker, tally: Tally) -> None:
    features: list[FeatureLine] = []
    activations: list[ActivationLine] = []
    explanations: list[ExplanationLine] = []
    for reading in batch:
        spread, frequency = reading.distribution, reading.activation_frequency
        if spread is None or frequency is None or reading.feature > MAX_INDEX:
            continue
        features.append(maker.feature(reading, spread, frequency))
        activations += [maker.activation(reading.feature, example, spread.upper) for example in reading.examples]
        found = (maker.explanation(reading.feature, label) for label in reading.labels)
        explanations += [line for line in found if line is not None]
    for name, lines in (("features", features), ("activations", activations), ("explanations", explanations)):
        _write_lines(folder / name / f"batch-{number}.jsonl.gz", lines)
    tally.n_features += len(features)
    tally.n_examples += len(activations)
    tally.n_labels += len(explanations)


def _write_lines(path: Path, lines: Sequence[Line]) -> None:
    # the importer cannot read the columns of an empty file
    if not lines:
        return
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(b"".join(map(_as_json, lines)), COMPRESSION, mtime=0))


def _as_json(line: Line) -> bytes:
    return line.model_dump_json().encode() + b"\n"
