"""What a large transcoder set takes in memory while its matrices stay on disk.

Run `python -m tests.benchmarks.lazy_set`: writes a random per-layer set of the shape of Gemma 2 2B (26 layers of 16,384
features, width 2,304, bfloat16: 4 GB), then in a fresh process reads it lazily, encodes some positions at every layer
and gathers the encoder and decoder rows of all active features. Prints the process's high-water mark of memory.
"""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from tests.benchmarks.shapes import FOLDER, REPOSITORY
from tracer.model.architectures import ARCHITECTURES, CheckpointFacts
from tracer.model.readers.registry import read_transcoders
from tracer.model.transcoders import TranscoderSet

N_POSITIONS = 8
ENCODER_BIAS = -2.6
"""Pre-activations are standard normal, so about 1 feature in 200 is active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetShape:
    """Sizes of a per-layer set."""

    n_layers: int
    n_features: int
    d_model: int

    @property
    def n_bytes(self) -> int:
        """Its matrices in bfloat16."""
        return self.n_layers * 2 * self.n_features * self.d_model * 2

    def facts(self) -> CheckpointFacts:
        """A model that it fits."""
        return CheckpointFacts(
            architecture_name="Gemma2ForCausalLM", architecture=ARCHITECTURES["Gemma2ForCausalLM"],
            n_layers=self.n_layers, d_model=self.d_model, n_ctx=8192, n_heads=8, n_kv_heads=4, d_head=256,
            d_vocab=256000, parallel=False, final_softcap=30.0,
        )  # fmt: skip


LARGE = SetShape(n_layers=26, n_features=16384, d_model=2304)


def write_set(folder: Path, shape: SetShape) -> Path:
    """A random set as a circuit-tracer folder, written layer by layer."""
    settings = {
        "model_name": "random", "model_kind": "transcoder_set", "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "hook_mlp_out",
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    generator = torch.Generator().manual_seed(0)
    for layer in range(shape.n_layers):
        W_enc, W_dec = (
            torch.randn(shape.n_features, shape.d_model, generator=generator).mul_(shape.d_model**-0.5).bfloat16()
            for _ in range(2)
        )
        b_enc, b_dec = torch.full((shape.n_features,), ENCODER_BIAS), torch.zeros(shape.d_model)
        save_file(
            {"W_enc": W_enc, "b_enc": b_enc.bfloat16(), "W_dec": W_dec, "b_dec": b_dec.bfloat16()},
            folder / f"layer_{layer}.safetensors",
        )
    return folder


def read_lazily(folder: Path, shape: SetShape) -> TranscoderSet:
    """The set with every large matrix left on disk."""
    return read_transcoders(folder, shape.facts(), device=torch.device("cpu"), lazy_encoder=True, lazy_decoder=True)


@torch.no_grad()
def encode_and_gather(transcoders: TranscoderSet, n_positions: int = N_POSITIONS) -> list[int]:
    """Encode random positions at every layer and gather the rows of active features; how many are active in each."""
    n_active = []
    for layer in transcoders.layers:
        active = layer.active(torch.randn(n_positions, len(layer.b_dec)), 0)
        layer.encoder_rows(active.feature)
        layer.decoded(active, 0, n_positions)
        n_active.append(len(active.pos))
    return n_active


def high_water_bytes() -> int:
    """The most memory that this process ever had resident, mapped files included."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def read_here(folder: Path, shape: SetShape) -> dict[str, Any]:
    """Read and use the set in this process; what it took."""
    at_start, started = high_water_bytes(), time.perf_counter()
    n_active = encode_and_gather(read_lazily(folder, shape))
    return {
        "start_bytes": at_start,
        "peak_bytes": high_water_bytes(),
        "seconds": time.perf_counter() - started,
        "n_active": n_active,
    }


def read_in_a_fresh_process(folder: Path, shape: SetShape) -> dict[str, Any]:
    """The same in a process that has done nothing else."""
    sizes = [str(size) for size in (shape.n_layers, shape.n_features, shape.d_model)]
    command = [sys.executable, "-m", "tests.benchmarks.lazy_set", str(folder), *sizes]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def measured(shape: SetShape, parent: Path) -> dict[str, Any]:
    """Write a set under `parent`, read it in a fresh process, remove it."""
    with TemporaryDirectory(dir=parent) as folder:
        return read_in_a_fresh_process(write_set(Path(folder), shape), shape)


def main(arguments: list[str]) -> None:
    """With a folder and sizes: read that set and print figures as JSON; without: the whole benchmark."""
    if arguments:
        n_layers, n_features, d_model = map(int, arguments[1:])
        shape = SetShape(n_layers=n_layers, n_features=n_features, d_model=d_model)
        print(json.dumps(read_here(Path(arguments[0]), shape)))
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(FOLDER).free
    assert free_bytes > 2 * LARGE.n_bytes, f"{free_bytes:,} bytes are free, {2 * LARGE.n_bytes:,} needed"
    found = measured(LARGE, FOLDER)
    print(f"set on disk: {LARGE.n_bytes / 1e9:.2f} GB; in memory, float32: {2 * LARGE.n_bytes / 1e9:.2f} GB")
    print(f"high-water mark: {found['peak_bytes'] / 1e9:.2f} GB, of which {found['start_bytes'] / 1e9:.2f} GB at start")
    print(f"{sum(found['n_active'])} active features at {N_POSITIONS} positions in {found['seconds']:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
