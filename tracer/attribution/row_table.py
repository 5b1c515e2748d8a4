"""Which rows of which prompts share a row of a span, when prompts lie side by side."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from tracer.attribution.reads import Reads


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTable:
    """The rows of a request, prompt by prompt, those of a prompt farthest-seeing first."""

    rows: Int[Tensor, "prompt row"]
    """Indices of the rows in the request; -1 where a prompt has fewer than others."""
    cones: Int[Tensor, " row"]
    """Positions that a row of this table sees in the prompt where it sees most, ignored ones not counted."""


def row_table(reads: Reads, n_ignored: int, n_prompts: int) -> RowTable:
    """The table of some reads, whose positions are places of `n_prompts` prompts side by side."""
    last = torch.zeros_like(reads.stage).scatter_reduce_(0, reads.row, reads.pos, "amax")
    cones = (last.div(n_prompts, rounding_mode="floor") + 1 - n_ignored).clamp_min(0).cpu()
    if n_prompts == 1:
        return RowTable(rows=torch.arange(len(cones))[None], cones=cones)
    prompt = (last % n_prompts).cpu()
    order = cones.argsort(descending=True, stable=True)
    order = order[prompt[order].argsort(stable=True)]
    counts = torch.bincount(prompt, minlength=n_prompts)
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[prompt[order]]
    rows = torch.full((n_prompts, int(counts.max())), -1)
    seen = torch.zeros_like(rows)
    rows[prompt[order], place], seen[prompt[order], place] = order, cones[order]
    return RowTable(rows=rows, cones=seen.amax(0))
