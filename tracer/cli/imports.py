"""`tracer import`: files of other tools, read with care, checked, and written in formats that go on."""

from pathlib import Path
from typing import Annotated

import typer

from tracer.cli import options
from tracer.cli.import_graph import graph
from tracer.cli.import_groups import groups
from tracer.cli.outputs import check_file
from tracer.cli.printing import make_console, print_written
from tracer.errors import ConfigError

import_app = typer.Typer(no_args_is_help=True, help="Read graphs, groups, transcoders and features of other tools.")
import_app.command()(graph)
import_app.command()(groups)


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
    print_written(out)


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
        print_written(out)
