"""The command line: what it prints, and what it says to bad input."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tables.tiny_run import build_tiny_run
from tracer.cli import main

DEMO = "package:tracer.model.demo/files"
HEAVY = ("torch", "ray", "transformers", "duckdb", "polars", "pyarrow", "numpy")


def tracer(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def refusal(capsys, *arguments) -> str:
    """The one message of a command that fails as a user's error."""
    assert tracer(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert "Traceback" not in message
    return message


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli") / "run"
    build_tiny_run(root)
    return root


def write_config(tmp_path: Path, **sections) -> Path:
    """A configuration of the demo model, with these settings changed."""
    settings = {
        "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
        "corpus": {"source": "tasks:atlas", "limit": 8},
    }
    for name, section in sections.items():
        settings[name] = {**settings.get(name, {}), **section}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_help_loads_none_of_the_heavy_packages():
    code = (
        "import sys\nfrom tracer.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.splitlines()[-1] == "LOADED []"
    commands = "run trace aggregate harvest label relabel status verify gc show tables sql feature attribute import"
    assert all(f" {command} " in found for command in (*commands.split(), "export", "estimate", "config", "version"))


def test_tables_prints_every_declared_column_with_its_meaning(capsys, monkeypatch):
    from tracer.tables.harvest_tables import HARVEST_TABLES
    from tracer.tables.schema import TABLES

    monkeypatch.setenv("COLUMNS", "300")
    assert tracer("tables") == 0
    printed = capsys.readouterr().out
    for table in TABLES.values():
        assert f"{table.name}: one row per {table.grain}" in printed
        assert all(column.meaning in printed for column in table.columns)
    for table in HARVEST_TABLES.values():
        assert f"harvest.{table.name}: one row per {table.grain}" in printed
        assert all(column.meaning in printed for column in table.columns)
    assert tracer("tables", "edges") == 0
    assert "nodes: one row per" not in capsys.readouterr().out
    assert tracer("tables", "harvest.features") == 0
    assert "dead ones too" in capsys.readouterr().out


def test_an_unknown_table_is_refused_with_the_known_ones(capsys):
    assert "expected prompts, graphs" in refusal(capsys, "tables", "spaghetti")


def test_sql_prints_a_table_csv_or_json(capsys, tiny_run):
    query = "SELECT 36 AS n_prompts, corpus, [1, 2] AS list, NULL AS nothing FROM runs"
    assert tracer("sql", tiny_run, query) == 0
    assert "tasks:tiny" in capsys.readouterr().out
    assert tracer("sql", tiny_run, query, "--format", "csv") == 0
    assert capsys.readouterr().out == 'n_prompts,corpus,list,nothing\n36,tasks:tiny,"[1, 2]",\n'
    assert tracer("sql", tiny_run / "results.duckdb", query, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"n_prompts": 36, "corpus": "tasks:tiny", "list": [1, 2], "nothing": None}
    ]


def test_sql_prints_nested_values_in_csv_as_json(capsys, tiny_run):
    values = "{'a': 1, 'b': ['ä']} AS s, MAP {'k': DATE '2020-01-01'} AS m, [1]::INT[1] AS f, NULL::STRUCT(a INT) AS n"
    assert tracer("sql", tiny_run, f"SELECT {values}", "--format", "csv") == 0
    assert list(csv.reader(capsys.readouterr().out.splitlines())) == [
        ["s", "m", "f", "n"],
        ['{"a": 1, "b": ["ä"]}', '{"k": "2020-01-01"}', "[1]", ""],
    ]


@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_sql_prints_joins_with_columns_of_one_name_and_refuses_what_it_cannot_print(output, capsys, tiny_run):
    joined = "SELECT * FROM graphs JOIN prompts USING (prompt_id)"
    assert tracer("sql", tiny_run, joined, "--format", output) == 0
    assert "prompt_id" in capsys.readouterr().out
    message = refusal(capsys, "sql", tiny_run, "SELECT INTERVAL 3 DAY AS age", "--format", output)
    assert "a column age of type month_day_nano_interval" in message


def test_a_redirected_table_is_not_cut(capsys, tiny_run):
    assert tracer("sql", tiny_run, "SELECT repeat('wide', 100) AS text") == 0
    assert "wide" * 100 in capsys.readouterr().out


def test_wrong_sql_is_one_message_in_the_words_of_duckdb(capsys, tiny_run):
    assert tracer("sql", tiny_run, "SELECT nonsense FROM features") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: query: found")
    assert "nonsense" in message


def test_show_prints_the_summary_of_a_run(capsys, tiny_run):
    assert tracer("show", tiny_run) == 0
    printed = capsys.readouterr().out
    assert "Features that recur most" in printed
    assert "results.duckdb" in printed


def test_show_of_a_folder_that_is_no_run_is_refused(capsys, tmp_path):
    assert "results.duckdb: found no such file" in refusal(capsys, "show", tmp_path)
    assert "no run.json" in refusal(capsys, "aggregate", tmp_path)
    assert "no run.json" in refusal(capsys, "label", tmp_path)


def test_config_prints_every_setting_and_the_fingerprint(capsys):
    assert tracer("config", "configs/demo.yaml") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["runner"]["max_attempts"] == 3
    assert printed.err.startswith("fingerprint ")


def test_version_names_what_it_stands_on(capsys):
    assert tracer("version") == 0
    assert {"tracer", "python", "torch", "ray", "duckdb"} <= {
        line.split()[0] for line in capsys.readouterr().out.splitlines()
    }


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"pruning": {"node_treshold": 0.5}}, "pruning.node_treshold: found an unknown setting"),
        ({"attribution": {"max_n_logits": "many"}}, "attribution.max_n_logits: found 'many'"),
        ({"corpus": {"source": "nowhere.jsonl"}}, "nowhere.jsonl"),
        ({"corpus": {"source": "{tmp}/prompts.jsonl", "text_column": "words"}}, "found the columns text, n"),
        ({"corpus": {"source": "{tmp}/empty.jsonl"}}, "empty.jsonl"),
        ({"aggregate": {"stratify_by": "colour"}}, "aggregate.stratify_by: found 'colour'"),
        ({"model": {"checkpoint": "{tmp}/no_such_model"}}, "no_such_model"),
        ({"model": {"checkpoint": "{tmp}/without_tokenizer"}}, "a checkpoint without tokenizer"),
        ({"model": {"transcoders": "{tmp}/missing_layer"}}, "missing_layer"),
        ({"model": {"transcoders": "{tmp}/wrong_width"}}, "width"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(sections, message, capsys, tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"text": "Dallas is in", "n": 1}\n')
    (tmp_path / "empty.jsonl").write_text("")
    if "model" in sections:
        _spoil_models(tmp_path)
    filled = {
        name: {key: value.format(tmp=tmp_path) if isinstance(value, str) else value for key, value in section.items()}
        for name, section in sections.items()
    }
    config, out = write_config(tmp_path, **filled), tmp_path / "out" / "run"
    assert message in refusal(capsys, "run", config, "--out", out, "--inline")
    assert not out.parent.exists()


def _spoil_models(tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    from tracer.model.references import resolve

    shutil.copytree(resolve(f"{DEMO}/language_model"), tmp_path / "without_tokenizer")
    for path in (tmp_path / "without_tokenizer").glob("tokenizer*"):
        path.unlink()
    for name in ("missing_layer", "wrong_width"):
        shutil.copytree(resolve(f"{DEMO}/per_layer"), tmp_path / name)
    max((tmp_path / "missing_layer").glob("*.safetensors")).unlink()
    spoilt = min((tmp_path / "wrong_width").glob("*.safetensors"))
    save_file(
        {name: tensor[..., : tensor.shape[-1] // 2].contiguous() for name, tensor in load_file(spoilt).items()}, spoilt
    )


def test_a_missing_configuration_is_refused(capsys, tmp_path):
    assert "no such file" in refusal(capsys, "run", tmp_path / "absent.yaml", "--out", tmp_path / "run")


def test_a_relative_out_folder_inside_a_ray_job_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_ID", "01000000")
    assert "relative path inside a Ray job" in refusal(capsys, "run", write_config(tmp_path), "--out", "run")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_an_out_folder_under_a_file_is_refused(capsys, tmp_path):
    config = write_config(tmp_path)
    assert "is a file" in refusal(capsys, "run", config, "--out", config / "run")


def test_a_run_of_one_configuration_is_not_continued_with_another(capsys, tmp_path):
    out = tmp_path / "run"
    assert tracer("run", write_config(tmp_path), "--out", out, "--inline") == 0
    capsys.readouterr()
    other = write_config(tmp_path, pruning={"node_threshold": 0.5})
    assert "pruning.node_threshold 0.8; expected pruning.node_threshold 0.5" in refusal(
        capsys, "run", other, "--out", out
    )


def test_a_run_without_any_usable_prompt_ends_with_exit_code_2_and_rows_of_failures(capsys, tmp_path):
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("xyzzy plugh", "is " * 500)))
    out = tmp_path / "run"
    assert tracer("run", write_config(tmp_path, corpus={"source": str(source)}), "--out", out, "--inline") == 2
    assert "no usable prompt, 2 failures" in capsys.readouterr().err
    assert tracer("sql", out, "SELECT count(*) AS n FROM failures", "--format", "csv") == 0
    assert capsys.readouterr().out == "n\n2\n"


@pytest.mark.parametrize("options", [(), ("--inline",)])
def test_a_run_on_a_device_that_is_absent_is_refused_and_leaves_nothing(options, capsys, tmp_path, monkeypatch):
    without_cuda(monkeypatch)
    config = write_config(tmp_path, model={"device": "cuda"})
    message = refusal(capsys, "run", config, "--out", tmp_path / "run", *options)
    assert "device: found 'cuda', and no CUDA device" in message
    assert not (tmp_path / "run").exists()


def without_cuda(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_module_is_a_program_that_ends_with_the_exit_code(tmp_path):
    command = [sys.executable, "-m", "tracer.cli", "show", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "80"})
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("job", ["trace", "aggregate", "pipeline", "harvest"])
def test_a_job_takes_the_arguments_of_its_command(job):
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, f"jobs/{job}.py", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0
    assert {"trace": "CONFIG", "aggregate": "RUN", "pipeline": "CONFIG", "harvest": "CONFIG"}[job] in ended.stdout
