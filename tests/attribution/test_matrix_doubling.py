"""The doubling test on 100 features, every error and every token: each moves every value by its edge."""

import pytest
import torch

from tests.attribution.doubling import N_DOUBLED_FEATURES, changes_by_doubling, doubled_nodes
from tests.attribution.matrix import Cell, model_of, row_nodes
from tests.checkpoints import ARCHITECTURE_KINDS
from tracer.attribution.explicit import ExplicitEngine
from tracer.attribution.prepared import prepare

PROMPT = "w3 w14 w15 w9 w26 w5 w35 w8"
SETTINGS = (
    ("per-layer skip", "topk", "mlp.hook_in -> mlp.hook_out"),
    ("cross-layer skip", "jumprelu", "ln2.hook_normalized -> hook_mlp_out"),
)


@pytest.mark.parametrize("architecture", ARCHITECTURE_KINDS)
@pytest.mark.parametrize("settings", SETTINGS, ids=" | ".join)
def test_doubling_a_source_moves_every_value_by_its_edge(architecture: str, settings: tuple[str, str, str]) -> None:
    model = model_of(Cell(architecture, *settings), n_features=24)
    prepared = prepare(model, model.tokenize(PROMPT))
    assert prepared.layout.n_features >= N_DOUBLED_FEATURES
    rows = ExplicitEngine(model, prepared, memory_budget_bytes=2**24).rows(row_nodes(prepared))
    nodes = doubled_nodes(prepared.layout)
    moved = changes_by_doubling(model, prepared, nodes)
    assert float(moved.abs().max()) > 0.1, "changes that are all small prove nothing"
    torch.testing.assert_close(moved, rows.weights[:, nodes], atol=5e-4, rtol=0.0)
