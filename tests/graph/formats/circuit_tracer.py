"""Work done in circuit-tracer's own environment, where it is there (`make benchmark-setup`)."""

import json
import subprocess

import pytest

from tests.benchmarks.environment import CIRCUIT_TRACER_PYTHON

needs_circuit_tracer = pytest.mark.skipif(
    not CIRCUIT_TRACER_PYTHON.exists(), reason="circuit-tracer's environment is not there: `make benchmark-setup`"
)

MAKE_GRAPH = """
import torch
from circuit_tracer.attribution.targets import LogitTarget
from circuit_tracer.graph import Graph
from circuit_tracer.utils.tl_nnsight_mapping import UnifiedConfig

def random_graph(seed, n_layers, n_pos, n_active, targets, vocab_size, tokenizer_name="gpt2"):
    generator = torch.Generator().manual_seed(seed)
    def integers(limit, size):
        return torch.randint(limit, size, generator=generator)
    places = torch.stack([integers(n_layers, (n_active,)), integers(n_pos, (n_active,)), integers(9, (n_active,))], 1)
    active = places.unique(dim=0)
    selected = (torch.rand(len(active), generator=generator) < 0.8).nonzero().flatten()
    n_nodes = len(selected) + (n_layers + 1) * n_pos + len(targets)
    layers = torch.cat([
        active[selected, 0], torch.arange(n_layers).repeat_interleave(n_pos), torch.full((n_pos,), -1),
        torch.full((len(targets),), n_layers),
    ])
    has_row = torch.zeros(n_nodes, dtype=torch.bool)
    has_row[:len(selected)] = has_row[-len(targets):] = True
    allowed = (layers[:, None] > layers[None]) & has_row[:, None]
    present = allowed & (torch.rand(n_nodes, n_nodes, generator=generator) < 0.5)
    matrix = torch.where(present, torch.randn(n_nodes, n_nodes, generator=generator), 0.0)
    config = UnifiedConfig(
        n_layers=n_layers, d_model=8, d_head=4, n_heads=2, d_mlp=16, d_vocab=vocab_size, tokenizer_name=tokenizer_name,
        model_name="small", original_architecture="GPT2LMHeadModel",
    )
    return Graph(
        input_string="a b", input_tokens=integers(vocab_size, (n_pos,)), active_features=active,
        adjacency_matrix=matrix, cfg=config, selected_features=selected,
        activation_values=torch.rand(len(active), generator=generator) + 0.5,
        logit_targets=[LogitTarget(*target) for target in targets],
        logit_probabilities=torch.rand(len(targets), generator=generator), scan="small/set", vocab_size=vocab_size,
    )
"""


def in_circuit_tracer(code: str, *arguments: object) -> object:
    """What the last line that the code prints says, as JSON; arguments are in `sys.argv`."""
    command = [str(CIRCUIT_TRACER_PYTHON), "-W", "ignore", "-c", f"import sys, json\n{MAKE_GRAPH}\n{code}"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
