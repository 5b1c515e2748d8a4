"""The `metadata` of graph JSON, and the listing of a folder's graphs that viewers read first."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracer import __version__
from tracer.files.limits import read_json_file, refused
from tracer.files.writing import write_file
from tracer.graph.graph import Graph

LISTING = "graph-metadata.json"
SCHEMA_VERSION = 1
"""From which on `feature` is Cantor's pairing of layer and feature."""
_ON_THE_HUB = re.compile(
    r"(hf://)?(?P<repository>\w[\w.-]*/\w[\w.-]*)(/(?P<folder>[^/@:?][^@:?]*))?"
    r"((@|\?revision=)(?P<revision>[^@:?&]+))?"
)


def metadata_of(
    graph: Graph,
    slug: str,
    scan: str | None,
    *,
    transcoder_list: Sequence[str],
    node_threshold: float | None,
    edge_threshold: float | None,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """What a file says of a graph.

    Args:
        graph: the graph.
        slug: its name.
        scan: which transcoders made it; where None or empty, a name is made of `transcoder_list`.
        transcoder_list: each layer's transcoders, where they are not one set.
        node_threshold: share of influence whose nodes were kept.
        edge_threshold: share of influence whose edges were kept.
        more: further entries, such as Neuronpedia's `feature_details`, which replace those made here.
    """
    return (
        {
            "slug": slug,
            "scan": scan or custom_scan(transcoder_list),
            "transcoder_list": list(transcoder_list),
            "prompt_tokens": list(graph.tokens),
            "prompt": graph.text,
            "schema_version": SCHEMA_VERSION,
            "info": {"generator": {"name": "tracer", "version": __version__}},
            "pruning_settings": _known(node_threshold=node_threshold, edge_threshold=edge_threshold),
        }
        | _known(node_threshold=node_threshold)
        | dict(more)
    )


def _known(**settings: float | None) -> dict[str, float]:
    return {name: value for name, value in settings.items() if value is not None}


def custom_scan(transcoder_list: Sequence[str]) -> str:
    """A name for transcoders of several sets; viewers look for the beginning and then read `transcoder_list`.

    Args:
        transcoder_list: each layer's transcoders.
    """
    return f"custom-{hashlib.sha256('-'.join(transcoder_list).encode()).hexdigest()[:16]}"


def viewer_scan(reference: str) -> str:
    """A reference to transcoders as circuit-tracer's viewer reads it, for `scan`.

    circuit-tracer parts a repository from the folder in it by `//` (`circuit_tracer/utils/hf_utils.py` 0.5.0):
    `org/repo/sub@rev` and `hf://org/repo/sub?revision=rev` become `org/repo//sub@rev`. Whatever is no name on the hub
    stays as it is; a relative path can look like one, so that the caller has to know it.

    Args:
        reference: the name under which a set was loaded.
    """
    named = _ON_THE_HUB.fullmatch(reference)
    if not named:
        return reference
    folder = f"//{named['folder'].rstrip('/')}" if named["folder"] else ""
    revision = f"@{named['revision']}" if named["revision"] else ""
    return f"{named['repository']}{folder}{revision}"


def list_graph(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Put a graph into the folder's listing, in place of one of the same slug.

    Args:
        folder: where the graph's file lies.
        metadata: the graph's.

    Raises:
        DataError: there is a listing already, and it is damaged; it is left as it is.
    """
    path = folder / LISTING
    found = read_json_file(path) if path.exists() else {"graphs": []}
    graphs = found.get("graphs") if isinstance(found, dict) else None
    if not isinstance(graphs, list) or not all(isinstance(graph, dict) and "slug" in graph for graph in graphs):
        raise refused(path, found="no list of graphs", expected="graphs with their slugs", to_do="Mend or remove it.")
    others = [graph for graph in graphs if graph["slug"] != metadata["slug"]]
    write_file(path, json.dumps(found | {"graphs": [*others, dict(metadata)]}, indent=2).encode())
