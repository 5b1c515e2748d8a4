"""Every kind of target: its reads against the oracle, its value against the plain forward pass, and what is refused."""

import jaxtyping
import pytest
import torch
from torch import Tensor

from tests.checkpoints import loaded, write_checkpoint, write_transcoders
from tracer.attribution.definitions import DemeanedLogit, LogitDirection
from tracer.attribution.explicit import ExplicitEngine
from tracer.attribution.oracle import Oracle
from tracer.attribution.prepared import Prepared, prepare
from tracer.attribution.reads import feature_reads
from tracer.attribution.target_kinds import (
    Direction,
    FeatureTarget,
    LogitDifference,
    LogitFunction,
    LogitTarget,
    NextTokenLoss,
)
from tracer.attribution.targets import choose_targets, salient_logits
from tracer.errors import ConfigError, DataError
from tracer.model.replacement import ReplacementModel

PROMPT = "w3 w14 w15 w9 w26 w5"
N_POS = 7


def probe(seed: int = 0) -> Tensor:
    return torch.randn(32, generator=torch.Generator().manual_seed(seed))


def entropy(logits: Tensor) -> Tensor:
    log_probabilities = logits[-1].log_softmax(-1)
    return -(log_probabilities.exp() * log_probabilities).sum()


def two_positions(logits: Tensor) -> Tensor:
    return logits[2, 5] * 2 - logits[-1].logsumexp(-1)


KINDS = {
    "logit": LogitTarget("w7"),
    "logit by id, earlier, weighted": LogitTarget(9, pos=2, weight=0.3),
    "difference": LogitDifference("w7", "w8"),
    "difference at an earlier position": LogitDifference(4, 5, pos=-3),
    "loss": NextTokenLoss("w12"),
    "loss at the special token": NextTokenLoss("w3", pos=0),
    "function": LogitFunction(entropy, "entropy"),
    "function of two positions": LogitFunction(two_positions, "mix"),
    "probe in front of layer 0": Direction(probe(), layer=0, place="resid_pre", pos=3),
    "probe between attention and MLP": Direction(probe(1), layer=1, place="resid_mid"),
    "probe behind the last layer": Direction(probe(2), layer=2, name="sentiment"),
    "feature of layer 0": FeatureTarget(0, 4, 7),
    "feature of the last layer": FeatureTarget(2, -1, 11),
}


@pytest.fixture(scope="module")
def prepared(random_model: ReplacementModel) -> Prepared:
    return prepare(random_model, random_model.tokenize(PROMPT), given_targets=list(KINDS.values()))


def target_nodes(prepared: Prepared) -> Tensor:
    return torch.arange(prepared.layout.first_target, prepared.layout.n_nodes)


def test_reads_of_every_kind_give_the_oracles_rows(random_model: ReplacementModel, prepared: Prepared) -> None:
    engine = ExplicitEngine(random_model, prepared, memory_budget_bytes=2**24)
    found = engine.rows_of_reads(prepared.targets.reads)
    expected = Oracle(random_model, prepared).rows(target_nodes(prepared))
    for name, row, oracle_row in zip(KINDS, found.weights, expected.weights, strict=True):
        difference = float((row - oracle_row).abs().max())
        assert difference <= 1e-4 * float(oracle_row.abs().max()), name
    torch.testing.assert_close(found.bias, expected.bias, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("names", [("probe between attention and MLP",), tuple(KINDS)], ids=["alone", "all"])
def test_in_parallel_layers_too_a_stream_lies_behind_attention(names: tuple[str, ...]) -> None:
    _, model = loaded("neox")
    given = [KINDS[name] for name in names]
    prepared = prepare(model, model.tokenize(PROMPT), given_targets=given)
    found = ExplicitEngine(model, prepared, memory_budget_bytes=2**24).rows_of_reads(prepared.targets.reads)
    expected = Oracle(model, prepared).rows(target_nodes(prepared))
    difference = (found.weights - expected.weights).abs().amax(1)
    assert bool((difference <= 1e-4 * expected.weights.abs().amax(1)).all())
    torch.testing.assert_close(found.bias, expected.bias, atol=2e-4, rtol=1e-4)


def test_a_row_and_its_bias_sum_to_the_targets_value(random_model: ReplacementModel, prepared: Prepared) -> None:
    rows = ExplicitEngine(random_model, prepared, memory_budget_bytes=2**24).rows(target_nodes(prepared))
    values = torch.tensor([target.logit for target in prepared.targets.targets])
    torch.testing.assert_close(rows.weights.sum(1) + rows.bias, values, atol=5e-4, rtol=1e-4)


def test_values_are_those_of_the_plain_forward_pass(random_model: ReplacementModel, prepared: Prepared) -> None:
    forward, values = prepared.forward, dict(zip(KINDS, prepared.targets.targets, strict=True))
    logits, last = forward.logits, forward.logits[-1]
    probabilities = last.softmax(-1)
    expected = {
        "logit": last[8] - last.mean(),
        "logit by id, earlier, weighted": logits[2, 9] - logits[2].mean(),
        "difference": last[8] - last[9],
        "difference at an earlier position": logits[4, 4] - logits[4, 5],
        "loss": last[13] - (probabilities * last).sum(),
        "probe in front of layer 0": forward.stream_start[3] @ probe(),
        "feature of layer 0": random_model.transcoders.layers[0].pre_activations(forward.reads[0, 4])[7],
    }
    for name, value in expected.items():
        assert values[name].logit == pytest.approx(float(value), abs=1e-4), name
    # The gradient of entropy is - p (log p + entropy).
    gradient = -probabilities * (probabilities.log() + entropy(logits))
    assert values["function"].logit == pytest.approx(float(gradient @ last), abs=1e-4)


def test_names_positions_and_weights(prepared: Prepared) -> None:
    targets = dict(zip(KINDS, prepared.targets.targets, strict=True))
    probabilities = prepared.forward.logits[-1].softmax(-1)
    assert targets["logit"].weight == pytest.approx(float(probabilities[8]))
    assert (targets["logit"].token, targets["logit"].token_id, targets["logit"].pos) == ("w7", 8, N_POS - 1)
    assert targets["logit by id, earlier, weighted"].weight == 0.3
    assert targets["logit by id, earlier, weighted"].pos == 2
    assert targets["difference"].token == "w7 - w8"
    assert targets["loss"].token == "loss of w12"
    assert targets["function of two positions"].pos == N_POS - 1
    assert targets["probe behind the last layer"].token == "sentiment"
    assert targets["feature of the last layer"].token == "feature 2/11"
    others = [target for name, target in targets.items() if not name.startswith("logit")]
    assert {(target.token_id, target.weight) for target in others} == {(None, 1.0)}


def test_a_function_of_several_positions_reads_at_each(prepared: Prepared) -> None:
    definition = prepared.targets.definitions[list(KINDS).index("function of two positions")]
    assert isinstance(definition, LogitDirection)
    assert definition.pos.tolist() == [2, N_POS - 1]
    reads = prepared.targets.reads
    assert reads.pos[reads.row == list(KINDS).index("function of two positions")].tolist() == [2, N_POS - 1]


def test_the_loss_is_the_gradient_of_the_log_probability(random_model: ReplacementModel) -> None:
    def log_probability(logits: Tensor) -> Tensor:
        return logits[-1].log_softmax(-1)[13]

    forward = random_model.forward(random_model.tokenize(PROMPT))
    given = [NextTokenLoss("w12"), LogitFunction(log_probability, "log probability")]
    reads = choose_targets(random_model, forward, given=given).reads
    torch.testing.assert_close(reads.vectors[0], reads.vectors[1], atol=1e-5, rtol=1e-4)


def test_a_cap_on_logits_bounds_probabilities_and_leaves_values(tmp_path_factory: pytest.TempPathFactory) -> None:
    checkpoint = write_checkpoint("gemma2", tmp_path_factory.mktemp("gemma2"))
    folder = write_transcoders(checkpoint, tmp_path_factory.mktemp("transcoders"), cross_layer=False)
    model = ReplacementModel.from_pretrained(checkpoint, folder, device="cpu")
    forward = model.forward(model.tokenize(PROMPT))
    assert float((forward.logits - forward.uncapped_logits).abs().max()) > 1e-3
    logit, loss = choose_targets(model, forward, given=["w7", NextTokenLoss("w7")]).targets
    uncapped, probabilities = forward.uncapped_logits[-1], forward.logits[-1].softmax(-1)
    assert logit.weight == pytest.approx(float(probabilities[8]), rel=1e-5)
    assert logit.logit == pytest.approx(float(uncapped[8] - uncapped.mean()), abs=1e-4)
    assert loss.logit == pytest.approx(float(uncapped[8] - probabilities @ uncapped), abs=1e-4)


def test_salient_logits_at_several_positions(random_model: ReplacementModel) -> None:
    forward = random_model.forward(random_model.tokenize(PROMPT))
    targets = choose_targets(random_model, forward, positions=(-1, 2, 6), max_n_logits=3, desired_logit_prob=1.0)
    assert [target.pos for target in targets.targets] == [6] * 3 + [2] * 3
    assert [target.token_id for target in targets.targets] == [
        *forward.logits[6].topk(3).indices.tolist(), *forward.logits[2].topk(3).indices.tolist()
    ]  # fmt: skip
    assert targets.reads.n_rows == 6


def test_plain_tokens_are_taken_at_the_asked_positions_and_count_once(random_model: ReplacementModel) -> None:
    forward = random_model.forward(random_model.tokenize(PROMPT))
    targets = choose_targets(random_model, forward, given=["w7", 8, 9, LogitTarget(9)], positions=(1, -1))
    assert [(target.token_id, target.pos) for target in targets.targets] == [(8, 1), (8, 6), (9, 1), (9, 6)]
    assert all(isinstance(definition, DemeanedLogit) for definition in targets.definitions)


def test_reads_of_many_features_are_those_of_each(random_model: ReplacementModel) -> None:
    forward = random_model.forward(random_model.tokenize(PROMPT))
    pos, feature = torch.tensor([5, 2, 5]), torch.tensor([1, 30, 2])
    together = feature_reads(random_model, forward, 1, pos, feature)
    for row in range(3):
        alone = feature_reads(random_model, forward, 1, pos[row : row + 1], feature[row : row + 1])
        torch.testing.assert_close(together.vectors[row], alone.vectors[0])
        torch.testing.assert_close(together.bias[row], alone.bias[0])


def test_a_feature_is_read_whether_active_or_not(random_model: ReplacementModel, prepared: Prepared) -> None:
    layer, pos = 1, N_POS - 1
    active = prepared.active[layer].feature[prepared.active[layer].pos == pos].tolist()
    inactive = next(feature for feature in range(48) if feature not in active)
    forward = prepared.forward
    given = [FeatureTarget(layer, pos, feature) for feature in (active[0], inactive)]
    values = [target.logit for target in choose_targets(random_model, forward, given=given).targets]
    pre_activations = random_model.transcoders.layers[layer].pre_activations(forward.reads[layer, pos])
    assert values == pytest.approx([float(pre_activations[active[0]]), float(pre_activations[inactive])], abs=1e-4)


def test_salience_needs_a_count_and_a_share() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    assert salient_logits(probabilities, 10, 0.75) == [0, 1]
    assert salient_logits(probabilities, 1, 0.75) == [0]
    for count, mass in ((0, 0.5), (3, 1.5)):
        with pytest.raises(ConfigError, match="at least 1"):
            salient_logits(probabilities, count, mass)


def test_a_function_that_cannot_be_attributed_is_refused(random_model: ReplacementModel) -> None:
    functions = {
        "does not depend": lambda logits: torch.tensor(1.0),
        "does not depend ": lambda logits: (logits[-1] > 0).sum().float() + 0 * logits.sum(),
        "one number": lambda logits: logits[-1],
        "one number ": lambda logits: 3.0,
        "infinite or not a number": lambda logits: (logits[-1, 0] - logits[-1, 0].detach()).sqrt(),
    }
    forward = random_model.forward(random_model.tokenize(PROMPT))
    for message, function in functions.items():
        with pytest.raises(DataError, match=message.strip()):
            choose_targets(random_model, forward, given=[LogitFunction(function, "mine")])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no such word", "one token of the vocabulary"),
        (LogitTarget(60), "id 60; expected 0 to 59"),
        (LogitTarget("w3", pos=7), "position 7; expected -7 to 6"),
        (LogitTarget("w3", weight=-1.0), "a positive number"),
        (LogitTarget("w3", weight=float("nan")), "a positive number"),
        (LogitDifference("w3", "w3"), "two tokens"),
        (NextTokenLoss("w3", pos=-8), "position -8"),
        (Direction(torch.ones(31), layer=0), "32 finite numbers"),
        (Direction(torch.full((32,), torch.nan), layer=0), "32 finite numbers"),
        (Direction(torch.zeros(32), layer=0), "not all zero"),
        (Direction(torch.ones(32), layer=3), "layer 3; expected 0 to 2"),
        (FeatureTarget(0, 1, 48), "feature 48 of layer 0; expected 0 to 47"),
        (FeatureTarget(-1, 1, 0), "layer -1"),
    ],
)
def test_what_does_not_fit_is_refused(random_model: ReplacementModel, target: object, message: str) -> None:
    forward = random_model.forward(random_model.tokenize(PROMPT))
    with pytest.raises(DataError, match=message):
        choose_targets(random_model, forward, given=[target])


def test_what_type_checkers_would_find_is_refused_without_them(
    random_model: ReplacementModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = random_model.forward(random_model.tokenize(PROMPT))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(DataError, match="resid_pre, resid_mid, resid_post"):
        choose_targets(random_model, forward, given=[Direction(torch.ones(32), layer=0, place="attn")])
    with pytest.raises(DataError, match="a kind of target"):
        choose_targets(random_model, forward, given=[1.5])


def test_no_position_is_refused(random_model: ReplacementModel) -> None:
    forward = random_model.forward(random_model.tokenize(PROMPT))
    with pytest.raises(DataError, match="no target"):
        choose_targets(random_model, forward, positions=())
