"""A disk that is really full, and files of a run that are damaged behind its back."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disturbing import N_PROMPTS, SHARD_SIZE, check_whole, quiet, receipts, undisturbed_tiny_run
from tests.run.tiny_worker import TinyWorker, begin_tiny_run
from tests.test_cli_runs import (  # noqa: F401
    finished,
    run,
    test_damage_is_found_healed_by_tracing_the_shard_again_and_its_remains_are_collected,
)
from tracer.errors import RunError
from tracer.run import pipeline

pytestmark = pytest.mark.faults
ENOUGH = 256 * 2**20


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of its own, whose size can be changed."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ENOUGH}", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a file system needs root: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def resize(disk: Path, n_bytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={n_bytes}", str(disk)], check=True)


@pytest.mark.parametrize("shares_of_parts", [0.5, 2.0], ids=["before all parts", "before the results"])
def test_a_full_disk_ends_the_run_which_goes_on_once_there_is_room(shares_of_parts, disk, machines, tmp_path):
    undisturbed, root = undisturbed_tiny_run(tmp_path / "undisturbed" / "run"), disk / "run"
    size_of_parts = sum(path.stat().st_size for path in undisturbed.parent.glob("parts/*"))
    config = begin_tiny_run(root, n_prompts=N_PROMPTS, shard_size=SHARD_SIZE, n_actors=3)
    resize(disk, shutil.disk_usage(disk).used + round(shares_of_parts * size_of_parts))
    with pytest.raises(RunError, match="No space left on device.*Make room"):
        pipeline.run(config, root, console=quiet(), make_worker=TinyWorker)
    n_committed = len(receipts(root))
    assert (n_committed == N_PROMPTS // SHARD_SIZE) == (shares_of_parts > 1)
    resize(disk, ENOUGH)
    result = pipeline.run(config, root, console=quiet(), make_worker=TinyWorker)
    check_whole(result, undisturbed)
