"""Speed and memory of a harvest's pass, beside the least that it could take.

    python -m tests.benchmarks.harvest pass --n-tokens 8192 --threads 2
    python -m tests.benchmarks.harvest memory
    python -m tests.benchmarks.harvest gpu

`pass`: 12 layers x 768 x 12,288 features, random weights, thresholds at which about 60 features fire per layer and
position. In turns, on the same windows: a bare forward pass of the plain model, the same as far as encoders need it,
the encoders' matrix products alone, and everything that a shard takes, its partial tables included. Processor time of
this process is told beside the time that went by, since other work on the machine moves the latter. `gpu`: the same at
the shape of Gemma 2 2B on a CUDA device, in bfloat16. Every round harvests the same documents, so that no
examples of others are remembered: choosing among these again, as a worker does from its second shard on, is not timed.
`memory`: resident memory of a harvest of the embedded model by length of the corpus.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, GPT2Config

from tests.benchmarks.measuring import measured
from tests.checkpoints import write_tokenizer
from tracer.attribution.precision import Precision
from tracer.config.harvest import ExampleConfig
from tracer.corpus.windows import Window, batches_of
from tracer.harvest.reading import WindowReader, encoders_of
from tracer.harvest.shard import Harvester
from tracer.model.architectures import checkpoint_facts
from tracer.model.booting import boot
from tracer.model.forward_until import values_at
from tracer.model.nonlinearity import JumpReLU
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import LayerTranscoder, TranscoderSet

app = typer.Typer()
WINDOW_TOKENS, N_ACTIVE = 128, 60
DENSE = {"float32": 67e12, "bfloat16": 989e12}
"""Matrix products per second of an H200 by its makers, without sparsity."""


def made_model(
    config: Any, n_features: int, device: str, dtype: torch.dtype, keep: Path | None = None
) -> ReplacementModel:
    """A random checkpoint with random encoders, which read the MLP's input; it stays in the folder `keep`, if given."""
    with tempfile.TemporaryDirectory() as place:
        folder = keep or Path(place)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)
        write_tokenizer(folder, d_vocab=config.vocab_size)
        facts = checkpoint_facts(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        bridge = boot(folder, tokenizer, torch.device(device), dtype=dtype)
    draws = torch.Generator().manual_seed(1)
    layers = []
    for _ in range(facts.n_layers):
        rows = torch.randn(n_features, facts.d_model, generator=draws) / facts.d_model**0.5
        layers.append(
            LayerTranscoder(
                W_enc=rows.to(device),
                b_enc=torch.zeros(n_features, device=device),
                nonlinearity=JumpReLU(torch.zeros(n_features, device=device)),
                W_dec=torch.zeros(1, 1, 1, device=device).expand(n_features, 1, facts.d_model),
                b_dec=torch.zeros(facts.d_model, device=device),
            )
        )
    transcoders = TranscoderSet(
        layers=tuple(layers), read_point="mlp_in", write_point="mlp_out", cross_layer=False, model_name="random"
    )
    return ReplacementModel(bridge, tokenizer, transcoders, facts)


def drawn_windows(n_tokens: int, d_vocab: int) -> list[Window]:
    """Windows of random tokens with Zipf's frequencies, two to a document."""
    draws = torch.Generator().manual_seed(2)
    weights = 1.0 / torch.arange(1, d_vocab, dtype=torch.float64)
    windows = []
    for number in range(n_tokens // WINDOW_TOKENS):
        tokens = torch.multinomial(weights, WINDOW_TOKENS - 1, replacement=True, generator=draws) + 1
        name, start = f"{(number // 2) * 2654435761:016x}", (number % 2) * (WINDOW_TOKENS - 1)
        windows.append(Window(document_id=name, start=start, token_ids=(0, *tokens.tolist())))
    return windows


def set_thresholds(reader: WindowReader, windows: list[Window]) -> None:
    """Let about `N_ACTIVE` features of each layer fire at a position."""
    token_ids = torch.tensor([window.token_ids for window in windows[:4]], device=reader.model.device)
    counts = torch.ones_like(token_ids, dtype=torch.bool)
    counts[:, 0] = False
    for encoder, values in zip(reader.encoders, reader.reads(token_ids, counts).values, strict=True):
        pre = encoder.transcoder.pre_activations(values[:64])
        share = 1 - N_ACTIVE / pre.shape[1]
        encoder.transcoder.nonlinearity.threshold.fill_(float(torch.quantile(pre[:8].flatten().cpu(), share)))


class Sides:
    """The pieces of work that are timed, on the same windows."""

    def __init__(
        self, model: ReplacementModel, windows: list[Window], batch_tokens: int, precision: Precision, d_vocab: int
    ) -> None:
        self._model, self._windows, self._batch_tokens = model, windows, batch_tokens
        self.reader = WindowReader(model, encoders_of(model), high_norm_ratio=10.0, precision=precision)
        set_thresholds(self.reader, windows)
        self._harvester = Harvester(
            self.reader, ExampleConfig(), lambda idx: f"w{idx}", d_vocab=d_vocab, reference_share=0.01
        )
        self._is_low = precision == "bfloat16"

    @torch.no_grad()
    def forward(self) -> None:
        """The plain model's logits."""
        for batch in batches_of(self._windows, self._batch_tokens):
            token_ids = torch.tensor([window.token_ids for window in batch], device=self._model.device)
            self._model.bridge(token_ids)

    def stopped_forward(self) -> None:
        """The same as far as the last encoder needs it: neither the last MLP nor the unembedding."""
        for batch in batches_of(self._windows, self._batch_tokens):
            token_ids = torch.tensor([window.token_ids for window in batch], device=self._model.device)
            values_at(self._model, [self.reader.encoders[-1].hook], token_ids)

    @torch.no_grad()
    def encoders(self) -> None:
        """The encoders' matrix products, positions by features, a tile at a time and thrown away."""
        draws = torch.Generator().manual_seed(3)
        reads = torch.randn(self._batch_tokens, self._model.facts.d_model, generator=draws).to(self._model.device)
        layers = [encoder.transcoder.W_enc for encoder in self.reader.encoders]
        if self._is_low:
            reads, layers = reads.bfloat16(), [rows.bfloat16() for rows in layers]
        held = reads.new_empty(2048, len(reads))
        for batch in batches_of(self._windows, self._batch_tokens):
            n_places = sum(len(window.token_ids) - 1 for window in batch)
            for rows in layers:
                for tile in rows.split(2048):
                    torch.mm(tile, reads[:n_places].T, out=held[: len(tile), :n_places])

    def harvest(self) -> Any:
        """Everything of a shard, to its partial tables."""
        return self._harvester.harvest(self._windows, self._batch_tokens)


def timed(work: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds that went by over a piece of work, and seconds of this process' processors."""
    start, own = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - own


def report(sides: Sides, n_tokens: int, device: str, n_rounds: int) -> dict[str, Any]:
    """Times in turns, and what they say."""
    turns = [
        {name: timed(getattr(sides, name), device) for name in ("forward", "stopped_forward", "encoders", "harvest")}
        for _ in range(n_rounds)
    ]
    taken = measured(sides.harvest, device)
    sums = taken.result.tables["feature_sums"]

    def ratios(forward: str, clock: int) -> list[float]:
        return [round(t["harvest"][clock] / (t[forward][clock] + t["encoders"][clock]), 3) for t in turns]

    return {
        "seconds": {name: [round(turn[name][0], 3) for turn in turns] for name in turns[0]},
        "processor_seconds": {name: [round(turn[name][1], 3) for turn in turns] for name in turns[0]},
        "ratio": statistics.median(ratios("forward", 0)),
        "ratios": ratios("forward", 0),
        "ratios_by_processor_time": ratios("forward", 1),
        "ratios_to_stopped_forward_by_processor_time": ratios("stopped_forward", 1),
        "tokens_per_second": round(n_tokens / statistics.median(turn["harvest"][0] for turn in turns), 1),
        "active_per_layer_and_position": round(sums["n_firings"].sum() / n_tokens / len(sides.reader.encoders), 1),
        "peak_bytes_above_model": taken.peak_bytes,
        "others_share": round(taken.others_share, 3),
    }


@app.command("pass")
def one_pass(
    n_tokens: int = 8192, threads: int = 2, n_rounds: int = 3, n_layers: int = 12, batch_tokens: int = 4096
) -> None:
    """12 layers x 768 x 12,288 features on this machine's CPU."""
    torch.set_num_threads(threads)
    config = GPT2Config(vocab_size=50257, n_positions=WINDOW_TOKENS, n_embd=768, n_layer=n_layers, n_head=12)
    model, windows = made_model(config, 12288, "cpu", torch.float32), drawn_windows(n_tokens, 50257)
    sides = Sides(model, windows, batch_tokens, "float32", 50257)
    print(json.dumps(report(sides, n_tokens, "cpu", n_rounds), indent=1))


@app.command()
def gpu(n_tokens: int = 262144, n_rounds: int = 3, n_layers: int = 26, batch_tokens: int = 32768) -> None:
    """26 layers x 2,304 x 16,384 features on a CUDA device, in bfloat16: tokens per second and share of peak."""
    config = Gemma2Config(
        vocab_size=256000, hidden_size=2304, intermediate_size=9216, num_hidden_layers=n_layers, num_attention_heads=8,
        num_key_value_heads=4, head_dim=256, query_pre_attn_scalar=256, max_position_embeddings=WINDOW_TOKENS,
        bos_token_id=0, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    model, windows = made_model(config, 16384, "cuda", torch.bfloat16), drawn_windows(n_tokens, 256000)
    found = report(Sides(model, windows, batch_tokens, "bfloat16", 256000), n_tokens, "cuda", n_rounds)
    n_products = sum(parameter.numel() for parameter in model.bridge.parameters()) - 256000 * 2304
    flops = 2 * (n_products + n_layers * 2304 * 16384)
    found["share_of_peak"] = round(found["tokens_per_second"] * flops / DENSE["bfloat16"], 4)
    print(json.dumps(found, indent=1))


@app.command()
def memory(
    n_tokens: Annotated[list[int] | None, typer.Argument(help="lengths of the corpus")] = None, packed: int = 64
) -> None:
    """Resident memory of `tracer harvest --inline` on the embedded model, and the size of `feature_tokens`."""
    for length in n_tokens or [100_000, 1_000_000, 10_000_000]:
        command = [sys.executable, "-m", "tests.benchmarks.harvest_memory", str(length), str(packed)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    app()
