"""Where `tracer attribute` and `tracer import` write: checked before anything slow begins, written at the end."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tracer.graph import Graph

VIEWERS, OWN = ".json", ".safetensors"
"""Endings of graph files: for viewers, pruned; tracer's own, whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What was asked for, and how the graph is pruned for it."""

    file: Path | None
    slug: str | None
    graph_folder: Path | None
    table_folder: Path | None
    is_shown: bool
    node_threshold: float
    edge_threshold: float

    def check(self) -> None:
        """Refuse what cannot be written.

        Raises:
            ConfigError: nothing is asked for, one of a pair is missing, or a format is unknown.
            RunError: a place cannot be written.
        """
        from tracer.run.folder import check_out

        if (self.slug is None) != (self.graph_folder is None):
            given, missing = ("--slug", "--graph-file-dir") if self.slug is not None else ("--graph-file-dir", "--slug")
            raise ConfigError("attribute", found=f"{given} alone", expected="both or none", to_do=f"Give {missing}.")
        if self.file is self.slug is self.table_folder is None and not self.is_shown:
            raise ConfigError(
                "attribute", found="no output", expected="one or several",
                to_do="Give -o FILE, --slug NAME with --graph-file-dir FOLDER, --out FOLDER, or --show.",
            )  # fmt: skip
        if self.file:
            check_graph_file(self.file)
        if self.slug is not None:
            from tracer.graph.formats.ids import checked_slug

            checked_slug(self.slug)
        for folder in (self.graph_folder, self.table_folder):
            if folder:
                check_out(folder)

    @property
    def needs_every_edge(self) -> bool:
        """Whether edges that pruning drops are written too."""
        return self.file is not None and self.file.suffix == OWN

    @property
    def has_viewers(self) -> bool:
        """Whether something is written for viewers."""
        return self.slug is not None or (self.file is not None and self.file.suffix == VIEWERS)

    def write(self, graph: "Graph", scan: str) -> Iterator[Path]:
        """Write the graph, unpruned, to every place asked for; gives what was written.

        Args:
            graph: the graph.
            scan: what viewers call its transcoders.
        """
        thresholds = {"node_threshold": self.node_threshold, "edge_threshold": self.edge_threshold}
        # What holds only the edges between some nodes still has to lose the weak ones among them.
        for_viewers = graph if bool(graph.node_mask.all()) else graph.prune(**thresholds)
        if self.file:
            write_graph_file(
                for_viewers, self.file, scan=scan,
                node_threshold=self.node_threshold, edge_threshold=self.edge_threshold,
            )  # fmt: skip
            yield self.file
        if self.slug and self.graph_folder:
            from tracer.graph.formats.graph_json import write_json

            yield write_json(for_viewers, self.graph_folder, self.slug, scan=scan, **thresholds)
        if self.table_folder:
            yield from _write_tables(graph.prune(**thresholds), self.table_folder)


def check_graph_file(path: Path, *, option: str = "-o") -> None:
    """Refuse a graph file that cannot be written.

    Args:
        path: the file.
        option: where it was given.

    Raises:
        ConfigError: no known ending, a name that no graph of a viewer can have, a folder, or a place that cannot be
            written.
    """
    if path.suffix not in (VIEWERS, OWN):
        what = "a pickle, which tracer does not write" if path.suffix == ".pt" else f"ending {path.suffix or 'none'}"
        raise ConfigError(
            f"{option} {path}", found=what, expected=f"{VIEWERS} (for viewers) or {OWN} (for tracer)",
            to_do="Give the file one of these endings.",
        )  # fmt: skip
    check_file(path, option=option)
    if path.suffix == VIEWERS:
        _check_slug(path, option)


def _check_slug(path: Path, option: str) -> None:
    """The file's name is the graph's, which stands in addresses."""
    from tracer.graph.formats.ids import checked_slug

    try:
        checked_slug(path.stem)
    except DataError as error:
        raise ConfigError(
            f"{option} {path}", found=f"a graph named {error.found}", expected=error.expected,
            to_do="Give the file another name.",
        ) from error  # fmt: skip


def check_file(path: Path, *, endings: Sequence[str] = (), option: str = "-o") -> None:
    """Refuse a file that cannot be written.

    Args:
        path: the file; folders above it may be absent.
        endings: what its name may end in; anything where none is given.
        option: where it was given.

    Raises:
        ConfigError: it has another ending, is a folder, or its place cannot be written.
    """
    where, nearest = f"{option} {path}", next(parent for parent in path.absolute().parents if parent.exists())
    if endings and path.suffix not in endings:
        raise ConfigError(
            where, found=f"ending {path.suffix or 'none'}", expected=" or ".join(endings), to_do="Name another file."
        )
    if path.is_dir():
        raise ConfigError(where, found="a folder", expected="a file", to_do="Name a file in it.")
    if not nearest.is_dir():
        raise ConfigError(where, found=f"{nearest} is a file", expected="a folder", to_do="Choose another place.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        found, expected = f"{nearest} cannot be written", "a writable place"
        raise ConfigError(where, found=found, expected=expected, to_do="Choose another place.")


def write_graph_file(
    graph: "Graph",
    path: Path,
    *,
    scan: str | None,
    node_threshold: float | None,
    edge_threshold: float | None,
    transcoder_list: Sequence[str] = (),
) -> None:
    """Write a graph in the format that the file's ending names.

    Args:
        graph: the graph; one of all nodes is pruned for viewers, another is taken for pruned.
        path: the file; folders above it are made.
        scan: what viewers call its transcoders; None where `transcoder_list` says it.
        node_threshold: share of influence that the nodes of a `.json` file hold; None where it is not known.
        edge_threshold: share of influence that its edges hold; None where it is not known.
        transcoder_list: each layer's transcoders, where they are not one set.
    """
    if path.suffix == OWN:
        from tracer.graph.formats.own import save_graph

        save_graph(graph, path)
        return
    from tracer.graph.formats.graph_json import to_graph_json

    record = to_graph_json(
        graph, slug=path.stem, scan=scan, node_threshold=node_threshold, edge_threshold=edge_threshold,
        transcoder_list=transcoder_list,
    )  # fmt: skip
    record.save(path)


def _write_tables(pruned: "Graph", folder: Path) -> Iterator[Path]:
    from io import BytesIO

    from tracer.files.writing import write_file

    for name, frame in (("nodes", pruned.nodes()), ("edges", pruned.edges())):
        content = BytesIO()
        frame.write_parquet(content)
        write_file(folder / f"{name}.parquet", content.getvalue())
        yield folder / f"{name}.parquet"
