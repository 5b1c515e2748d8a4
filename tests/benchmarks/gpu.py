"""Everything that is measured on a GPU, at the shape of Gemma 2 2B: 26 layers, width 2304, 16,384 features a layer.

Against circuit-tracer at equal precision: exact graphs of prompts of 16 tokens in float32 (where the full adjacency is
compared too) and TF32, and graphs with a cap on feature rows at 16, 64 and 512 tokens (every row of the longer ones
would not fit in circuit-tracer's dense matrices). Then tracer's graphs per second at every precision and coverage.
"""

import subprocess
import sys
from typing import Annotated

import typer

CAP = 7500
"""circuit-tracer's own default."""


def commands(shape: str, device: str, lengths: str, peak_tflops: float, memory_budget_gb: float) -> list[str]:
    """The commands that are run, one after the other."""
    first = lengths.split(",")[0]
    shared = f"{shape} --device {device} --memory-budget-gb {memory_budget_gb}"
    versus = f"versus_circuit_tracer {shared} --node-threshold 0.8 --pairs 2"
    return [
        f"{versus} --precision float32 --lengths {first}",
        f"{versus} --precision tf32 --lengths {first} --peak-tflops {peak_tflops}",
        f"{versus} --precision tf32 --lengths {lengths} --max-feature-nodes {CAP}",
        f"throughput {shared} --n-tokens {first} --n-prompts 4 --batches 1,4 --peak-tflops {peak_tflops}",
    ]


def main(
    shape: str = "gemma-2-2b",
    device: str = "cuda",
    lengths: Annotated[str, typer.Option(help="prompt lengths; the first one is run exactly")] = "16,64,512",
    peak_tflops: Annotated[float, typer.Option(help="the card's TF32 peak, dense; 494 on an H200")] = 494.0,
    memory_budget_gb: Annotated[float, typer.Option(help="tracer's working memory")] = 40.0,
) -> None:
    """Run every command, each in a process of its own; a failure is shown and the next one is run."""
    failed = []
    for command in commands(shape, device, lengths, peak_tflops, memory_budget_gb):
        print(f"\n$ {command}", flush=True)
        module, *arguments = command.split()
        if subprocess.run([sys.executable, "-m", f"tests.benchmarks.{module}", *arguments], check=False).returncode:
            failed.append(command)
    raise SystemExit("\n".join(["", "failed:", *failed]) if failed else 0)


if __name__ == "__main__":
    typer.run(main)
