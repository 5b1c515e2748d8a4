"""What counts as time."""

import pytest

from tracer.run.protocol.clock import LONGEST_STEP_S, WatchedTime


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ([1e9], 0.0),
        ([5.0, 6.0, 8.5], 3.5),
        ([100.0, 40.0, 41.0], 1.0),
        ([0.0, 1e9, 1e9 + 2], LONGEST_STEP_S + 2),
        ([0.0, -1e9, 0.0], LONGEST_STEP_S),
    ],
    ids=["first look", "goes on", "set back", "set forward", "back and forth"],
)
def test_time_goes_by_as_far_as_it_was_watched(said, seconds):
    watched = WatchedTime()
    for now in said:
        watched.look(now)
    assert watched.seconds == seconds
