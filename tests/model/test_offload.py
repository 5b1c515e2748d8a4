"""Weights that lie elsewhere while rows are computed: the same graphs, the same model afterwards, no file left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import DEMO_FILES
from tracer.attribution.attribute import attribute
from tracer.model.offload import OffloadedWeights
from tracer.model.replacement import ReplacementModel

PROMPT = "the capital of the state containing Dallas is"


def is_in_nameless_file(tensor: torch.Tensor) -> bool:
    """Whether a tensor's memory is a mapped file that has no name."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, *rest = line.split()
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        if start <= tensor.data_ptr() < end:
            return "(deleted)" in rest
    return False


def test_graphs_are_those_of_a_model_that_stays(demo_model: ReplacementModel) -> None:
    expected = attribute(PROMPT, demo_model)
    found = attribute(PROMPT, demo_model, offload="disk")
    assert torch.equal(found.edge_source, expected.edge_source)
    assert torch.equal(found.edge_weight, expected.edge_weight)
    again = attribute(PROMPT, demo_model)
    assert torch.equal(again.edge_weight, expected.edge_weight)


def test_what_rows_need_stays(demo_model: ReplacementModel) -> None:
    moved = {parameter.data_ptr() for parameter in demo_model.offloaded("disk").parameters}
    assert moved
    assert not moved & {tensor.data_ptr() for tensor in demo_model.weights.tensors()}
    assert demo_model.offloaded("cpu").n_bytes == (0 if demo_model.device.type == "cpu" else 1)


def test_parameters_are_in_memory_again_however_the_block_ends() -> None:
    parameter = torch.nn.Parameter(torch.arange(6.0).view(2, 3).to(torch.bfloat16), requires_grad=False)
    expected = parameter.clone()
    offloaded = OffloadedWeights([parameter], [], "disk")
    seen = []

    def fail() -> None:
        with offloaded.away():
            seen.append(is_in_nameless_file(parameter))
            assert torch.equal(parameter, expected)
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
        assert torch.equal(parameter, expected)
        assert not is_in_nameless_file(parameter)
    assert seen == [True, True]


def test_a_kill_leaves_no_file(tmp_path: Path) -> None:
    script = f"""
import os, signal
from tracer.model.replacement import ReplacementModel
model = ReplacementModel.from_pretrained("{DEMO_FILES}/language_model", "{DEMO_FILES}/per_layer", device="cpu")
with model.offloaded("disk").away():
    assert model.offloaded("disk").n_bytes > 0
    print("away", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "away\n"), done.stderr
    assert list(tmp_path.rglob("tracer-*")) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
