"""Labels that nobody here pays for: a person's, kept beside the machine's, and explanations of others, imported."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracer.autointerp.labeller import feature_id, make_label_id
from tracer.autointerp.rows import Row
from tracer.autointerp.wording import MAX_LABEL_CHARACTERS, without_controls
from tracer.errors import DataError

PERSON = "person"
NEURONPEDIA = "neuronpedia"
MAX_LINE_BYTES = 16 * 1024**2


def person_label(
    target: tuple[str, str], key: tuple[int, int] | None, text: str, *, description: str, author: str
) -> Row:
    """The row of a label that a person gives; the machine's labels stay beside it.

    Args:
        target: kind and id of what is labelled, as in `all_labels`.
        key: layer and index, for a feature.
        text: the label.
        description: more words, or "".
        author: who says so.

    Raises:
        DataError: no text, or a longer one than a graph shows.
    """
    label = without_controls(text)
    if not label or len(text) > MAX_LABEL_CHARACTERS:
        n_characters = len(text) if label else 0
        raise DataError(
            f"label of {target[1]}", found=f"{n_characters} characters", expected=f"1 to {MAX_LABEL_CHARACTERS}",
            to_do="Put what is longer into --description.",
        )  # fmt: skip
    now = datetime.now(UTC)
    return _row(
        target,
        key,
        PERSON,
        label,
        without_controls(description),
        f"edited by {without_controls(author)}",
        now,
        now.isoformat(),
    )


def read_explanations(path: Path, n_layers: int) -> Iterator[Row]:
    """Rows of `all_labels` from explanations in Neuronpedia's export format; those without a word are left out.

    Args:
        path: a folder with `explanations/batch-*.jsonl[.gz]` at any depth, or one such file.
        n_layers: of the run's model; explanations of other layers are refused.

    Raises:
        DataError: no explanation there, or a line that is none.
    """
    files = [path] if path.is_file() else sorted(path.rglob("explanations/batch-*.jsonl*"))
    if not files:
        expected = "explanations/batch-*.jsonl.gz"
        raise DataError(str(path), found="no explanations", expected=expected, to_do="Check the path.")
    for file in files:
        for number, line in enumerate(_lines(file), 1):
            row = _explanation(line, f"{file}, line {number}", n_layers)
            if row["label"]:
                yield row


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                if line.strip():
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(str(file), found=str(error), expected="a whole file", to_do="Fetch it again.") from error


def _explanation(line: bytes, where: str, n_layers: int) -> Row:
    try:
        found = json.loads(line)
        layer, feature = int(str(found["layer"]).split("-")[0]), int(found["index"])
        text = without_controls(str(found["description"]))
    except (ValueError, KeyError, TypeError) as error:
        found_text = without_controls(f"no explanation ({error!r})")
        raise DataError(where, found=found_text, expected="layer, index and description", to_do="Mend it.") from error
    if not 0 <= layer < n_layers or feature < 0:
        raise DataError(
            where, found=f"layer {layer}, feature {feature}", expected=f"a feature of {n_layers} layers",
            to_do="Import the explanations of the run's transcoders.",
        )  # fmt: skip
    model_id, place, kind = (without_controls(str(found.get(name) or "")) for name in ("modelId", "layer", "typeName"))
    method = f"{NEURONPEDIA}:{kind or 'unknown'}"
    label = text if len(text) <= MAX_LABEL_CHARACTERS else text[: MAX_LABEL_CHARACTERS - 1] + "…"
    by = found.get("explanationModelName")
    row = _row(
        ("feature", feature_id(layer, feature)), (layer, feature), method, label, text,
        f"imported from {model_id or 'Neuronpedia'}/{place or layer}/{feature}", _time(found), text,
    )  # fmt: skip
    return row | {"model": by if by is None else without_controls(str(by))}


def _time(found: dict[str, Any]) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(found.get("createdAt")))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _row(
    target: tuple[str, str], key: tuple[int, int] | None, method: str, label: str, description: str, provenance: str,
    created_at: datetime | None, *made_from: str,
) -> Row:  # fmt: skip
    layer, feature = key or (None, None)
    return {
        "label_id": make_label_id(*target, method, *made_from), "target_kind": target[0], "target_id": target[1],
        "layer": layer, "feature": feature, "label": label, "description": description, "method": method,
        "provenance": provenance, "created_at": created_at,
    }  # fmt: skip


def without_copies(rows: Sequence[Row]) -> list[Row]:
    """Each label once, by its id."""
    return list({row["label_id"]: row for row in rows}.values())
