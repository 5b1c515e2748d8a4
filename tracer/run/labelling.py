"""The label stage: names for features by rules, and the page that shows them."""

from pathlib import Path

from rich.console import Console

from tracer.run.aggregating import unmarked
from tracer.run.folder import DATABASE_NAME, claimed, existing
from tracer.views.summary import PAGE_NAME


def label_run(root: str | Path, *, console: Console) -> None:
    """The label stage alone: labels and page anew from results.duckdb.

    Raises:
        ArtifactError: `root` is no run folder, or was not aggregated yet.
    """

    def say(words: str) -> None:
        console.print(words, style="dim", markup=False, highlight=False, soft_wrap=True)

    with (
        claimed(existing(root).reference, say=say) as (store, _),
        unmarked(store),
        store.working(DATABASE_NAME, PAGE_NAME, copy=True) as place,
    ):
        label(place / DATABASE_NAME, console)


def label(database: Path, console: Console) -> None:
    """Fill `labels` of a results file and write the page beside it."""
    from tracer.autointerp.rules import RuleLabeller
    from tracer.autointerp.run_labels import label_features
    from tracer.views.page import write_page

    console.print("labelling", style="dim")
    label_features(database, RuleLabeller())
    write_page(database, database.with_name(PAGE_NAME))
