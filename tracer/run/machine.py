"""The machine at hand: its memory, its GPU, and how fast it multiplies matrices."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tracer.config import RunConfig
from tracer.errors import ConfigError

N_RATE_ROWS, RATE_S = 512, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What an actor has."""

    device: str
    host_bytes: int
    gpu_bytes: int | None
    """None where no GPU is at hand to ask."""


def machine_for(config: RunConfig) -> Machine:
    """Where the actors of a run will work, as far as it is this machine."""
    here = torch.cuda.is_available()
    device = config.model.device
    on_gpu = device == "cuda" or (device == "auto" and (here or config.runner.gpus_per_actor > 0))
    return Machine(
        device="cuda" if on_gpu else "cpu",
        host_bytes=_host_bytes(),
        gpu_bytes=torch.cuda.get_device_properties(0).total_memory if on_gpu and here else None,
    )


def _host_bytes() -> int:
    """Memory of this machine, or what a container may use of it."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    stated = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return min(installed, int(stated)) if stated.isdigit() else installed


def matrix_rate(
    d_inner: int, d_outer: int, device: str, n_threads: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Floating-point operations per second of a plain product of matrices, measured for a moment.

    Raises:
        ConfigError: the device is not here.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise ConfigError(
            "estimate", found="a run on CUDA, and no CUDA device on this machine to measure",
            expected="the rate of an actor's matrix products", to_do="Give --gflops.",
        )  # fmt: skip
    n_before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        vectors = torch.randn(N_RATE_ROWS, d_inner, device=device)
        weights = torch.randn(d_inner, d_outer, device=device)
        took, started = [], clock()
        while clock() - started < RATE_S:
            before = clock()
            vectors @ weights
            if device != "cpu":
                torch.cuda.synchronize()
            took.append(clock() - before)
    finally:
        torch.set_num_threads(n_before)
    # The lower quartile: the first product is slow, and other processes may have the cores now and then.
    return 2 * vectors.numel() * weights.shape[1] / sorted(took)[len(took) // 4]
