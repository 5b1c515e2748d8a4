"""Engine, oracle, row sums and doubled sources against each other over architectures, transcoder kinds and hooks."""

import pytest

from tests.attribution.matrix import ALL_CELLS, POSSIBLE_CELLS, Cell, covering_cells, model_of, outcome
from tests.checkpoints import loaded, write_transcoders
from tracer.errors import ModelError
from tracer.model.checks import check_transcoders

COVERING_CELLS = covering_cells(POSSIBLE_CELLS)


def assert_agreement(cell: Cell) -> None:
    found = outcome(cell)
    assert found.n_features > 5, "a graph without features proves nothing"
    assert found.row_difference <= 1e-4
    assert found.bias_difference <= 2e-4
    assert found.identity_difference <= 1e-4
    assert found.doubling_difference <= 5e-4


@pytest.mark.parametrize("cell", COVERING_CELLS, ids=str)
def test_engine_oracle_and_forward_pass_agree(cell: Cell) -> None:
    assert_agreement(cell)


@pytest.mark.slow
@pytest.mark.parametrize("cell", sorted(set(POSSIBLE_CELLS) - set(COVERING_CELLS)), ids=str)
def test_engine_oracle_and_forward_pass_agree_in_every_possible_cell(cell: Cell) -> None:
    assert_agreement(cell)


def test_the_selection_holds_every_pair_of_settings_that_is_possible() -> None:
    possible = set().union(*(cell.pairs for cell in POSSIBLE_CELLS))
    assert set().union(*(cell.pairs for cell in COVERING_CELLS)) == possible
    assert len(COVERING_CELLS) <= 65
    every = set().union(*(cell.pairs for cell in ALL_CELLS))
    assert {dict(pair)["architecture"] for pair in every - possible} == {"neox"}


def test_impossible_cells_are_refused_with_the_reason(tmp_path_factory: pytest.TempPathFactory) -> None:
    checkpoint, _ = loaded("neox")
    folder = write_transcoders(
        checkpoint, tmp_path_factory.mktemp("set"), cross_layer=False, read_hook="hook_resid_mid"
    )
    with pytest.raises(ModelError, match="attention and MLP in parallel"):
        check_transcoders(str(checkpoint), str(folder))
    cell = next(cell for cell in ALL_CELLS if cell.why_impossible is not None)
    with pytest.raises(ModelError, match="attention and MLP in parallel"):
        model_of(cell)
