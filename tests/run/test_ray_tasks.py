"""Blocks of work on Ray, whose processes are really lost."""

import os
import signal
from pathlib import Path

import pytest
import ray

from tracer.errors import DataError, RunError
from tracer.run.ray_tasks import ray_tasks


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=30)
    yield
    ray.shutdown()


def added(shared: int, block: int) -> int:
    """A block that can be done."""
    return shared + block


def lost_once(place: Path, block: int) -> int:
    """A block whose process is killed the first time that it is tried."""
    if block == 1 and not (place / "tried").exists():
        (place / "tried").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return block


def refused(_: None, block: int) -> int:
    """A block over data that cannot be used."""
    raise DataError("the block", found=str(block), expected="another", to_do="Give another.")


def broken(_: None, block: int) -> int:
    """A block that ends in an error of our own making."""
    raise ZeroDivisionError(f"block {block}")


def test_results_come_in_the_order_of_the_blocks_and_no_block_is_asked_for_before_it_can_start():
    asked = []

    def blocks():
        for block in range(6):
            asked.append(block)
            yield block

    results = ray_tasks(added, 10, blocks(), 2)
    assert next(results) == 10
    assert asked == [0, 1]
    assert list(results) == [11, 12, 13, 14, 15]


def test_no_blocks_give_no_results():
    assert list(ray_tasks(added, 10, [], 2)) == []


def test_a_block_whose_process_is_lost_is_done_again(tmp_path: Path):
    assert list(ray_tasks(lost_once, tmp_path, [0, 1, 2], 2)) == [0, 1, 2]
    assert (tmp_path / "tried").exists()


def test_an_error_that_a_user_can_mend_comes_as_it_is():
    with pytest.raises(DataError, match="the block: found 3; expected another"):
        list(ray_tasks(refused, None, [3, 4], 2))


def test_any_other_error_names_the_work_and_is_short():
    with pytest.raises(RunError, match="broken: found .*block 3") as raised:
        list(ray_tasks(broken, None, [3, 4], 2))
    assert "\n" not in str(raised.value)
