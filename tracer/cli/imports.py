"""`tracer import`: files of other tools, read with care, checked, and written in formats that go on."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tracer.cli import options
from tracer.cli.outputs import OWN, VIEWERS, check_file, check_graph_file, write_graph_file
from tracer.cli.printing import make_console
from tracer.errors import ConfigError

if TYPE_CHECKING:
    from tracer.graph.formats.groups import Groups
    from tracer.graph.graph import Graph

import_app = typer.Typer(no_args_is_help=True, help="Read graphs, groups, transcoders and features of other tools.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="the file to read", show_default=False)]
Scan = Annotated[str, typer.Option(help="what viewers call the transcoders, such as their hub name")]


@import_app.command()
def graph(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", help=".json, pruned for viewers, or .safetensors for tracer")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="checkpoint whose tokenizer says what a .pt file does not")
    ] = None,
    scan: Scan = "",
    node_threshold: options.NodeThreshold = 0.8,
    edge_threshold: options.EdgeThreshold = 0.98,
) -> None:
    """A graph of circuit-tracer (.pt), of a viewer (.json) or of tracer (.safetensors). Nothing in it is executed.

    Example: tracer import graph dallas.pt -o dallas.safetensors
    """
    check_graph_file(out)
    if file.suffix == VIEWERS:
        found = _read_viewers_graph(file, out)
    else:
        found = _read_graph(file, model)
        write_graph_file(found, out, scan=scan, node_threshold=node_threshold, edge_threshold=edge_threshold)
    layout = found.layout
    console = make_console()
    console.print(
        Text(f"{layout.n_features} features of {layout.n_layers} layers, {layout.n_pos} tokens, "),
        Text(f"{layout.n_targets} targets, {len(found.edge_weight)} edges"), sep="", soft_wrap=True,
    )  # fmt: skip
    _print_written(out)


def _read_graph(file: Path, model: str | None) -> "Graph":
    from tracer.graph.formats.circuit_tracer_pt import read_pt
    from tracer.graph.formats.own import load_graph

    if file.suffix == OWN:
        return load_graph(file)
    if file.suffix != ".pt":
        raise ConfigError(
            str(file), found=f"ending {file.suffix or 'none'}", expected=f".pt, {VIEWERS} or {OWN}",
            to_do="Name a graph file.",
        )  # fmt: skip
    return read_pt(file, token_text=_token_text_of(model))


def _token_text_of(model: str | None) -> Callable[[int], str] | None:
    if model is None:
        return None
    from tracer.model.tokenizer import load_tokenizer, token_text

    tokenizer = load_tokenizer(model)
    return lambda token_id: token_text(tokenizer, token_id)


def _read_viewers_graph(file: Path, out: Path) -> "Graph":
    """A viewer's file; written again as it is but for ids that collided, or as tracer's own."""
    from tracer.graph.formats.graph_json import read_json
    from tracer.graph.formats.own import save_graph

    found = read_json(file)
    graph = found.graph()
    if out.suffix == OWN:
        save_graph(graph, out)
    else:
        found.save(out)
    for collision in found.collisions:
        make_console().print(Text(f"mended: {collision}"), soft_wrap=True)
    return graph


@import_app.command()
def groups(
    source: Annotated[
        str, typer.Argument(metavar="URL_OR_FILE", help="a viewer's or Neuronpedia's address, or a graph's .json")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="YAML file: names, and members as [layer, pos, feature]")],
    graph: Annotated[
        Path | None,
        typer.Option(help="the graph's .json, which tells features from errors and targets", show_default=False),
    ] = None,
) -> None:
    """Named groups of features that somebody made in a viewer.

    Example: tracer import groups "https://www.neuronpedia.org/gemma-2-2b/graph?slug=dallas&..." -o groups.yaml
    """
    import yaml

    from tracer.files.writing import write_file

    check_file(out, endings=(".yaml", ".yml"))
    found = [
        {"name": group.name, "members": [list(member) for member in group.members]}
        for group in _read_groups(source, graph).groups
    ]
    content = yaml.safe_dump({"groups": found}, sort_keys=False, allow_unicode=True, default_flow_style=None)
    write_file(out, content.encode())
    n_members = sum(len(group["members"]) for group in found)
    make_console().print(f"{len(found)} groups, {n_members} members", highlight=False)
    _print_written(out)


def _read_groups(source: str, graph: Path | None) -> "Groups":
    from tracer.graph.formats.graph_json import read_json
    from tracer.graph.formats.groups import Groups

    if "://" not in source:
        return read_json(source).groups()
    return Groups.from_url(source, nodes=None if graph is None else read_json(graph).nodes)


@import_app.command()
def transcoders(
    reference: Annotated[
        str, typer.Argument(metavar="REFERENCE", help="set in any layout: folder, package:NAME/path or hub name")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="checkpoint that the set was made for")],
    out: Annotated[Path, typer.Option("-o", "--out", help="new folder, in circuit-tracer's layout")],
    dtype: Annotated[options.DtypeName, typer.Option(help="precision of the files")] = "float32",
) -> None:
    """A transcoder set in the layout of circuit-tracer, with every scaling and centring folded in.

    Example: tracer import transcoders /data/sparsify-set --model org/model -o my-transcoders
    """
    import torch

    from tracer.model.architectures import checkpoint_facts
    from tracer.model.readers import circuit_tracer
    from tracer.model.readers.registry import read_transcoders
    from tracer.model.references import check_access, resolve
    from tracer.run.folder import check_out
    from tracer.views.exports.folders import new_folder

    folder = check_out(out)
    check_access([model, reference])
    facts = checkpoint_facts(resolve(model))
    found = read_transcoders(
        resolve(reference), facts, device=torch.device("cpu"), lazy_encoder=True, lazy_decoder=True
    )
    _check_writable(reference, found.layers[0].nonlinearity)
    with new_folder(folder) as temporary:
        circuit_tracer.write(
            temporary, found, model_name=model, dtype=getattr(torch, options.LONG_NAMES.get(dtype, dtype))
        )
    kind = "cross-layer" if found.cross_layer else "per-layer"
    make_console().print(f"{kind}, {found.n_layers} layers, {sum(found.n_features)} features", highlight=False)
    _print_written(out)


def _check_writable(reference: str, nonlinearity: object) -> None:
    from tracer.model.nonlinearity import TopK

    if isinstance(nonlinearity, TopK) and nonlinearity.rectify != "no":
        raise ConfigError(
            reference, found=f"TopK with ReLU {nonlinearity.rectify} the choice",
            expected="what circuit-tracer's layout can say: ReLU, JumpReLU, or TopK without ReLU",
            to_do="Use the set as it is: tracer reads its layout wherever it takes transcoders.",
        )  # fmt: skip


@import_app.command()
def features(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="feature pack, folder of {number}.json, or export")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help=".parquet: one row per example", show_default=False)
    ] = None,
) -> None:
    """Feature examples of circuit-tracer's viewer or of a Neuronpedia export, checked whole and summed up.

    Example: tracer import features my-pack -o examples.parquet
    """
    from tracer.cli.feature_bundles import Bundle, write_examples

    bundle = Bundle(folder)
    if out is None:
        for _ in bundle.examples():
            pass
    else:
        check_file(out, endings=(".parquet",))
        write_examples(bundle.examples(), out)
    labels = f", {bundle.n_labels} labels" if bundle.n_labels else ""
    make_console().print(
        f"{len(bundle.layers)} layers, {bundle.n_features} features, {bundle.n_examples} examples{labels}",
        highlight=False,
    )
    if out is not None:
        _print_written(out)


def _print_written(path: Path) -> None:
    make_console().print(Text(f"written {path}"), soft_wrap=True)
