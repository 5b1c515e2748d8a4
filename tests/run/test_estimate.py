"""`tracer estimate`: what it reads, says and warns of, without loading anything."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.checkpoints import D_MODEL, N_FEATURES, N_LAYERS, write_checkpoint, write_transcoders
from tracer.cli import main
from tracer.config import RunConfig, parse_config
from tracer.errors import ConfigError, DataError
from tracer.run import estimate as estimating
from tracer.run.estimate import USUAL_ACTIVE, estimate_run
from tracer.run.machine import Machine, machine_for, matrix_rate
from tracer.run.sizes import sampled_lengths, shape_of

DEMO = "package:tracer.model.demo/files"
RATE = 1e11


def config_of(tmp_path: Path, **sections: dict) -> RunConfig:
    return parse_config(settings_of(tmp_path, **sections))


def settings_of(tmp_path: Path, **sections: dict) -> dict:
    model = {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"}
    settings = {"model": model, "corpus": {"source": "tasks:atlas"}}
    for name, section in sections.items():
        settings[name] = {**settings.get(name, {}), **section}
    return settings


def amount(items, part: str) -> float:
    return next(item.amount for item in items if part in item.name)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_sizes_come_from_the_headers(kind: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(kind, tmp_path / "checkpoint")
    transcoders = write_transcoders(checkpoint, tmp_path / "transcoders", cross_layer=True)
    shape = shape_of(checkpoint, transcoders)
    assert (shape.n_layers, shape.d_model, shape.n_features) == (N_LAYERS, D_MODEL, N_LAYERS * N_FEATURES)
    assert shape.n_decoder_floats == N_FEATURES * D_MODEL * sum(range(1, N_LAYERS + 1))
    assert (shape.cross_layer, shape.model_is_mapped, shape.lazy_decoder) == (True, True, False)
    from transformers import AutoModelForCausalLM

    parameters = dict(AutoModelForCausalLM.from_pretrained(checkpoint).named_parameters())
    assert shape.n_parameters == sum(parameter.numel() for parameter in parameters.values())
    is_tied = "lm_head.weight" not in parameters
    assert shape.n_multiplied == shape.n_parameters - (0 if is_tied else parameters["lm_head.weight"].numel())


def test_lengths_are_those_of_the_corpus_unless_given(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("the keys near the cabinet\nno such words\nMary went to the\n")
    config = config_of(tmp_path, corpus={"source": str(prompts)})
    found = estimate_run(config, rate=RATE)
    assert [work.n_tokens for work in found.works] == [5, 6]
    assert [work.n_tokens for work in estimate_run(config, n_tokens=40, rate=RATE).works] == [40]


def test_active_features_are_a_guess_unless_given_or_fixed(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert estimate_run(config, n_tokens=9, rate=RATE).works[0].n_active == USUAL_ACTIVE
    assert estimate_run(config, n_tokens=9, n_active=7.5, rate=RATE).works[0].n_active == 7.5
    checkpoint = write_checkpoint("gpt2", tmp_path / "checkpoint")
    folder = tmp_path / "transcoders"
    transcoders = write_transcoders(checkpoint, folder, cross_layer=False, nonlinearity="topk")
    settings = yaml.safe_load((transcoders / "config.yaml").read_text()) | {"activation": "topk", "k": 5}
    (transcoders / "config.yaml").write_text(yaml.safe_dump(settings))
    model = {"checkpoint": str(checkpoint), "transcoders": str(transcoders)}
    assert estimate_run(config_of(tmp_path, model=model), n_tokens=9, rate=RATE).works[0].n_active == 5


def test_a_source_that_must_be_fetched_or_holds_no_prompt_needs_a_length(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--n-tokens"):
        estimate_run(config_of(tmp_path, corpus={"source": "some/dataset"}), rate=RATE)
    empty = tmp_path / "prompts.txt"
    empty.write_text("xyzzy plugh\n")
    config = config_of(tmp_path, corpus={"source": str(empty)})
    with pytest.raises(DataError, match="--n-tokens"):
        sampled_lengths(config, Path(estimating.resolve(config.model.checkpoint)))


def test_what_does_not_fit_is_said_with_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def machine(host_bytes: int):
        return lambda config: Machine(device="cpu", host_bytes=host_bytes, gpu_bytes=None)

    config = config_of(tmp_path, runner={"n_actors": 8})
    assert estimate_run(config, n_tokens=9, rate=RATE).warnings == []
    monkeypatch.setattr(estimating, "machine_for", machine(2 * 10**9))
    (warning,) = estimate_run(config, n_tokens=9, rate=RATE).warnings
    assert warning.startswith("8 actors need ")
    assert warning.endswith("set runner.n_actors to 2")
    monkeypatch.setattr(estimating, "machine_for", machine(10**8))
    (warning,) = estimate_run(config, n_tokens=9, rate=RATE).warnings
    assert "not one fits" in warning


def test_a_gpu_that_is_too_small_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(device="cuda", host_bytes=10**12, gpu_bytes=10**9)
    monkeypatch.setattr(estimating, "machine_for", lambda config: machine)
    config = config_of(tmp_path, runner={"gpus_per_actor": 0.5})
    found = estimate_run(config, n_tokens=9, rate=RATE)
    assert amount(found.gpu, "CUDA context") > 0
    (warning,) = found.warnings
    assert "its share is 0.5 GB" in warning
    assert "runner.gpus_per_actor" in warning


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure")
def test_a_run_on_a_gpu_that_is_not_here_needs_a_rate(tmp_path: Path) -> None:
    config = config_of(tmp_path, model={"device": "cuda"})
    assert machine_for(config).gpu_bytes is None
    with pytest.raises(ConfigError, match="--gflops"):
        estimate_run(config, n_tokens=9)
    assert estimate_run(config, n_tokens=9, rate=RATE).machine.device == "cuda"


def test_the_rate_is_measured_with_the_threads_of_an_actor() -> None:
    before = torch.get_num_threads()
    assert matrix_rate(64, 64, "cpu", n_threads=1) > 1e8
    assert torch.get_num_threads() == before


def test_the_command_prints_memory_and_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings_of(tmp_path)))
    with pytest.raises(SystemExit) as end:
        main(["estimate", str(path), "--n-tokens", "12", "--active-per-position", "7", "--gflops", "50"])
    printed = capsys.readouterr().out
    assert end.value.code == 0
    for part in ("memory of an actor", "Python and libraries", "1,000 prompts, one actor", "7 active", "50 GFLOP/s"):
        assert part in printed
    assert "will not fit" not in printed


def test_nothing_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings_of(tmp_path)))
    code = (
        "import sys\nfrom tracer.cli import main\n"
        f"try:\n    main(['estimate', {str(path)!r}, '--gflops', '50'])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', [name for name in ('transformer_lens', 'ray', 'duckdb') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.splitlines()[-1] == "LOADED []"
