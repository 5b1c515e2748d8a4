"""The label stage: names for features by rules and, where one is asked, by a language model; the page with them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tracer.autointerp.client.ledger import compact
from tracer.autointerp.feature_evidence import FeatureKey, Source, source_of
from tracer.autointerp.keeping import FOLDER, keep, put_back, put_calls
from tracer.autointerp.rows import Row, Rows
from tracer.config.labels import LabellingConfig
from tracer.corpus.prompt_files import local_corpus
from tracer.errors import ConfigError, DataError
from tracer.run.aggregating import unmarked
from tracer.run.folder import DATABASE_NAME, claimed, existing, local_database
from tracer.run.progress import LiveLine
from tracer.run.record import load_record
from tracer.storage.store import Store
from tracer.tables.database import Connection, connect, rows_of
from tracer.tables.joining import connect_harvest
from tracer.tables.label_writing import as_rows, changed_labels, put_rows, write_labels
from tracer.tables.quoting import literal
from tracer.views.summary import PAGE_NAME

if TYPE_CHECKING:
    from tracer.autointerp.estimating import StageEstimate

FORGET = """
DELETE FROM failures WHERE stage = 'label' AND regexp_matches(item_id, '^(llm|llm_deep|score) ');
DELETE FROM label_score_means
"""
MODEL_TABLES = ("all_labels", "label_scores", "label_splits", "failures")


def label_run(
    root: str | Path,
    *,
    config: LabellingConfig | None = None,
    harvest: str | Path | None = None,
    embedding_model: Path | None = None,
    inline: bool = False,
    only_estimate: bool = False,
    console: Console,
) -> "StageEstimate | None":
    """The label stage alone: labels and page anew from results.duckdb.

    Args:
        root: the run folder, a path or URI.
        config: how a language model is asked; without it only rules label, and what was kept of earlier labels is put
            back.
        harvest: folder of the transcoders' harvest, a path or URI: texts from a reference corpus, which scores need.
        embedding_model: folder of a sentence-transformers model, which tells how alike a feature's texts are.
        inline: load the model, where ablations are asked for, in this process, without Ray.
        only_estimate: ask a sample of a language model's calls, and give what the others will cost.
        console: where progress is shown.

    Raises:
        ArtifactError: `root` is no run folder, was not aggregated yet, or the harvest is of other transcoders, or
            without the documents that random directions are read on.
        ConfigError: scores without a harvest, or no usable endpoint.
        RunError: no call can succeed, or another process holds the run.
        StorageError: an object store does not answer.
    """
    documents = None if config is None else _checked_documents(config, harvest)
    from tracer.run.asking import opened_stage
    from tracer.views.results.opening import local_results

    harvested = None if harvest is None else local_results(harvest)
    with claimed_run(root, console) as store:
        with changed_results(store) as database:
            label(database, console, store)
            if harvested is not None:
                label_from_harvest(database, harvested, console, embedding_model)
            if config is not None:
                with opened_stage(
                    store, database, config, harvested, documents, inline=inline, console=console
                ) as asking:
                    if only_estimate:
                        return asking.estimate()
                    rows = asking.label()
                write_rows(store, database, rows)
            _write_page(database)
        if config is not None:
            compact(store, FOLDER)  # nobody else writes to it: the run is claimed, and what asked is closed
    return None


@contextmanager
def claimed_run(root: str | Path, console: Console) -> Iterator[Store]:
    """The folder of a run, claimed for the time of the block.

    Args:
        root: the run folder, a path or URI.
        console: told what is waited for.

    Raises:
        ArtifactError: it is no run folder.
        RunError: another process holds it.
    """

    def say(words: str) -> None:
        console.print(words, style="dim", markup=False, highlight=False, soft_wrap=True)

    found = existing(root)
    with claimed(found.reference, lease_s=load_record(found).config.runner.lease_s, say=say) as (store, _):
        yield store


@contextmanager
def changed_results(store: Store) -> Iterator[Path]:
    """The results of a run whose labels are changed, as a local file; until the block ends well they are not marked as
    current.

    Args:
        store: the run folder, claimed.
    """
    with unmarked(store), store.working(DATABASE_NAME, PAGE_NAME, copy=True) as place:
        yield place / DATABASE_NAME


def label(database: Path, console: Console, store: Store | None = None) -> None:
    """Fill `labels` of a results file: by rules, and with what was kept of earlier labels; write the page beside it.

    Args:
        database: the results file.
        console: told what is done.
        store: the run folder, where it may hold earlier labels.
    """
    from tracer.autointerp.rules import RuleLabeller
    from tracer.autointerp.run_labels import label_features
    from tracer.autointerp.signals import read_signals

    console.print("labelling", style="dim")
    label_features(database, RuleLabeller())
    with connect(database) as connection:
        signals = read_signals(connection, source_of(connection, has_harvest=False), {})
    with changed_labels(database) as connection:
        put_rows(connection, "feature_signals", signals)
        if store is not None:
            put_back(connection, store)
    _write_page(database)


def label_from_harvest(database: Path, harvest: Path, console: Console, embedding_model: Path | None = None) -> None:
    """Labels by rule for every feature that fired in a harvest, and the signals of each.

    Args:
        database: the run's results file.
        harvest: the harvest's.
        console: told what is done.
        embedding_model: folder of a sentence-transformers model, if there is one.

    Raises:
        ConfigError: that model cannot be loaded.
    """
    from tracer.autointerp.harvest_labels import METHOD, harvest_rows
    from tracer.autointerp.signals import read_signals

    console.print("labelling by rules over the harvest", style="dim")
    with connect_harvest(harvest, database) as connection:
        source = source_of(connection, has_harvest=True)
        labels = [row for batch in harvest_rows(connection, source) for row in batch]
        coherence = {} if embedding_model is None else _coherence(connection, source, embedding_model, console)
        signals = read_signals(connection, source, coherence)
    write_labels(database, METHOD, as_rows("all_labels", labels), as_rows("failures", []))
    with changed_labels(database) as connection:
        put_rows(connection, "feature_signals", signals)


def _coherence(
    connection: Connection, source: Source, embedding_model: Path, console: Console
) -> Mapping[FeatureKey, float]:
    from tracer.autointerp.coherence import load_embedder, read_coherence

    embed, said = load_embedder(embedding_model), [Text("embedding texts")]
    line = LiveLine(console, lambda: said[-1])

    def report(n_done: int, n_features: int) -> None:
        said.append(Text(f"embedding texts of features: {n_done:,} of {n_features:,}"))
        line.changed()

    line.start()
    try:
        return read_coherence(connection, source, embed, report)
    finally:
        line.stop()


def write_rows(store: Store, database: Path, rows: Rows) -> None:
    """Write what labelling made into the results file, and keep it in the run folder.

    Args:
        store: the run folder.
        database: its results file.
        rows: what was made.
    """
    from tracer.autointerp.scoring.rows import mean_rows

    method_of = {row["label_id"]: row["method"] for row in rows.all_labels}
    by_table = {name: as_rows(name, getattr(rows, name)) for name in MODEL_TABLES}
    by_table["label_score_means"] = as_rows("label_score_means", mean_rows(rows.label_scores, method_of))
    with changed_labels(database) as connection:
        connection.execute(FORGET)
        for name, table in by_table.items():
            put_rows(connection, name, table)
        put_calls(connection, store)
        keep(connection, store)


def give_labels(root: str | Path, given: Sequence[Row], console: Console) -> None:
    """Add labels that people or others gave; what else is known stays beside them.

    Args:
        root: the run folder.
        given: rows of `all_labels`.
        console: told what is done.
    """
    with claimed_run(root, console) as store, changed_results(store) as database:
        with changed_labels(database) as connection:
            put_back(connection, store)
            put_rows(connection, "all_labels", as_rows("all_labels", given))
            keep(connection, store)
        _write_page(database)


def import_labels(root: str | Path, path: Path, console: Console) -> int:
    """Add explanations in Neuronpedia's export format; how many labels they are.

    Args:
        root: the run folder.
        path: the folder or file.
        console: told what is done.

    Raises:
        DataError: no explanations, or of another model.
    """
    from tracer.autointerp.given import read_explanations, without_copies

    rows = without_copies(list(read_explanations(path, int(load_record(existing(root)).model["n_layers"]))))
    give_labels(root, rows, console)
    return len(rows)


def target_kind(root: str | Path, target_id: str, key: tuple[int, int] | None) -> str:
    """What a name is the name of: feature, group or component.

    Args:
        root: the run folder.
        target_id: the name.
        key: layer and index, where the name is a feature's.

    Raises:
        DataError: the run knows nothing of that name.
    """
    database = local_database(existing(root))
    known = [] if database is None else rows_of(database, f"""
        SELECT 'feature' FROM features WHERE (layer, feature) = {key or (-1, -1)}
        UNION ALL SELECT 'group' FROM circuits WHERE circuit_id = {literal(target_id)}
        UNION ALL SELECT target_kind FROM all_labels WHERE target_id = {literal(target_id)}
    """)  # fmt: skip
    if not known:
        raise DataError(
            target_id, found="nothing of that name in the run", expected="L0/12, or a target_id of `labels`",
            to_do="`tracer sql RUN 'SELECT target_kind, target_id, label FROM labels'` lists them.",
        )  # fmt: skip
    return str(known[0][0])


def _write_page(database: Path) -> None:
    from tracer.views.page import write_page

    write_page(database, database.with_name(PAGE_NAME))


def _checked_documents(config: LabellingConfig, harvest: str | Path | None) -> Path | None:
    """The folder of the harvest's corpus, if it will be needed, found before anything is paid for."""
    if harvest is None and config.labels.n_scored:
        raise ConfigError(
            "labels.n_scored", found=f"{config.labels.n_scored} labels to test, and no harvest",
            expected="--harvest DIR: texts in which a feature is active and texts in which it is not",
            to_do="Make one with `tracer harvest`, or set labels.n_scored to 0.",
        )  # fmt: skip
    if harvest is None or not (config.labels.n_scored and config.labels.with_random_direction):
        return None
    return local_corpus(harvest)
