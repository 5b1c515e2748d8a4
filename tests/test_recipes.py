"""The recipes of configs/: they parse, they are commented, and as they stand they run against repositories that are
small but laid out as the published ones.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
import torch
import yaml

from tests.hub.server import Hub, hub_server
from tests.recipes import checkpoint_files, dataset_files, transcoder_files
from tests.recipes.drive import commands_of
from tests.recipes.formulas import FORMULAS
from tracer.config import RunConfig
from tracer.config.harvest import HarvestConfig, load_any_config

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = [
    path
    for path in sorted((REPOSITORY / "configs").glob("*.yaml"))
    if "autointerp" not in yaml.safe_load(path.read_text(encoding="utf-8"))  # settings of a labelling
]
RECIPES = [path for path in CONFIGS if path.name not in {"demo.yaml", "harvest-demo.yaml"}]
TOKEN = "hf_recognisable"
MODELS = {
    "openai-community/gpt2": checkpoint_files.write_gpt2,
    "meta-llama/Llama-3.2-1B": checkpoint_files.write_llama,
    "google/gemma-2-2b": checkpoint_files.write_gemma2,
    "Qwen/Qwen3-4B": checkpoint_files.write_qwen3,
    "google/gemma-3-270m": checkpoint_files.write_gemma3,
    "pchlenski/gpt2-transcoders": transcoder_files.write_gpt2_transcoders,
    "mntss/transcoder-Llama-3.2-1B": transcoder_files.write_llama_transcoders,
    "mntss/gemma-scope-transcoders": transcoder_files.write_gemma2_list,
    "google/gemma-scope-2b-pt-transcoders": transcoder_files.write_gemma_scope,
    "mntss/clt-gemma-2-2b-426k": transcoder_files.write_gemma2_cross_layer,
    "mwhanna/qwen3-4b-transcoders": transcoder_files.write_qwen3_transcoders,
    "mwhanna/gemma-scope-2-270m-pt": transcoder_files.write_gemma3_transcoders,
}
DATASETS = {
    "HuggingFaceFW/fineweb": dataset_files.write_fineweb,
    "NeelNanda/pile-10k": dataset_files.write_pile,
    "roneneldan/TinyStories": dataset_files.write_stories,
}
GATED = {"meta-llama/Llama-3.2-1B", "google/gemma-2-2b", "google/gemma-3-270m"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """The hub after all recipes have run, its files, the folder of the runs, what was printed, exit codes, commits."""

    hub: Hub
    repositories: Path
    folder: Path
    output: str
    codes: dict[str, dict[str, int]]
    commits: dict[str, str]


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    """All recipes, run one after the other in one process."""
    repositories, folder = tmp_path_factory.mktemp("repositories"), tmp_path_factory.mktemp("runs")
    with hub_server() as hub:
        commits = {}
        for kind, writers in (("model", MODELS), ("dataset", DATASETS)):
            for name, write in writers.items():
                (repositories / name).mkdir(parents=True, exist_ok=True)
                write(repositories / name)
                commits[name] = hub.add(name, repositories / name, kind=kind, gated=name in GATED)
        hub.tokens = {TOKEN: GATED}
        environment = hub.environment(tmp_path_factory.mktemp("cache"), TOKEN)
        environment |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, "-m", "tests.recipes.drive", str(folder), *map(str, RECIPES)]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        codes = json.loads((folder / "codes.json").read_text())
        yield Driven(hub=hub, repositories=repositories, folder=folder, output=output, codes=codes, commits=commits)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_section_of_a_configuration_is_read_and_commented(path: Path) -> None:
    assert isinstance(load_any_config(path), RunConfig | HarvestConfig)
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ")
    commented: dict[str, bool] = {}
    for line in lines:
        if line[:1].isalpha():
            commented[line.partition(":")[0]] = False
        if commented and "# " in line:
            commented[list(commented)[-1]] = True
    assert commented == dict.fromkeys(yaml.safe_load(path.read_text(encoding="utf-8")), True)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_names_its_own_commands_and_is_in_the_list(path: Path) -> None:
    found = [(command, config) for command, config, *_ in commands_of(path)]
    assert found == [("estimate", f"configs/{path.name}"), ("run", f"configs/{path.name}")]
    assert f"`configs/{path.name}`" in (REPOSITORY / "configs" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_runs_as_it_stands(driven: Driven, path: Path) -> None:
    assert driven.codes[path.name] == {"estimate": 0, "run": 0}, driven.output
    with duckdb.connect(str(driven.folder / path.stem / "results.duckdb"), read_only=True) as results:
        assert results.sql("SELECT n_prompts, n_graphs, n_failures FROM runs").fetchall() == [(3, 3, 0)]
        features = results.sql("SELECT graph_id FROM nodes WHERE kind = 'feature' GROUP BY graph_id").fetchall()
    assert len(features) == 3


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_run_records_what_its_names_meant(driven: Driven, path: Path) -> None:
    config = load_any_config(path)
    asked = {"checkpoint": config.model.checkpoint, "transcoders": config.model.transcoders}
    if not config.corpus.source.startswith("tasks:"):
        asked["dataset"] = config.corpus.source
    record = json.loads((driven.folder / path.stem / "run.json").read_text())
    folder = driven.repositories / config.model.transcoders
    settings = yaml.safe_load((folder / "config.yaml").read_text()) if (folder / "config.yaml").is_file() else {}
    for entry in settings.get("transcoders", []):
        if entry.startswith("hf://"):
            repository = "/".join(entry.removeprefix("hf://").split("/")[:2])
            asked[f"listed:{repository}"] = repository
    found = {name: (origin["reference"], origin["commit"]) for name, origin in record["origins"].items()}
    commits = {name: driven.commits["/".join(reference.split("/")[:2])] for name, reference in asked.items()}
    assert found == {name: (reference, commits[name]) for name, reference in asked.items()}
    assert all(len(origin["content_hash"]) == 16 for origin in record["origins"].values())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_activations_in_the_tables_are_those_of_the_published_formula(driven: Driven, path: Path) -> None:
    checkpoint = driven.repositories / load_any_config(path).model.checkpoint
    with duckdb.connect(str(driven.folder / path.stem / "results.duckdb"), read_only=True) as results:
        prompts = results.sql("SELECT graph_id, token_ids FROM graphs JOIN prompts USING (prompt_id)").fetchall()
        nodes = {
            graph_id: results.execute(
                "SELECT layer, pos, feature, activation FROM nodes WHERE kind = 'feature' AND graph_id = ?", [graph_id]
            ).fetchall()
            for graph_id, _ in prompts
        }
    for graph_id, token_ids in prompts:
        expected = FORMULAS[path.name](driven.repositories, checkpoint, torch.tensor(token_ids))
        found = torch.tensor([activation for *_, activation in nodes[graph_id]])
        at_nodes = torch.stack([expected[layer][pos, feature] for layer, pos, feature, _ in nodes[graph_id]])
        assert (at_nodes > 0).all()
        torch.testing.assert_close(found, at_nodes.to(found), rtol=1e-4, atol=1e-4)


def test_nothing_is_fetched_that_no_recipe_reads(driven: Driven) -> None:
    fetched = driven.hub.downloads()
    assert any(path.endswith(".npz") for path in fetched)
    unread = (".bin", ".h5", ".msgpack", ".ot", ".pth", ".tflite", "train.txt", "_affine/layer_0.safetensors")
    assert [path for path in fetched if path.endswith(unread)] == []
    assert [path for path in fetched if "average_l0_115" in path or "CC-MAIN" in path] == []


def test_the_token_is_in_no_file_of_a_run_and_in_no_output(driven: Driven) -> None:
    files = [path for path in driven.folder.rglob("*") if path.is_file()]
    assert len(files) > len(RECIPES)
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
    assert TOKEN not in driven.output
