"""Sizes known before anything is loaded: of model and transcoders by their headers, of the first prompts."""

from itertools import islice
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open

from tracer.attribution.cost import FLOAT_BYTES, Shape
from tracer.config import RunConfig
from tracer.corpus.records import RowReader
from tracer.corpus.sources import TASKS_PREFIX, read_rows
from tracer.corpus.tokens import special_token_rule
from tracer.errors import ConfigError, DataError, ModelError
from tracer.model.architectures import checkpoint_facts
from tracer.model.readers.build import is_lazy
from tracer.model.readers.registry import describe_transcoders
from tracer.model.tokenizer import load_tokenizer

N_SAMPLED_PROMPTS = 200
UNTIED = ("lm_head.weight", "embed_out.weight")
"""Names that an unembedding with weights of its own has in a checkpoint."""


def shape_of(
    checkpoint: Path, transcoders: Path, *, lazy_encoder: bool = False, lazy_decoder: bool | None = None
) -> Shape:
    """Sizes of a model and its transcoders.

    Args:
        checkpoint: the model's folder.
        transcoders: the set's folder or file.
        lazy_encoder: whether encoders stay on disk.
        lazy_decoder: whether decoders do; when not given, if they are large.

    Raises:
        ModelError: a file is absent or damaged, or the model's weights have no header.
    """
    facts = checkpoint_facts(checkpoint)
    files = describe_transcoders(transcoders, facts)
    stored = [tensor for layer in files.layers for _, tensor in layer.stored()]
    parameters = _headers(checkpoint)
    if not parameters:
        to_do = "Save the model with safetensors."
        raise ModelError(str(checkpoint), found="no safetensors", expected="weights with a header", to_do=to_do)
    n_parameters = sum(n for n, _ in parameters.values())
    is_untied = any(name.endswith(UNTIED) for name in parameters)
    return Shape(
        n_layers=facts.n_layers, d_model=facts.d_model, n_heads=facts.n_heads, n_kv_heads=facts.n_kv_heads,
        d_head=facts.d_head, d_vocab=facts.d_vocab, n_parameters=n_parameters,
        n_multiplied=n_parameters - facts.d_vocab * facts.d_model * is_untied,
        n_features=sum(layer.W_dec.shape[0] for layer in files.layers),
        n_decoder_floats=files.n_decoder_bytes // FLOAT_BYTES,
        cross_layer=files.cross_layer,
        n_skips=sum(layer.W_skip is not None for layer in files.layers),
        lazy_encoder=lazy_encoder,
        lazy_decoder=is_lazy(files, lazy_decoder),
        model_is_mapped=all(dtype == "F32" for _, dtype in parameters.values()),
        transcoders_are_mapped=all(tensor.dtype == torch.float32 and tensor.held is None for tensor in stored),
    )  # fmt: skip


def topk_of(checkpoint: Path, transcoders: Path) -> int | None:
    """Active features per layer and position, where a set fixes them.

    Raises:
        ModelError: the set cannot be read or does not fit the model.
    """
    files = describe_transcoders(transcoders, checkpoint_facts(checkpoint))
    return None if files.topk is None else files.topk.k


def _headers(folder: Path) -> dict[str, tuple[int, str]]:
    """Number of entries and dtype of every tensor in a folder's safetensors files."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                tensor = file.get_slice(name)
                found[f"{path.stem}/{name}"] = prod(tensor.get_shape()), str(tensor.get_dtype())
    return found


def sampled_lengths(config: RunConfig, checkpoint: Path) -> list[int]:
    """Lengths of the corpus' first prompts, tokens.

    Raises:
        ConfigError: the corpus would have to be fetched.
        DataError: it cannot be read, or has no usable prompt at its start.
    """
    source = config.corpus.source
    if not source.startswith(TASKS_PREFIX) and not Path(source).exists():
        raise ConfigError(
            "corpus.source", found=f"{source!r}, which would have to be fetched", expected="a local source",
            to_do="Give --n-tokens.",
        )  # fmt: skip
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=config.model.trust_remote_code)
    n_ctx = checkpoint_facts(checkpoint).n_ctx
    max_tokens = min(config.corpus.max_tokens or n_ctx, n_ctx)
    reader = RowReader(
        config=config.corpus, tokenizer=tokenizer, rule=special_token_rule(tokenizer), max_tokens=max_tokens
    )
    lengths = []
    for row in islice(read_rows(config.corpus, tokenizer), N_SAMPLED_PROMPTS):
        try:
            lengths.append(len(reader.read(row, source).token_ids))
        except DataError:
            continue
    if not lengths:
        raise DataError(source, found="no usable prompt at its start", expected="prompts", to_do="Give --n-tokens.")
    return lengths
