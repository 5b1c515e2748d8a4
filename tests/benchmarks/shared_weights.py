"""How much of their weights the worker processes of one machine share.

Run `python -m tests.benchmarks.shared_weights`: 1, 2 and 4 processes, each with a `TraceWorker` on the CPU, first on
files in float32 (GPT-2-shaped, 347 MB, and a per-layer set of 227 MB), then on files in bfloat16 (Llama-shaped, 308 MB
once in float32, and a set of 227 MB), without and with `model.shared_cache`. Prints, as means over the processes and
above what they took before they loaded anything, memory of their own (USS), that with their share of what several
processes hold (PSS) and all that is resident (RSS), once loaded and after some prompts; then the PSS of all together.
"""

import gc
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import load_file, save_file

from tests.benchmarks.build import built
from tests.benchmarks.shapes import FOLDER, REPOSITORY, SHAPES, Shape, prompt_ids
from tracer.config import parse_config
from tracer.corpus.prompts import Prompt
from tracer.run.worker import TraceWorker

N_PROCESSES = (1, 2, 4)
N_PROMPTS = 4
DEMO = {"checkpoint": "package:tracer.model.demo/files/language_model",
        "transcoders": "package:tracer.model.demo/files/per_layer"}  # fmt: skip
_PARTS = {"uss": ("Private_Clean", "Private_Dirty"), "pss": ("Pss",), "rss": ("Rss",)}


def memory_bytes() -> dict[str, int]:
    """What this process takes: `uss`, `pss` and `rss`, as psutil has them."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {name: 1024 * sum(kilobytes[part] for part in parts) for name, parts in _PARTS.items()}


def make_worker(settings: dict[str, Any]) -> TraceWorker:
    """A worker on the CPU with one thread."""
    return TraceWorker(parse_config({"model": settings | {"device": "cpu"}, "corpus": {"source": "none"}}))


def prompts_of(shape: Shape, n_prompts: int = N_PROMPTS) -> list[Prompt]:
    """The first prompts of the shape's first length."""
    return [
        Prompt(
            prompt_id=str(idx), text="", token_ids=tuple(prompt_ids(shape, shape.lengths[0], idx)), targets=(),
            task=None, split=None, pair_id=None, answer=None, counterfactual_answer=None, answer_token_id=None,
            metadata={},
        )
        for idx in range(n_prompts)
    ]  # fmt: skip


def serve(settings: dict[str, Any], shape_name: str) -> None:
    """What a process does: what it is told to line by line, with one JSON line in answer to each."""
    make_worker(DEMO)  # imports all there is to import
    gc.collect()
    worker: TraceWorker | None = None
    for line in sys.stdin:
        command, started = line.strip(), time.perf_counter()
        if command == "load":
            worker = make_worker(settings)
        elif command == "trace" and worker is not None:
            failures = worker.trace(prompts_of(SHAPES[shape_name]), "shard", 0)["failures"]
            assert not len(failures), failures
        gc.collect()
        print(json.dumps(memory_bytes() | {"seconds": time.perf_counter() - started}), flush=True)


def measured(settings: dict[str, Any], shape_name: str, n_processes: int) -> dict[str, list[dict[str, float]]]:
    """What each of some processes takes at `start`, `loaded` and `traced`, and seconds of the step before."""
    command = [sys.executable, "-m", "tests.benchmarks.shared_weights", json.dumps(settings), shape_name]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(n_processes)
        ]

        def told(order: str) -> list[dict[str, float]]:
            for process in processes:
                print(order, file=process.stdin, flush=True)
            return [json.loads(process.stdout.readline()) for process in processes]  # type: ignore[union-attr]

        found = {}
        for name, order in (("start", "wait"), ("loaded", "load"), ("traced", "trace")):
            done = told(order)
            # Memory once all of them are that far.
            found[name] = [now | {"seconds": then["seconds"]} for now, then in zip(told("wait"), done, strict=True)]
        return found


def rounded(shape: Shape) -> tuple[Path, Path]:
    """Folders of a built checkpoint and its transcoders, their files in bfloat16."""
    folders = []
    for folder in built(shape):
        to = folder.with_name(f"{folder.name}-bfloat16")
        to.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.suffix == ".safetensors":
                tensors = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
                save_file(tensors, to / path.name, metadata={"format": "pt"})
            else:
                (to / path.name).write_bytes(path.read_bytes())
        folders.append(to)
    return folders[0], folders[1]


def show(name: str, found: dict[str, list[dict[str, float]]]) -> None:
    """One line a moment."""
    start = found["start"]
    for moment in ("loaded", "traced"):
        above = {
            part: fmean(now[part] - then[part] for now, then in zip(found[moment], start, strict=True)) / 1e6
            for part in _PARTS
        }
        of_all = sum(now["pss"] for now in found[moment]) / 1e6
        seconds = fmean(now["seconds"] for now in found[moment])
        print(
            f"{name:<28}{len(start)} {moment}: USS {above['uss']:+5.0f}  PSS {above['pss']:+5.0f}  "
            f"RSS {above['rss']:+5.0f} MB a process; PSS of all {of_all:5.0f} MB; {seconds:.2f} s",
            flush=True,
        )


def main(arguments: list[str]) -> None:
    """With settings and a shape: one of the processes; without: the whole benchmark."""
    if arguments:
        serve(json.loads(arguments[0]), arguments[1])
        return
    gpt2, llama = SHAPES["12x768"], SHAPES["llama-12x768"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=FOLDER) as cache:
        cases = (
            ("float32", gpt2, built(gpt2), None),
            ("bfloat16", llama, rounded(llama), None),
            ("bfloat16, shared_cache", llama, rounded(llama), cache),
        )
        for name, shape, (checkpoint, transcoders), shared_cache in cases:
            settings = {"checkpoint": str(checkpoint), "transcoders": str(transcoders), "lazy_decoder": False}
            for n_processes in N_PROCESSES:
                found = measured(settings | {"shared_cache": shared_cache}, shape.name, n_processes)
                show(name, found)


if __name__ == "__main__":
    main(sys.argv[1:])
