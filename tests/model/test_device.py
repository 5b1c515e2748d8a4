"""Names of devices: those that are there, and a user's error for all others."""

import pytest
import torch

from tracer.errors import ModelError
from tracer.model.device import resolve_device


def with_cuda_devices(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)


@pytest.mark.parametrize("name", [None, "auto"])
def test_without_a_name_cuda_is_taken_if_present(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with_cuda_devices(monkeypatch, 1)
    assert resolve_device(name) == torch.device("cuda")
    with_cuda_devices(monkeypatch, 0)
    assert resolve_device(name) == torch.device("cpu")


def test_a_device_that_is_there_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cuda_devices(monkeypatch, 2)
    for name in ("cpu", "cuda", "cuda:1"):
        assert resolve_device(name) == resolve_device(torch.device(name)) == torch.device(name)


@pytest.mark.parametrize(("name", "n_cuda"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_device_that_is_absent_is_refused(name: str, n_cuda: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_cuda_devices(monkeypatch, n_cuda)
    with pytest.raises(ModelError, match=rf"'{name}', and {n_cuda or 'no'} CUDA device"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu0", "", "cuda:x", "meta", "mps"])
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="expected auto, cpu, cuda or cuda:NUMBER"):
        resolve_device(name)
