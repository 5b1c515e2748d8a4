"""The base of trust: the bridge computes what plain transformers does, replacement plus error changes nothing, no
hook stays.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.attribution.matrix import Cell, model_of
from tests.checkpoints import ARCHITECTURE_KINDS
from tracer.attribution.prepared import prepare
from tracer.errors import ModelError
from tracer.model.references import content_hash, resolve
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import Activations

PROMPT = "w3 w14 w15 w9 w26 w5"
DEMO_PROMPT = "the capital of the state containing Dallas is"


def plain_logits(checkpoint: Path, token_ids: torch.Tensor) -> torch.Tensor:
    plain = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return plain(token_ids[None]).logits[0]


def test_logits_equal_plain_transformers(random_model: ReplacementModel, random_checkpoint: Path) -> None:
    token_ids = random_model.tokenize(PROMPT)
    expected = plain_logits(random_checkpoint, token_ids)
    torch.testing.assert_close(random_model.forward(token_ids).logits, expected, atol=1e-4, rtol=1e-4)


def test_logits_of_the_demo_model_equal_plain_transformers(demo_model: ReplacementModel) -> None:
    token_ids = demo_model.tokenize(DEMO_PROMPT)
    expected = plain_logits(resolve("package:tracer/model/demo/files/language_model"), token_ids)
    torch.testing.assert_close(demo_model.forward(token_ids).logits, expected, atol=1e-4, rtol=1e-4)


def reconstructions(model: ReplacementModel, dense: list[torch.Tensor]) -> list[torch.Tensor]:
    """Decoded MLP outputs by a plain sum over features, one at a time."""
    outputs = [layer.b_dec.expand(len(dense[0]), -1).clone() for layer in model.transcoders.layers]
    for source, (layer, activations) in enumerate(zip(model.transcoders.layers, dense, strict=True)):
        for pos, feature in activations.nonzero().tolist():
            for offset, vector in enumerate(layer.W_dec[feature]):
                outputs[source + offset][pos] += activations[pos, feature] * vector
    return outputs


def test_decoding_is_the_sum_over_features_and_written_layers(random_model: ReplacementModel) -> None:
    prepared = prepare(random_model, random_model.tokenize(PROMPT))
    reads = prepared.forward.reads
    dense = [layer.encode(read) for layer, read in zip(random_model.transcoders.layers, reads, strict=True)]
    active = [layer.active(read, 0) for layer, read in zip(random_model.transcoders.layers, reads, strict=True)]
    for layer, expected in enumerate(reconstructions(random_model, dense)):
        found = random_model.transcoders.reconstruction(active, reads, layer)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        error = prepared.forward.mlp_outputs[layer] - expected
        torch.testing.assert_close(prepared.errors[layer][1:], error[1:], atol=1e-5, rtol=1e-4)


def loss_and_activations(
    model: ReplacementModel, token_ids: torch.Tensor, *, replaced: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    """Loss, the value at every hook point, and the gradient at the embedding.

    Replaced: MLP outputs are features recomputed in the run, plus the errors captured beforehand; the gradient then
        also
    needs the error's, which is attached as the bare output minus its own reconstruction (value zero, gradient of both).
    """
    prepared, transcoders = prepare(model, token_ids), model.transcoders
    cache: dict[str, torch.Tensor] = {}
    leaf = prepared.forward.embedding.clone().requires_grad_(True)
    reads: list[torch.Tensor] = []
    active: list[Activations] = []

    def encode(value: torch.Tensor, hook: Any) -> None:
        active.append(transcoders.layers[len(reads)].active(value[0], 1))
        reads.append(value[0])

    def replace(output: torch.Tensor, hook: Any) -> torch.Tensor:
        layer = len(reads) - 1
        decoded = transcoders.reconstruction(active, reads, layer)
        attached = output[0] - decoded
        replaced_output = decoded + prepared.errors[layer] + (attached - attached.detach())
        return torch.cat([output[:, :1], replaced_output[None, 1:]], dim=1)

    def keep(value: Any, hook: Any) -> None:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            cache[hook.name] = value.detach().clone()

    hooks: list[Any] = [("embed.hook_out", lambda value, hook: leaf.reshape(value.shape))]
    for layer in range(model.n_layers if replaced else 0):
        hooks += [(model.hook_names.read(layer), encode), (model.hook_names.write(layer), replace)]
    hooks += [(name, keep) for name in model.bridge.hook_dict]
    with torch.enable_grad(), model.hooks(hooks) as bridge:
        logits = bridge(token_ids[None])[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], token_ids[1:])
        (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), cache, gradient


def assert_replacement_plus_error_changes_nothing(model: ReplacementModel) -> None:
    token_ids = model.tokenize(PROMPT)
    bare_loss, bare_cache, bare_gradient = loss_and_activations(model, token_ids, replaced=False)
    loss, cache, gradient = loss_and_activations(model, token_ids, replaced=True)
    torch.testing.assert_close(loss, bare_loss, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradient, bare_gradient, atol=1e-5, rtol=1e-4)
    assert len(bare_cache) > 10 * model.n_layers
    for name, value in bare_cache.items():
        torch.testing.assert_close(cache[name], value, atol=1e-4, rtol=1e-4, equal_nan=True, msg=name)


def test_replacement_plus_error_leaves_loss_activations_and_gradients(random_model: ReplacementModel) -> None:
    assert_replacement_plus_error_changes_nothing(random_model)


@pytest.mark.parametrize("architecture", ARCHITECTURE_KINDS)
@pytest.mark.parametrize("hooks", ["mlp.hook_in -> mlp.hook_out", "ln2.hook_normalized -> hook_mlp_out"])
def test_replacement_with_a_skip_connection_plus_error_does_so_on_every_architecture(
    architecture: str, hooks: str
) -> None:
    assert_replacement_plus_error_changes_nothing(model_of(Cell(architecture, "cross-layer skip", "jumprelu", hooks)))


def hook_count(model: ReplacementModel) -> int:
    return sum(len(point._forward_hooks) + len(point.fwd_hooks) for point in model.bridge.hook_dict.values())


def fail_while_hooked(model: ReplacementModel) -> None:
    assert hook_count(model) > 0
    raise RuntimeError("on purpose")


def test_after_the_with_no_hook_stays_and_outputs_are_bit_equal(random_model: ReplacementModel) -> None:
    token_ids = random_model.tokenize(PROMPT)
    with torch.no_grad():
        before = random_model.bridge(token_ids[None])
    assert hook_count(random_model) == 0
    random_model.replaced_logits(token_ids)
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        random_model.hooks([("embed.hook_out", lambda value, hook: value * 2)]),
    ):
        fail_while_hooked(random_model)
    assert hook_count(random_model) == 0
    with torch.no_grad():
        assert torch.equal(random_model.bridge(token_ids[None]), before)


def test_hooks_borrowed_inside_another_with_go_alone(random_model: ReplacementModel) -> None:
    def keep(value: torch.Tensor, hook: Any) -> None:
        return None

    with random_model.hooks([("embed.hook_out", keep)]):
        outer = hook_count(random_model)
        with random_model.hooks([("embed.hook_out", keep)]):
            assert hook_count(random_model) == 2 * outer
        assert hook_count(random_model) == outer


def test_activations_are_those_of_the_encoder(demo_model: ReplacementModel) -> None:
    forward = demo_model.forward(demo_model.tokenize(DEMO_PROMPT))
    for layer, active in enumerate(demo_model.get_activations(DEMO_PROMPT)):
        dense = demo_model.transcoders.layers[layer].encode(forward.reads[layer])
        assert torch.equal(dense[active.pos, active.feature], active.value)
        assert len(active.value) == int((dense[1:] != 0).sum())


def test_content_hash_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    first = content_hash(tmp_path)
    (tmp_path / ".hidden").write_bytes(b"2")
    assert content_hash(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert content_hash(tmp_path) != first


@pytest.mark.parametrize(
    "reference", ["/no/such/folder", "./missing", "package:tracer/no/such", "package:no_such_package/x"]
)
def test_references_that_lead_nowhere_are_refused(reference: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        resolve(reference)


def test_a_hub_name_offline_is_refused_with_a_clear_error() -> None:
    with pytest.raises(ModelError, match="neither a local folder nor a repository"):
        resolve("no-such-org/no-such-repo")
