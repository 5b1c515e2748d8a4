"""Labels every feature that takes part in a graph, and writes labels and failures into the results file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tracer.autointerp.evidence import read_evidence
from tracer.autointerp.labeller import Evidence, Label, Labeller, feature_id, make_label_id
from tracer.tables.label_writing import as_rows, write_labels

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
    write_labels(database, labeller.name, as_rows("all_labels", labels), as_rows("failures", failures))
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
    labels += [label_row(label, labeller.name) for label in found]


def label_row(label: Label, method: str) -> dict[str, Any]:
    """The row of `all_labels` of a label without a language model.

    Args:
        label: the label.
        method: who labelled.
    """
    target_id = feature_id(label.layer, label.feature)
    row = asdict(label)
    for name in ("precision", "recall"):
        row[f"{name}_low"], row[f"{name}_high"] = row.pop(f"{name}_interval") or (None, None)
    return row | {
        "label_id": make_label_id("feature", target_id, method),
        "target_kind": "feature",
        "target_id": target_id,
        "method": method,
        "rule_tokens": list(label.rule_tokens) if label.rule_kind else None,
    }


def _failure(labeller: Labeller, evidence: Evidence, error: Exception) -> dict[str, Any]:
    return {
        "stage": "label",
        "item_id": f"{labeller.name} layer {evidence.layer} feature {evidence.feature}",
        "error_class": type(error).__name__,
        "message": str(error),
        "attempts": 1,
    }
