"""The shapes that the benchmarks build, and where what they build and measure lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FOLDER = REPOSITORY / "runs" / "benchmarks"
"""Ignored by git; holds circuit-tracer's environment, the built models and the results."""
DEMO_FILES = REPOSITORY / "tracer" / "model" / "demo" / "files"
SPECIAL_TOKEN_ID = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model and its transcoders, up to random numbers."""

    name: str
    architecture: Literal["gpt2", "llama", "gemma2"]
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    n_features: int
    """Features of each layer; equal to `d_mlp` where the transcoder is the MLP itself."""
    n_active: float
    """Active features per layer and position, on average."""
    decoders: Literal["perturbed", "fitted"]
    """The MLP's own output weights with noise, or least squares to the MLP's outputs."""
    cross_layer: bool = False
    d_vocab: int = 1000
    lengths: tuple[int, ...] = (16,)
    """Prompt lengths that are measured, the special token included."""


def _gpt2(name: str, n_layers: int, d_model: int, n_active: float, lengths: tuple[int, ...] = (16,)) -> Shape:
    """A ReLU GPT-2 with heads of 64 whose MLP is its transcoder."""
    n_heads = d_model // 64
    return Shape(
        name=name, architecture="gpt2", n_layers=n_layers, d_model=d_model, n_heads=n_heads, n_kv_heads=n_heads,
        d_head=64, d_mlp=4 * d_model, n_features=4 * d_model, n_active=n_active, decoders="perturbed", lengths=lengths,
    )  # fmt: skip


def _agreement(architecture: Literal["gpt2", "llama"], *, cross_layer: bool) -> Shape:
    return Shape(
        name=f"{architecture}-{'cross' if cross_layer else 'per'}-layer", architecture=architecture, n_layers=4,
        d_model=64, n_heads=4, n_kv_heads=4 if architecture == "gpt2" else 2, d_head=16, d_mlp=256, n_features=256,
        n_active=20, decoders="fitted" if cross_layer or architecture == "llama" else "perturbed",
        cross_layer=cross_layer, d_vocab=200, lengths=(12,),
    )  # fmt: skip


SHAPES = {
    shape.name: shape
    for shape in (
        _gpt2("12x768", 12, 768, 19.4),
        _gpt2("8x256", 8, 256, 20.8),
        _gpt2("long", 12, 768, 18, lengths=(1024,)),
        _gpt2("tiny", 3, 128, 10, lengths=(12, 24)),
        Shape(
            name="llama-8x256", architecture="llama", n_layers=8, d_model=256, n_heads=4, n_kv_heads=2, d_head=64,
            d_mlp=704, n_features=1024, n_active=20.8, decoders="fitted",
        ),
        Shape(
            name="llama-12x768", architecture="llama", n_layers=12, d_model=768, n_heads=12, n_kv_heads=4, d_head=64,
            d_mlp=2048, n_features=3072, n_active=19.4, decoders="fitted",
        ),
        Shape(
            name="gemma-2-2b", architecture="gemma2", n_layers=26, d_model=2304, n_heads=8, n_kv_heads=4, d_head=256,
            d_mlp=9216, n_features=16384, n_active=70, decoders="fitted", d_vocab=256000, lengths=(16, 64, 512),
        ),
        Shape(
            name="gemma-small", architecture="gemma2", n_layers=4, d_model=128, n_heads=4, n_kv_heads=2, d_head=32,
            d_mlp=256, n_features=512, n_active=30, decoders="fitted", lengths=(16,),
        ),
        *(_agreement(kind, cross_layer=across) for kind in ("gpt2", "llama") for across in (False, True)),
    )
}  # fmt: skip


DEMO = Shape(
    name="demo", architecture="gpt2", n_layers=4, d_model=128, n_heads=4, n_kv_heads=4, d_head=32, d_mlp=512,
    n_features=768, n_active=7, decoders="fitted", d_vocab=612,
)  # fmt: skip
"""The model that the package ships, which is trained and not built."""


def grid_shape(n_layers: int, n_active: float, lengths: tuple[int, ...]) -> Shape:
    """A shape of the scaling table: width 256, and what is varied."""
    return _gpt2(f"grid-{n_layers}-{n_active:g}-{'-'.join(map(str, lengths))}", n_layers, 256, n_active, lengths)


def prompt_ids(shape: Shape, n_tokens: int, idx: int) -> list[int]:
    """The `idx`-th prompt of a length: the special token, then random tokens drawn from the shape's name."""
    seed = sum(ord(letter) * 31**place for place, letter in enumerate(shape.name)) + 1009 * n_tokens + idx
    generator = torch.Generator().manual_seed(seed % 2**31)
    drawn = torch.randint(1, shape.d_vocab, (n_tokens - 1,), generator=generator)
    return [SPECIAL_TOKEN_ID, *drawn.tolist()]
