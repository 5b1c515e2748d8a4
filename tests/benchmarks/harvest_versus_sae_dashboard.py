"""A harvest's pass beside SAEDashboard's collection of activations: the same weights, tokens and features, in turns.

    python -m tests.benchmarks.harvest_versus_sae_dashboard setup
    python -m tests.benchmarks.harvest_versus_sae_dashboard compare

SAEDashboard reads the corpus anew for every layer and some hundred features (256 by default), and holds their
activations densely; it computes correlations on the way, and leaves examples and histograms to a later step, which is
not timed. A harvest does everything of a shard. Firings are counted on both sides, and must agree.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import typer
from safetensors.torch import save_file
from transformers import GPT2Config

from tests.benchmarks.harvest import Sides, drawn_windows, made_model, timed
from tests.benchmarks.shapes import FOLDER, REPOSITORY

PYTHON = FOLDER / "sae-dashboard-env" / "bin" / "python"
app = typer.Typer()


@app.command()
def setup() -> None:
    """SAEDashboard in an environment of its own."""
    subprocess.run([sys.executable, "-m", "venv", str(PYTHON.parent.parent)], check=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "sae-dashboard==0.8.0", "pyarrow<20"], check=True)


@app.command()
def compare(
    n_layers: int = 4, d_model: int = 256, n_features: int = 4096, n_tokens: int = 8192, threads: int = 1,
    n_rounds: int = 2, features_at_once: int = 256, python: Path = PYTHON
) -> None:  # fmt: skip
    """Both sides in turns."""
    torch.set_num_threads(threads)
    d_vocab = 5000
    config = GPT2Config(vocab_size=d_vocab, n_positions=128, n_embd=d_model, n_layer=n_layers, n_head=d_model // 64)
    windows = drawn_windows(n_tokens, d_vocab)
    with tempfile.TemporaryDirectory() as place:
        model = made_model(config, n_features, "cpu", torch.float32, keep=Path(place) / "model")
        sides = Sides(model, windows, 4096, "float32", d_vocab)
        tensors = {"tokens": torch.tensor([window.token_ids for window in windows])}
        for encoder in sides.reader.encoders:
            tensors[f"W_enc_{encoder.layer}"] = encoder.transcoder.W_enc.contiguous()
            tensors[f"threshold_{encoder.layer}"] = encoder.transcoder.nonlinearity.threshold
        save_file(tensors, Path(place) / "encoders.safetensors")
        script = REPOSITORY / "tests" / "benchmarks" / "sae_dashboard_side.py"
        command = [str(python), str(script), place, str(threads), str(features_at_once)]
        ours, theirs = [], []
        for _ in range(n_rounds):
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            theirs.append(json.loads(told))
            ours.append(timed(sides.harvest, "cpu")[0])
    sums = sides.harvest().tables["feature_sums"]
    n_firings = sums.group_by("layer", maintain_order=True).sum()["n_firings"].to_list()
    print(json.dumps({
        "tracer_seconds": [round(seconds, 2) for seconds in ours],
        "sae_dashboard_seconds": [round(side["seconds"], 2) for side in theirs],
        "times_faster": [round(side["seconds"] / seconds, 1) for side, seconds in zip(theirs, ours, strict=True)],
        "tracer_firings": n_firings,
        "sae_dashboard_firings": theirs[-1]["n_firings"],
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    app()
