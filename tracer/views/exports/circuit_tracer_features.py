"""Feature files for circuit-tracer's viewer, from the tables of a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tracer.graph.formats.ids import cantor
from tracer.tables.database import Connection, connect
from tracer.views.exports.activation_distribution import ActivationDistribution
from tracer.views.exports.feature_files import (
    ExampleGroup,
    ExampleRecord,
    FeatureFile,
    FeatureRecord,
    write_files,
)
from tracer.views.exports.feature_pack import write_pack
from tracer.views.exports.feature_readings import ExampleReading, FeatureReading, read_layer, read_sizes
from tracer.views.exports.folders import new_folder
from tracer.views.exports.tally import ExportSummary, Progress, Tally

TOP_GROUP = "Top activations"
FileForm = Literal["pack", "files"]


def export_circuit_tracer(
    database: Path, out: Path, *, transcoder_id: str, form: FileForm = "pack", progress: Progress | None = None
) -> ExportSummary:
    """Write every feature that fired on the corpus of a run; frequencies and percentiles are those of that corpus.

    Args:
        database: the results.duckdb of a finished run.
        out: a new or empty folder.
        transcoder_id: what the files call the transcoders.
        form: `pack`, one file per layer and an index, for a repository on the hub; or `files`, one JSON file per
            feature, for a viewer that serves a local folder.
        progress: told how far the export is.

    Returns:
        What was written. Left out are features that never fired where firings are counted, and examples with an
        activation that is no finite number.

    Raises:
        ArtifactError: `database` is no results file, or `out` is not empty.
    """
    with connect(database) as connection, new_folder(out) as folder:
        tally = Tally(read_sizes(connection), progress)
        layers = (_layer_files(connection, layer, transcoder_id, tally) for layer in range(tally.sizes.n_layers))
        if form == "pack":
            write_pack(folder, layers)
        else:
            for files in layers:
                write_files(folder, files)
    return tally.summary(out)


def _layer_files(connection: Connection, layer: int, transcoder_id: str, tally: Tally) -> Iterator[FeatureFile]:
    for batch in read_layer(connection, layer):
        for reading in batch:
            if reading.distribution is None:
                continue
            tally.n_features += 1
            tally.n_examples += len(reading.examples)
            yield FeatureFile(layer, reading.feature, _record(reading, reading.distribution, transcoder_id))
        tally.advance(len(batch))


def _record(reading: FeatureReading, spread: ActivationDistribution, transcoder_id: str) -> FeatureRecord:
    return FeatureRecord(
        transcoder_id=transcoder_id,
        index=cantor(reading.layer, reading.feature),
        examples_quantiles=(ExampleGroup(quantile_name=TOP_GROUP, examples=_examples(reading.examples)),),
        top_logits=None if reading.promoted is None else tuple(token for token, _ in reading.promoted),
        bottom_logits=None if reading.suppressed is None else tuple(token for token, _ in reading.suppressed),
        act_min=spread.lower,
        act_max=spread.upper,
        quantile_values=tuple(spread.percentiles()),
        histogram=tuple(spread.histogram()[0]),
        activation_frequency=reading.activation_frequency,
    )


def _examples(readings: tuple[ExampleReading, ...]) -> tuple[ExampleRecord, ...]:
    seen: set[tuple[str, ...]] = set()
    records = []
    for reading in readings:
        records.append(
            ExampleRecord(
                tokens_acts_list=reading.activations,
                train_token_ind=reading.peak_idx,
                is_repeated_datapoint=reading.tokens in seen,
                tokens=reading.tokens,
            )
        )
        seen.add(reading.tokens)
    return tuple(records)
