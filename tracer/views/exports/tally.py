"""What an export has written so far, and the summary of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tracer.views.exports.feature_readings import TableSizes

Progress = Callable[[int, int], None]
"""Told, after every batch, how many features are done and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSummary:
    """What an export wrote into `folder`, and how much of the tables the other tool's format could not take."""

    folder: Path
    n_layers: int
    n_features: int
    n_examples: int
    n_labels: int
    n_features_left_out: int
    n_examples_left_out: int


@dataclass(slots=True)
class Tally:
    """Counts of what was written; `advance` tells `progress` after every batch."""

    sizes: TableSizes
    progress: Progress | None
    n_done: int = 0
    n_features: int = 0
    n_examples: int = 0
    n_labels: int = 0

    def advance(self, n_features: int) -> None:
        """Say that so many more features were looked at."""
        self.n_done += n_features
        if self.progress:
            self.progress(self.n_done, self.sizes.n_features)

    def summary(self, folder: Path) -> ExportSummary:
        """The counts, and what is missing from them."""
        return ExportSummary(
            folder=folder,
            n_layers=self.sizes.n_layers,
            n_features=self.n_features,
            n_examples=self.n_examples,
            n_labels=self.n_labels,
            n_features_left_out=self.sizes.n_features - self.n_features,
            n_examples_left_out=self.sizes.n_examples - self.n_examples,
        )
