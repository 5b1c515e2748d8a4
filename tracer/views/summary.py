"""The end of a run in the terminal: what was traced, what recurs, and where the results lie."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracer.views import formats, readings
from tracer.views.records import FeatureRef, Summary, TokenRef

PAGE_NAME = "page.html"
"""File name of a run's page, beside results.duckdb."""

N_ROWS = 8
FIGURE_WIDTH = 6


def summarise(database: Path, n_rows: int = N_ROWS) -> Summary:
    """The figures of a finished run; lists hold at most `n_rows`, tasks and failure classes all.

    Raises:
        ArtifactError: `database` is absent or does not hold exactly one run.
    """
    run, totals = readings.read_run(database), readings.read_totals(database)
    return Summary(
        run_id=run["run_id"],
        tracer_version=run["tracer_version"],
        config_fingerprint=run["config_fingerprint"],
        model=run["model"],
        transcoders=run["transcoders"],
        n_layers=run["n_layers"],
        corpus=run["corpus"],
        started_at=f"{run['started_at']:%Y-%m-%d %H:%M} UTC",
        n_prompts=run["n_prompts"],
        n_graphs=run["n_graphs"],
        n_failures=run["n_failures"],
        seconds=run["seconds"],
        coverage=readings.read_coverage(database),
        **totals,
        stratified_by=readings.read_strata(run, database),
        label_methods=readings.read_label_methods(database),
        failures=readings.read_failure_counts(database),
        tasks=readings.read_tasks(database),
        features=readings.read_features(database, n_rows),
        pairs=readings.read_pairs(database, n_rows),
        edges=readings.read_edges(database, n_rows),
        database=database,
        page=database.with_name(PAGE_NAME),
    )


def print_summary(summary: Summary, console: Console, *, uri: str | None = None) -> None:
    """Print `summary`, readable at 100 columns; sections without rows are left out.

    Args:
        summary: the figures.
        console: where to.
        uri: the run folder, where it lies in an object store and `summary` was read from a copy.
    """
    console.print()
    console.print(_facts(summary))
    for table in (_tasks(summary), _features(summary), _pairs(summary), _edges(summary)):
        if table.row_count:
            console.print()
            console.print(table)
    if summary.label_methods:
        console.print(Text(f"\n{summary.label_note[0].upper()}{summary.label_note[1:]}.", style="dim"))
    console.print()
    for name, path in (("page", summary.page), ("database", summary.database)):
        if uri is not None or path.exists():
            place = str(path) if uri is None else f"{uri}/{path.name}"
            console.print(Text.assemble((f"{name:<10}", "dim"), place), soft_wrap=True)


def _facts(summary: Summary) -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("run", Text(f"{summary.run_id}, traced in {formats.span(summary.seconds)}", style="bold"))
    facts.add_row("model", Text(f"{summary.model} ({summary.n_layers} layers)\n{summary.transcoders}"))
    facts.add_row("corpus", Text(f"{summary.corpus}, {formats.count(summary.n_prompts)} prompts"))
    rate = f" ({summary.n_graphs / summary.seconds:.1f} per second)" if summary.seconds else ""
    facts.add_row("graphs", f"{formats.count(summary.n_graphs)}{rate}")
    facts.add_row("failures", _failures(summary))
    facts.add_row(
        "means",
        f"replacement {formats.number(summary.replacement_mean)}, completeness "
        f"{formats.number(summary.completeness_mean)}, {formats.number(summary.feature_nodes_mean)} feature nodes",
    )
    if summary.n_answers:
        right, asked = formats.share(summary.accuracy), formats.count(summary.n_answers)
        answers = f"{right} of {asked} are the model's likeliest next token"
        facts.add_row("answers", answers)
    return facts


def _failures(summary: Summary) -> Text:
    if not summary.failures:
        return Text(formats.count(summary.n_failures))
    classes = ", ".join(
        f"{formats.count(failure.n_failures)} {failure.error_class} in {failure.stage}" for failure in summary.failures
    )
    return Text(f"{formats.count(summary.n_failures)}: {classes}", style="yellow")


def _table(title: str, *, texts: dict[str, int], figures: tuple[str, ...]) -> Table:
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for header, width in texts.items():
        table.add_column(header, no_wrap=True, overflow="ellipsis", max_width=width)
    for header in figures:
        table.add_column(header, justify="right", no_wrap=True, min_width=max(len(header), FIGURE_WIDTH))
    return table


def _tasks(summary: Summary) -> Table:
    figures = ("prompts", "graphs", "top-1 right", "replacement", "completeness")
    table = _table("By task", texts={"task": 28}, figures=figures)
    for task in summary.tasks:
        table.add_row(
            Text(task.task),
            formats.count(task.n_prompts),
            formats.count(task.n_graphs),
            formats.share(task.accuracy),
            formats.number(task.replacement_mean),
            formats.number(task.completeness_mean),
        )
    return table


def _features(summary: Summary) -> Table:
    title = f"Features that recur most, of {formats.count(summary.n_features)} kept in any graph"
    table = _table(title, texts={"feature": 64}, figures=("graphs", "of all", "influence"))
    for feature in summary.features:
        table.add_row(
            _named(feature.ref),
            formats.count(feature.support),
            formats.share(feature.graph_frequency),
            formats.share(feature.influence_mean),
        )
    return table


def _pairs(summary: Summary) -> Table:
    title = (
        f"Pairs that co-occur most beyond chance, of {formats.count(summary.n_pairs_beyond_chance)} with q at most "
        f"{readings.LARGEST_Q}\nexpected under {summary.null_model}"
    )
    table = _table(title, texts={"feature a": 30, "feature b": 30}, figures=("support", "expected", "lift", "q"))
    for pair in summary.pairs:
        table.add_row(
            _named(pair.a),
            _named(pair.b),
            formats.count(pair.support),
            formats.number(pair.expected),
            formats.number(pair.lift),
            formats.chance(pair.q),
        )
    return table


def _edges(summary: Summary) -> Table:
    title = "Strongest recurring edges, by edge score over the run"
    table = _table(title, texts={"source": 32, "target": 32}, figures=("support", "mean weight", "same sign"))
    for edge in summary.edges:
        table.add_row(
            _named(edge.source),
            _named(edge.target),
            formats.count(edge.support),
            formats.number(edge.weight_mean),
            formats.share(edge.sign_agreement),
        )
    return table


def _named(ref: FeatureRef | TokenRef) -> Text:
    return Text.assemble((f"{ref.name:<7}", "cyan"), " ", ref.label or "")
