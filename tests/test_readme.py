"""README.md and its kin say what is true: blocks print what they show, and every name in them exists."""

import re
from pathlib import Path

import pytest
import typer.main
import yaml

import tracer
from tests.readme_blocks import PICTURE, README, REPOSITORY, differences, find_blocks, is_run, outputs
from tracer.cli import app
from tracer.config import RunConfig, load_config, parse_config
from tracer.config.harvest import load_harvest_config
from tracer.config.labels import load_labelling_config
from tracer.tables.schema import TABLES

LOADERS = {"autointerp": load_labelling_config, "harvest": load_harvest_config}
"""By a section that only they have: settings of a labelling and of a harvest."""
FOLDERS = ("tracer", "jobs", "tests", "configs", "notebooks")
PAGES = [page for folder in (".", *FOLDERS) if (page := REPOSITORY / folder / "README.md").is_file()]
COMMANDS = typer.main.get_command(app).commands
SUBCOMMANDS = {name: group.commands for name, group in COMMANDS.items() if hasattr(group, "commands")}
HELP = "--help"
EXAMPLE_PATHS = ("/models/", "/data/", "/results/", "/shared/")
"""Beginnings of the paths that stand for the reader's own."""


def spans(page: Path) -> list[str]:
    """Inline code outside fenced blocks."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def shell_lines(page: Path) -> list[str]:
    """Lines of shell blocks and console blocks, without prompts."""
    blocks = [block for block in find_blocks(page.read_text(encoding="utf-8")) if block.kind in {"sh", "console"}]
    return [line.removeprefix("$ ") for block in blocks for line in block.code.splitlines()]


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def page(request) -> Path:
    return request.param


def test_blocks_print_what_the_readme_shows(demo_run):
    text = README.read_text(encoding="utf-8")
    found = outputs(text, demo_run)
    assert {block.kind for block, _ in found} == {"python", "sql", "console"}
    stale = [
        f"README.md, line {block.line}\n" + "\n".join(differences(block.output, printed))
        for block, printed in found
        if block.output is not None and differences(block.output, printed)
    ]
    assert not stale, "\n".join([*stale, "If this is right: python -m tests.readme_blocks --run RUN --update"])


def test_every_block_that_answers_a_question_shows_its_answer():
    blocks = [block for block in find_blocks(README.read_text(encoding="utf-8")) if is_run(block)]
    assert all(block.output for block in blocks)


def test_every_fence_is_of_a_known_kind(page):
    text = page.read_text(encoding="utf-8")
    blocks = find_blocks(text)
    known = {"python", "sql", "console", "text", "sh", "yaml", "tree", "bibtex"}
    assert {block.kind for block in blocks} <= known
    assert 2 * len(blocks) == len(re.findall(r"^\s*```", text, re.MULTILINE)), "a fence that find_blocks does not see"


@pytest.mark.parametrize(
    ("shown", "printed", "is_same"),
    [
        ("a 0.123\n", "a 0.124\n", True),
        ("a 0.123\n", "a 0.125\n", False),
        ("a 12\n", "a 13\n", False),
        ("q 3e-17\n", "q 4e-17\n", True),
        ("q 3e-17\n", "q 3e-16\n", False),
        ("│ 1.0 │\n├─────┤\n", "│  1.0 │\n├──────┤\n", True),
        ("Austin\n", "Salem\n", False),
        ("a\nb\n", "a\n", False),
    ],
)
def test_outputs_agree_up_to_the_last_digit_of_floats(shown, printed, is_same):
    assert (not differences(shown, printed)) is is_same


def test_the_file_tree_is_true_and_whole():
    (tree,) = (block for block in find_blocks(README.read_text(encoding="utf-8")) if block.kind == "tree")
    paths, parents = [], []
    for line in tree.code.splitlines():
        name, comment = re.fullmatch(r"( *\S+) +# (.+)", line).groups()
        depth = (len(name) - len(name.lstrip())) // 2
        parents = [*parents[:depth], name.strip()]
        paths.append("".join(parents))
        assert comment
    for path in paths:
        assert (REPOSITORY / path).is_dir() if path.endswith("/") else (REPOSITORY / path).is_file(), path
    rooms = {f"tracer/{room.parent.name}/" for room in (REPOSITORY / "tracer").glob("*/__init__.py")}
    folders = {f"{name}/" for name in FOLDERS if (REPOSITORY / name).is_dir()}
    assert rooms | folders <= set(paths)


def test_every_path_named_exists(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("https://")]
    for link in links:
        assert (page.parent / link).exists(), link
    words = {word for span in [*spans(page), *shell_lines(page)] for word in span.split()}
    for word in words:
        if word.startswith(tuple(f"{folder}/" for folder in FOLDERS)):
            assert (REPOSITORY / word).exists(), word


def test_every_command_and_option_named_exists(page):
    every = {name: command for group in (COMMANDS, *SUBCOMMANDS.values()) for name, command in group.items()}
    known_options = {option for command in every.values() for parameter in command.params for option in parameter.opts}
    for line in [*spans(page), *shell_lines(page)]:
        words = line.split()
        if words[0] == "tracer" and len(words) > 1:
            assert words[1] in COMMANDS, line
            is_named = words[1] in SUBCOMMANDS and len(words) > 2
            command = SUBCOMMANDS[words[1]][words[2]] if is_named else COMMANDS[words[1]]
            options = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= options | {HELP}, line
        if words[0].startswith("--"):
            assert words[0] in known_options | {HELP}, line


def test_every_make_target_named_exists(page):
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in [*spans(page), *shell_lines(page)]:
        if line.startswith("make "):
            assert line.split()[1] in targets, line


def test_every_setting_and_column_named_exists(page):
    owners = {name: set(field.annotation.model_fields) for name, field in RunConfig.model_fields.items()}
    owners |= {table.name: {column.name for column in table.columns} for table in TABLES.values()}
    for span in spans(page):
        owner, dot, name = span.partition(".")
        if dot and owner in owners and re.fullmatch(r"\w+", name) and name != "duckdb":
            assert name in owners[owner], span


def test_every_configuration_shown_is_accepted(page):
    import yaml

    for block in find_blocks(page.read_text(encoding="utf-8")):
        if block.kind == "yaml":
            config = parse_config(yaml.safe_load(block.code))
            named = (config.model.checkpoint, config.model.transcoders, config.corpus.source, config.runner.out)
            assert all(path.startswith(EXAMPLE_PATHS) for path in named)


def test_every_recipe_is_accepted_and_described():
    recipes = sorted((REPOSITORY / "configs").glob("*.yaml"))
    described = (REPOSITORY / "configs" / "README.md").read_text(encoding="utf-8")
    for recipe in recipes:
        sections = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        load = next((LOADERS[name] for name in sections if name in LOADERS), load_config)
        load(recipe)
        assert recipe.name in described


def test_every_job_is_described():
    described = (REPOSITORY / "jobs" / "README.md").read_text(encoding="utf-8")
    for job in (REPOSITORY / "jobs").glob("*.py"):
        assert job.name in described


def test_what_is_public_is_named():
    text = README.read_text(encoding="utf-8")
    stable = text[text.index("## What is stable") : text.index("## Contribute")]
    assert {name for name in tracer.__all__ if not name.startswith("_")} <= set(re.findall(r"`(\w+)`", stable))


def test_the_picture_is_a_small_png():
    assert str(PICTURE.relative_to(REPOSITORY)) in README.read_text(encoding="utf-8")
    assert PICTURE.read_bytes().startswith(b"\x89PNG")
    assert PICTURE.stat().st_size < 150_000


def test_no_line_of_prose_is_wider_than_the_code(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for line in prose.splitlines():
        assert len(line) <= 120 or line.startswith(("|", "!")), line
