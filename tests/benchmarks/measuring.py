"""Time and peak memory of a piece of work, and a trace of memory while it runs. Imports neither of the two sides."""

import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

TRACE_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a piece of work gave and took."""

    result: Any
    seconds: float
    peak_bytes: int
    """Above what was held just before: resident memory on a CPU, allocated memory on a GPU."""
    others_share: float
    """Share of the machine's processor time that other processes took meanwhile; a time is to be trusted near zero."""
    trace_bytes: list[int] = field(default_factory=list)
    """Resident (or allocated) memory above the same, at equal intervals."""

    def figures(self) -> dict[str, Any]:
        """The figures alone."""
        return {"seconds": self.seconds, "peak_bytes": self.peak_bytes, "others_share": self.others_share}


def measured(work: Callable[[], Any], device: str, *, trace: bool = False) -> Measured:
    """Run `work` and measure it.

    On a CPU the peak is the kernel's own high-water mark of resident memory (`VmHWM`), reset through
    `/proc/self/clear_refs` just before; freed memory is given back to the system first, so that it hides nothing.
    """
    gc.collect()
    is_cuda = device.startswith("cuda")
    if is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _held_bytes(is_cuda)
    samples: list[int] = []
    finished = threading.Event()
    sampler = threading.Thread(target=_sample, args=(samples, finished, is_cuda), daemon=True)
    if trace:
        sampler.start()
    start, others_before = time.perf_counter(), _others_seconds()
    result = work()
    if is_cuda:
        torch.cuda.synchronize()
    seconds, others = time.perf_counter() - start, _others_seconds() - others_before
    peak = torch.cuda.max_memory_allocated() if is_cuda else _status_bytes("VmHWM")
    finished.set()
    if trace:
        sampler.join()
    return Measured(
        result=result,
        seconds=seconds,
        peak_bytes=peak - before,
        others_share=max(0.0, others / (seconds * (os.cpu_count() or 1))),
        trace_bytes=[sample - before for sample in samples],
    )


def _others_seconds() -> float:
    """Processor time that all processes but this one have taken since the machine started."""
    name, user, nice, system, _, _, irq, softirq, steal, *_ = Path("/proc/stat").read_text(encoding="ascii").split()
    assert name == "cpu"
    busy = sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return busy - own.user - own.system


def _sample(samples: list[int], finished: threading.Event, is_cuda: bool) -> None:
    while not finished.wait(TRACE_INTERVAL_S):
        samples.append(_held_bytes(is_cuda))


def _held_bytes(is_cuda: bool) -> int:
    return torch.cuda.memory_allocated() if is_cuda else _status_bytes("VmRSS")


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
