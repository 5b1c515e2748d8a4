"""The options of `tracer attribute`, named as in `circuit_tracer/__main__.py` (0.5.0) where it has them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tracer.errors import ConfigError

PRUNED, OUTPUT = "Pruning", "Output"
ATTRIBUTION, LOADING = "Attribution", "Loading"

File = Annotated[Path, typer.Argument(metavar="FILE", help="the file to read", show_default=False)]
PromptArgument = Annotated[
    str | None, typer.Argument(metavar="PROMPT", help="the text whose next token is explained", show_default=False)
]
PromptOption = Annotated[str | None, typer.Option("--prompt", "-p", help="the same as an option")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="checkpoint: folder, package:NAME/path or hub name; else as the set says",
        rich_help_panel=LOADING,
    ),
]  # fmt: skip
Transcoders = Annotated[
    str,
    typer.Option(
        "--transcoders", "--transcoder-set", "-t", help="transcoder set: the same, or gemma, or llama",
        rich_help_panel=LOADING,
    ),
]  # fmt: skip
DtypeName = Literal["float32", "fp32", "bfloat16", "bf16", "float16", "fp16"]
LONG_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""The short ones as torch calls them."""
Dtype = Annotated[
    DtypeName,
    typer.Option(help="precision of the language model's weights; all else is float32", rich_help_panel=LOADING),
]
Device = Annotated[
    str | None, typer.Option(help="cpu or cuda; CUDA if present when not given", rich_help_panel=LOADING)
]
LazyEncoder = Annotated[
    bool, typer.Option("--lazy-encoder/--no-lazy-encoder", help="leave encoders on disk", rich_help_panel=LOADING)
]
LazyDecoder = Annotated[
    bool | None,
    typer.Option(
        "--lazy-decoder/--no-lazy-decoder", help="leave decoders on disk; if they are large when not given",
        rich_help_panel=LOADING, show_default=False,
    ),
]  # fmt: skip
Offload = Annotated[
    Literal["cpu", "disk"] | None,
    typer.Option(help="where weights that rows do not need lie meanwhile", rich_help_panel=LOADING),
]

MaxLogits = Annotated[int, typer.Option(min=1, help="most next tokens attributed", rich_help_panel=ATTRIBUTION)]
LogitProb = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="probability that they reach together", rich_help_panel=ATTRIBUTION)
]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="rows computed at once; as memory allows when not given", rich_help_panel=ATTRIBUTION),
]
MaxFeatureNodes = Annotated[
    int | None, typer.Option(min=1, help="most feature rows computed, strongest first", rich_help_panel=ATTRIBUTION)
]
Coverage = Annotated[
    float,
    typer.Option(
        min=1e-6,
        max=1.0,
        help="least share of the probability whose influence is followed",
        rich_help_panel=ATTRIBUTION,
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="say how far it is", rich_help_panel=ATTRIBUTION)]

NodeThreshold = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="share of influence that kept nodes hold", rich_help_panel=PRUNED)
]
EdgeThreshold = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="share of influence that kept edges hold", rich_help_panel=PRUNED)
]

GraphFile = Annotated[
    Path | None,
    typer.Option(
        "--save", "--graph-output-path", "-o", help=".json: pruned, for viewers; .safetensors: whole, for tracer",
        rich_help_panel=OUTPUT,
    ),
]  # fmt: skip


def folder_named(text: str) -> Path:
    """The folder that an option names; an empty name would be the current one, as after a variable that is not set.

    Args:
        text: what was given.

    Raises:
        ConfigError: it is empty.
    """
    if not text.strip():
        raise ConfigError("the folder to write to", found="an empty name", expected="a path", to_do="Name a folder.")
    return Path(text)


Slug = Annotated[
    str | None, typer.Option(help="name of the graph in --graph-file-dir", rich_help_panel=OUTPUT, show_default=False)
]
GraphFileDir = Annotated[
    Path | None,
    typer.Option(
        help="folder of a viewer: SLUG.json and graph-metadata.json", parser=folder_named, metavar="PATH",
        rich_help_panel=OUTPUT,
    ),
]  # fmt: skip
OutFolder = Annotated[
    Path | None,
    typer.Option(
        "--out", help="folder for the pruned graph: nodes.parquet, edges.parquet", parser=folder_named, metavar="PATH",
        rich_help_panel=OUTPUT,
    ),
]  # fmt: skip
Show = Annotated[bool, typer.Option("--show", help="print the strongest nodes", rich_help_panel=OUTPUT)]
NodesShown = Annotated[int, typer.Option("--n-nodes", min=1, help="how many of them", rich_help_panel=OUTPUT)]
Answer = Annotated[
    str | None,
    typer.Option(help="a continuation: rank and probability of its first token are printed", rich_help_panel=OUTPUT),
]

Backend = Annotated[str | None, typer.Option(hidden=True)]
Server = Annotated[bool, typer.Option("--server", hidden=True)]
Port = Annotated[int | None, typer.Option(hidden=True)]
FeaturesDir = Annotated[str | None, typer.Option(hidden=True)]
