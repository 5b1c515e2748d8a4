"""The formulas of the estimate: counted arithmetic, how they grow, and what is shared."""

from dataclasses import replace

import pytest

from tracer.attribution.cost import Shape, Work, memory, n_carried, row_flops, seconds
from tracer.attribution.row_shares import layer_shares, rows_share

SHAPE = Shape(
    n_layers=12, d_model=768, n_heads=12, n_kv_heads=12, d_head=64, d_vocab=50257, n_parameters=124_000_000,
    n_multiplied=124_000_000, n_features=12 * 3072, n_decoder_floats=12 * 3072 * 768, cross_layer=False, n_skips=0,
    lazy_encoder=False, lazy_decoder=False, model_is_mapped=True, transcoders_are_mapped=True,
)  # fmt: skip
WORK = Work(
    n_tokens=16, n_together=1, n_active=20.0, coverage=0.95, max_feature_nodes=None, memory_budget_bytes=2 * 1024**3
)


def total(items) -> float:
    return sum(item.amount for item in items)


def test_arithmetic_of_a_prompt_counted_by_hand() -> None:
    # One layer below, one head of 2, width 3, two positions to see, one active feature each, every row.
    shape = replace(SHAPE, n_layers=2, d_model=3, n_heads=1, n_kv_heads=1, d_head=2)
    work = replace(WORK, n_tokens=3, n_active=1.0, coverage=1.0, memory_budget_bytes=0)
    at_layer_0 = [2 * 3 * 2 + 2 * 2 * n**2 for n in (1, 2)]
    at_layer_1 = [2 * 3 * 2 * (1 + n) + 2 * 3 * 2 * n + 2 * 2 * 2 * n**2 + 2 * 3 * n * (1 + 2) for n in (1, 2)]
    assert row_flops(shape, work) == sum(at_layer_0) + sum(at_layer_1)
    assert n_carried(shape, work) == 1 + 2


def test_rows_grow_with_the_square_of_what_is_active_and_of_layers_and_prompts() -> None:
    base = row_flops(SHAPE, WORK)
    assert 1.9 < row_flops(SHAPE, replace(WORK, n_active=40.0)) / base < 2.2, (
        "more rows, and a few more sources for each"
    )
    assert 3.5 < row_flops(replace(SHAPE, n_layers=24), WORK) / base < 4.5
    assert 4.0 < row_flops(SHAPE, replace(WORK, n_tokens=32)) / base < 5.0


def test_less_coverage_and_a_cap_cost_less() -> None:
    times = [total(seconds(SHAPE, replace(WORK, coverage=share), 1e11, "cpu")) for share in (0.9, 0.95, 0.99)]
    assert times == sorted(times)
    capped = replace(WORK, coverage=1.0, max_feature_nodes=100)
    assert capped.share_of_rows(SHAPE) == pytest.approx(100 / (20 * 12 * 15))
    assert total(seconds(SHAPE, capped, 1e11, "cpu")) < times[0]


def test_the_share_of_rows_is_one_when_all_are_wanted_and_falls_with_coverage() -> None:
    assert rows_share(1.0) == 1.0
    shares = [rows_share(share) for share in (0.2, 0.5, 0.9, 0.92, 0.95, 0.99, 0.9995)]
    assert shares == sorted(shares)
    assert shares[0] > 0


def test_low_layers_have_most_of_the_rows_and_none_more_than_all() -> None:
    for share in (0.3, 0.46, 0.72, 0.99, 1.0):
        shares = layer_shares(share, 12)
        assert sum(shares) / 12 == pytest.approx(share)
        assert max(shares) <= 1.0
        assert shares == sorted(shares, reverse=True)


def test_sources_are_pushed_up_where_that_is_less_work_and_they_fit() -> None:
    exact = replace(WORK, coverage=1.0)
    assert 0 < WORK.n_lower(SHAPE) < 6
    assert replace(exact, max_feature_nodes=100).n_lower(SHAPE) == 0
    assert exact.n_lower(SHAPE) == 6
    assert replace(exact, memory_budget_bytes=1024**2).n_lower(SHAPE) == 0
    assert row_flops(SHAPE, exact) < 0.7 * row_flops(SHAPE, replace(exact, memory_budget_bytes=1024**2))


def test_memory_holds_model_and_transcoders_once() -> None:
    host, gpu = memory(SHAPE, WORK, "cpu")
    amounts = {item.name: item for item in host}
    assert gpu == []
    assert amounts["model"].amount == 4 * 124_000_000
    assert amounts["encoders"].amount == amounts["decoders"].amount == 4 * 12 * 3072 * 768
    assert {item.name for item in host if item.is_shared} == {"model", "encoders", "decoders"}
    copied, _ = memory(replace(SHAPE, model_is_mapped=False, transcoders_are_mapped=False), WORK, "cpu")
    assert not any(item.is_shared for item in copied)
    assert total(copied) == total(host)


def test_decoders_left_on_disk_take_no_memory() -> None:
    host, _ = memory(replace(SHAPE, lazy_decoder=True), WORK, "cpu")
    assert {item.name: item.amount for item in host}["decoders"] == 0


def test_on_a_gpu_the_model_lies_there_and_rows_on_the_host() -> None:
    host, gpu = memory(SHAPE, WORK, "cuda")
    assert "model" in {item.name for item in gpu} - {item.name for item in host}
    assert any(item.name.startswith("rows") for item in host)
    assert not any(item.is_shared for item in gpu)


def test_working_memory_stays_within_the_budget_however_long_the_prompt() -> None:
    work = replace(WORK, n_tokens=1024, memory_budget_bytes=512 * 1024**2)
    host, _ = memory(SHAPE, work, "cpu")
    amounts = {item.name: item.amount for item in host}
    rows = sum(amount for name, amount in amounts.items() if "rows" in name)
    assert rows <= 1.1 * work.memory_budget_bytes
