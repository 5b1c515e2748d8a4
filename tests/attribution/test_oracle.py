"""The oracle on its own: architectures outside the table, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from tests.attribution.doubling import changes_by_doubling, doubled_nodes
from tests.attribution.matrix import Cell, model_of, row_nodes
from tracer.attribution.attribute import attribute
from tracer.attribution.definitions import DemeanedLogit, FeatureRead, LogitDirection, StreamDirection
from tracer.attribution.oracle import Oracle
from tracer.attribution.prepared import Prepared, prepare
from tracer.errors import ModelError
from tracer.model.replacement import ReplacementModel

PROMPT = "w3 w14 w15 w9 w26 w5"


def other_model(kind: str, write_hook: str = "mlp.hook_out", transcoders: str = "per-layer skip") -> ReplacementModel:
    return model_of(Cell(kind, transcoders, "jumprelu", f"mlp.hook_in -> {write_hook}"), n_features=12)


def prepared_of(model: ReplacementModel) -> Prepared:
    return prepare(model, model.tokenize(PROMPT))


@pytest.mark.parametrize("kind", ["mistral", "mixtral", "phi", "olmo2"])
@pytest.mark.parametrize(
    ("write_hook", "transcoders"), [("mlp.hook_out", "per-layer skip"), ("hook_mlp_out", "cross-layer")]
)
def test_doubling_moves_every_value_by_its_edge_outside_the_table(kind: str, write_hook: str, transcoders: str) -> None:
    model = other_model(kind, write_hook, transcoders)
    assert not model.facts.explicit
    prepared = prepared_of(model)
    rows = Oracle(model, prepared).rows(row_nodes(prepared))
    nodes = doubled_nodes(prepared.layout)
    moved = changes_by_doubling(model, prepared, nodes)
    assert float(moved.abs().max()) > 0.1, "changes that are all small prove nothing"
    torch.testing.assert_close(moved, rows.weights[:, nodes], atol=5e-4, rtol=0.0)


def test_attribution_outside_the_table_warns_and_gives_the_oracles_graph() -> None:
    model = other_model("mistral")
    with pytest.warns(UserWarning, match="MistralForCausalLM is not in the table"):
        graph = attribute(PROMPT, model)
    prepared = prepared_of(model)
    rows = Oracle(model, prepared).rows(torch.arange(prepared.layout.first_target, prepared.layout.n_nodes))
    torch.testing.assert_close(graph.adjacency()[prepared.layout.first_target :], rows.weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["blocks.1.ln1.hook_scale", "blocks.2.attn.hook_pattern", "ln_final.hook_scale"])
def test_a_pass_that_is_not_linear_is_refused(name: str) -> None:
    model = other_model("mistral")
    prepared = prepared_of(model)
    frozen = {hook: value for hook, value in prepared.forward.frozen().items() if hook != name}
    bent = replace(prepared, forward=replace(prepared.forward, captured_frozen=frozen))
    with pytest.raises(ModelError, match="not linear"):
        Oracle(model, bent)


@pytest.mark.parametrize("architecture", ["gemma2", "neox", "gpt_oss"])
def test_the_frozen_pass_has_the_values_of_the_plain_one(architecture: str) -> None:
    model = model_of(Cell(architecture, "cross-layer skip", "jumprelu", "mlp.hook_in -> mlp.hook_out"))
    prepared = prepared_of(model)
    oracle, forward = Oracle(model, prepared), prepared.forward
    torch.testing.assert_close(oracle.frozen_pass.logits, forward.uncapped_logits, atol=1e-5, rtol=1e-5)
    for layer, read in oracle.frozen_pass.reads.items():
        torch.testing.assert_close(read, forward.reads[layer], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "neox"])
def test_every_kind_of_definition_has_the_value_that_it_says(architecture: str) -> None:
    model = model_of(Cell(architecture, "per-layer skip", "jumprelu", "mlp.hook_in -> mlp.hook_out"))
    prepared = prepared_of(model)
    oracle, forward = Oracle(model, prepared), prepared.forward
    logits, d_model = forward.uncapped_logits, model.facts.d_model
    streams: dict[str, torch.Tensor] = {}
    names = ["blocks.1.hook_in", "blocks.2.hook_in", "blocks.1.attn.hook_out", "blocks.1.ln2.hook_in"]
    hooks = [(name, lambda value, hook, name=name: streams.__setitem__(name, value[0])) for name in names]
    with model.hooks(hooks) as bridge:
        bridge(forward.token_ids[None])
    middle = streams["blocks.1.ln2.hook_in"]
    if model.facts.parallel:
        middle = streams["blocks.1.hook_in"] + streams["blocks.1.attn.hook_out"]
    vector, directions = torch.randn(d_model), torch.randn(2, model.facts.d_vocab)
    read = forward.reads[2, 3] @ model.transcoders.layers[2].W_enc[1] + model.transcoders.layers[2].b_enc[1]
    expected = {
        DemeanedLogit(pos=4, token_id=7): logits[4, 7] - logits[4].mean(),
        LogitDirection(pos=torch.tensor([2, 5]), directions=directions): (directions * logits[[2, 5]]).sum(),
        StreamDirection(stage=4, pos=3, vector=vector): streams["blocks.2.hook_in"][3] @ vector,
        StreamDirection(stage=3, pos=3, vector=vector): middle[3] @ vector,
        FeatureRead(layer=2, pos=3, feature=1): read,
    }
    for definition, value in expected.items():
        torch.testing.assert_close(oracle.defined_value(definition).detach(), value, atol=1e-4, rtol=1e-4)
