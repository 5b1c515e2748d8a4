"""Labels every feature that takes part in a graph, and writes labels and failures into the results file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracer.autointerp.evidence import read_evidence
from tracer.autointerp.labeller import Evidence, Label, Labeller
from tracer.tables.building import write_labels
from tracer.tables.schema import TABLES

Rows = list[dict[str, Any]]


def label_features(database: Path, labeller: Labeller) -> int:
    """Label every feature with `support >= 1`; the number of labels written.

    Earlier labels and failures of the same labeller are replaced. A feature whose labelling raises an error becomes a
    row of `failures`; the others go on.

    Raises:
        ArtifactError: the file is absent, not a results file, or open for writing elsewhere.
    """
    labels: Rows = []
    failures: Rows = []
    for batch in read_evidence(database):
        _label_batch(labeller, batch, labels, failures)
    write_labels(database, labeller.name, _arrow("labels", labels), _arrow("failures", failures))
    return len(labels)


def _label_batch(labeller: Labeller, batch: Sequence[Evidence], labels: Rows, failures: Rows) -> None:
    try:
        found = labeller.label(batch)
    except Exception as error:  # noqa: BLE001 - one bad feature must not take its batch, or the run, with it
        if len(batch) == 1:
            failures.append(_failure(labeller, batch[0], error))
            return
        for evidence in batch:
            _label_batch(labeller, [evidence], labels, failures)
        return
    labels += [_row(labeller, label) for label in found]


def _row(labeller: Labeller, label: Label) -> dict[str, Any]:
    row = asdict(label) | {"target_kind": "feature", "method": labeller.name}
    return row | {"rule_tokens": list(label.rule_tokens) if label.rule_kind else None}


def _failure(labeller: Labeller, evidence: Evidence, error: Exception) -> dict[str, Any]:
    return {
        "stage": "label",
        "item_id": f"{labeller.name} layer {evidence.layer} feature {evidence.feature}",
        "error_class": type(error).__name__,
        "message": str(error),
        "attempts": 1,
    }


def _arrow(name: str, rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=TABLES[name].arrow_schema())
