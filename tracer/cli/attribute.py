"""`tracer attribute`: the graph of one prompt, printed and written."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.text import Text

from tracer.cli import options
from tracer.cli.outputs import Outputs
from tracer.cli.printing import make_console, print_no_features, print_table, print_written
from tracer.cli.sources import Sources, find_sources
from tracer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tracer import Graph, ReplacementModel

N_TOKENS_SHOWN = 5


def attribute(
    prompt: options.PromptArgument = None, prompt_option: options.PromptOption = None, *,
    transcoders: options.Transcoders, model: options.Model = None, dtype: options.Dtype = "float32",
    device: options.Device = None, lazy_encoder: options.LazyEncoder = False, lazy_decoder: options.LazyDecoder = None,
    offload: options.Offload = None, max_n_logits: options.MaxLogits = 10,
    desired_logit_prob: options.LogitProb = 0.95, batch_size: options.BatchSize = None,
    max_feature_nodes: options.MaxFeatureNodes = None, coverage: options.Coverage = 1.0,
    verbose: options.Verbose = False, node_threshold: options.NodeThreshold = 0.8,
    edge_threshold: options.EdgeThreshold = 0.98, save: options.GraphFile = None, slug: options.Slug = None,
    graph_file_dir: options.GraphFileDir = None, out: options.OutFolder = None, show: options.Show = False,
    n_nodes: options.NodesShown = 15, answer: options.Answer = None, backend: options.Backend = None,
    server: options.Server = False, port: options.Port = None, features_dir: options.FeaturesDir = None,
) -> None:  # fmt: skip
    """The attribution graph of one prompt: its likeliest next tokens, scores, strongest nodes, and files of it.

    Names may be written with _ in place of -.

    Example: tracer attribute "The opposite of hot is" -t llama -o graph.json
    """
    from tracer.model.device import resolve_device
    from tracer.views.exports.scans import scan_of

    text = _one_prompt(prompt, prompt_option)
    _refuse_foreign(backend, server or port is not None, features_dir)
    outputs = Outputs(
        file=save, slug=slug, graph_folder=graph_file_dir, table_folder=out, is_shown=show,
        node_threshold=node_threshold, edge_threshold=edge_threshold,
    )  # fmt: skip
    outputs.check()
    found_device = resolve_device(device)
    sources = find_sources(model, transcoders)
    with _progress(verbose):
        loaded = _load(sources, options.LONG_NAMES.get(dtype, dtype), found_device, lazy_encoder, lazy_decoder)
        _print_next_tokens(text, answer, loaded)
        graph = _attribute(
            text, loaded, outputs, max_n_logits=max_n_logits, desired_logit_prob=desired_logit_prob,
            batch_size=batch_size, max_feature_nodes=max_feature_nodes, coverage=coverage, offload=offload,
            verbose=verbose,
        )  # fmt: skip
    _print_graph(graph, outputs, n_nodes)
    scan = scan_of(sources.transcoders)
    for path in outputs.write(graph, scan.name):
        print_written(path)
    if outputs.has_viewers and not scan.is_found:
        print_no_features(scan.name)


def _one_prompt(argument: str | None, option: str | None) -> str:
    if (argument is None) == (option is None):
        found = "no prompt" if argument is None else "two prompts"
        raise ConfigError(
            "attribute", found=found, expected="one prompt", to_do="Give it as an argument or with --prompt."
        )
    return str(option if argument is None else argument)


def _refuse_foreign(backend: str | None, is_served: bool, features_dir: str | None) -> None:
    """Options of circuit-tracer that ask for what tracer does otherwise."""
    foreign = [
        (
            f"--backend {backend}", backend not in (None, "transformerlens"), "transformerlens, the only one here",
            "Leave it out: TransformerLens' bridge runs every model of transformers that it knows.",
        ),
        (
            "--server or --port", is_served, "a graph that is written, not served",
            "Write it with --slug and --graph-file-dir; `circuit-tracer start-server` shows that folder.",
        ),
        (
            "--features-dir", features_dir is not None, "a graph alone",
            "`tracer export RUN --format circuit-tracer` writes the features of a run beside its graphs.",
        ),
    ]  # fmt: skip
    for found, is_asked, expected, to_do in foreign:
        if is_asked:
            raise ConfigError("attribute", found=found, expected=expected, to_do=to_do)


@contextmanager
def _progress(verbose: bool) -> Iterator[None]:
    """What tracer logs at INFO level goes to the terminal meanwhile."""
    logger, handler = logging.getLogger("tracer"), logging.StreamHandler()
    level = logger.level
    if verbose:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _load(
    sources: Sources, dtype: str, device: Any, lazy_encoder: bool, lazy_decoder: bool | None
) -> "ReplacementModel":
    import torch
    from transformers.utils.logging import disable_progress_bar

    from tracer import ReplacementModel

    disable_progress_bar()
    return ReplacementModel.from_pretrained(
        *sources, device=device, dtype=getattr(torch, dtype), lazy_encoder=lazy_encoder, lazy_decoder=lazy_decoder
    )


def _print_next_tokens(text: str, answer: str | None, model: "ReplacementModel") -> None:
    from tracer.corpus.tokens import answer_token_id
    from tracer.model.tokenizer import token_text

    answer_id = None if answer is None else answer_token_id(text, answer, model.tokenizer)
    if answer is not None and answer_id is None:
        raise DataError(
            f"--answer {answer!r}", found="no token that the vocabulary knows", expected="a continuation of the prompt",
            to_do="Check its spelling.",
        )  # fmt: skip
    probabilities = model.forward(model.tokenize(text)).logits[-1].softmax(-1)
    top = probabilities.topk(min(N_TOKENS_SHOWN, len(probabilities)))
    shown = [
        f"{token_text(model.tokenizer, int(token_id))!r} {float(probability):.3f}"
        for probability, token_id in zip(top.values, top.indices, strict=True)
    ]
    make_console().print(Text(f"next tokens: {', '.join(shown)}"), soft_wrap=True)
    if answer_id is not None:
        probability = probabilities[answer_id]
        rank, token = int((probabilities > probability).sum()), token_text(model.tokenizer, answer_id)
        make_console().print(Text(f"answer {token!r}: rank {rank}, probability {float(probability):.3f}"))


def _attribute(text: str, model: "ReplacementModel", outputs: Outputs, **settings: Any) -> "Graph":
    from tracer import attribute

    # Edges that pruning drops would only take memory.
    return attribute(
        text, model, node_threshold=None if outputs.needs_every_edge else outputs.node_threshold, **settings
    )


def _print_graph(graph: "Graph", outputs: Outputs, n_nodes: int) -> None:
    import polars as pl

    console, scores = make_console(), graph.scores()
    pruned = graph.prune(outputs.node_threshold, outputs.edge_threshold)
    nodes, n_edges = pruned.nodes(), len(pruned.edge_weight)
    console.print(Text(f"replacement {scores.replacement:.3f}, completeness {scores.completeness:.3f}"))
    kinds = ", ".join(f"{n} {kind}" for kind, n in nodes.group_by("kind").len().sort("kind").iter_rows())
    console.print(Text(f"{nodes.height} of {graph.layout.n_nodes} nodes kept ({kinds}), {n_edges} edges"))
    if outputs.is_shown:
        columns = ["kind", "layer", "pos", "feature", "token", "activation", "influence"]
        strongest = nodes.filter(pl.col("kind") != "logit").sort("influence", descending=True, maintain_order=True)
        print_table(strongest.head(n_nodes).select(columns))
