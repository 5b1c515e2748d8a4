"""Sides dealt out anew: as many on each side as there are, within strata, by name and never by order."""

import numpy as np
import pytest

from tracer.aggregate.comparing.sides import Sides

FIRST, SECOND = [f"a{idx}" for idx in range(7)], [f"b{idx}" for idx in range(13)]


def test_every_deal_keeps_the_sizes_of_the_sides_and_of_every_stratum():
    stratum = np.array([0, 0, 0, 1, 1, 1, 2, *([0, 1, 1, 2, 3] * 3)[:13]])
    for given in (None, stratum):
        sides = Sides.of(FIRST, SECOND, stratum=given)
        deals = sides.deal(0, 0, 50)
        assert deals.shape == (20, 50)
        assert set(np.unique(deals)) == {0.0, 1.0}
        for units, n_first in sides.strata():
            assert (deals[units].sum(axis=0) == n_first).all()
    assert [n_first for _, n_first in sides.strata()] == [3, 3, 1, 0]


def test_every_unit_is_dealt_to_the_first_side_as_often_as_its_share_says():
    deals = Sides.of(FIRST, SECOND).deal(0, 0, 4000)
    assert deals.mean(axis=1) == pytest.approx(np.full(20, 7 / 20), abs=4 * np.sqrt(0.35 * 0.65 / 4000))
    swaps = Sides.of(FIRST, FIRST[::-1], is_paired=True).deal(0, 0, 4000)
    assert set(np.unique(swaps)) == {-1.0, 1.0}
    assert np.abs(swaps.mean(axis=1)).max() < 4 / np.sqrt(4000)
    assert np.abs(np.corrcoef(swaps) - np.eye(7)).max() < 4.5 / np.sqrt(4000)


def test_what_a_unit_gets_hangs_on_its_name_not_on_its_place_nor_on_the_chunk():
    deals = Sides.of(FIRST, SECOND).deal(3, 0, 20)
    turned = Sides.of(FIRST[::-1], SECOND[::-1]).deal(3, 0, 20)
    assert (np.vstack([turned[:7][::-1], turned[7:][::-1]]) == deals).all()
    assert (Sides.of(FIRST, SECOND).deal(3, 8, 20) == deals[:, 8:]).all()
    assert (Sides.of(FIRST, SECOND).deal(4, 0, 20) != deals).any()
