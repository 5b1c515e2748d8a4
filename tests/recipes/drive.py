"""Runs the commands that recipes name, one after the other, with settings that make a run small: a process of its own,
since the hub's address is read at import.

    python -m tests.recipes.drive FOLDER CONFIG...
"""

import json
import re
import sys
import time
from pathlib import Path

import yaml

from tracer.cli import main

OVERRIDES = {"model": {"device": "cpu"}, "corpus": {"limit": 3}, "runner": {"n_actors": 1}}
"""All that is changed in a recipe."""
GIGAFLOPS = "50"


def commands_of(recipe: Path) -> list[list[str]]:
    """The commands in the comment at the start of a recipe, without `tracer`."""
    return [line.split() for line in re.findall(r"^#   tracer (.+)$", recipe.read_text(encoding="utf-8"), re.MULTILINE)]


def drive(recipe: Path, folder: Path) -> dict[str, int]:
    """Exit codes of a recipe's commands, by name; the run is in `folder / recipe.stem`."""
    settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    for section, changed in OVERRIDES.items():
        settings[section] |= changed
    small = folder / recipe.name
    small.write_text(yaml.safe_dump(settings))
    more = {"estimate": ["--gflops", GIGAFLOPS], "run": ["--inline", "--out", str(folder / recipe.stem)]}
    codes = {}
    for command, _, *options in commands_of(recipe):
        started = time.perf_counter()
        try:
            main([command, str(small), *options, *more[command]])
        except SystemExit as end:
            codes[command] = int(end.code or 0)
        print(f"{recipe.name}: {command} took {time.perf_counter() - started:.1f} s")
    return codes


if __name__ == "__main__":
    out, *recipes = map(Path, sys.argv[1:])
    (out / "codes.json").write_text(json.dumps({recipe.name: drive(recipe, out) for recipe in recipes}))
