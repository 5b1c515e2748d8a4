"""Runs the fenced blocks of README.md against a finished demo run, and writes their output into it.

    python -m tests.readme_blocks --run runs/demo --update            # the outputs
    python -m tests.readme_blocks --run runs/demo --update --picture  # and the picture; needs Chromium

Run are `python` (one namespace for all of them), `sql` (by plain DuckDB on `results.duckdb`) and `console` (lines that
begin with `$ tracer`). A `text` block right after one holds its output. Blocks see the run as `runs/demo`.
"""

import argparse
import base64
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

REPOSITORY = Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"
PICTURE = REPOSITORY / "tracer" / "views" / "images" / "attribution-graph.png"
RUN_IN_README = Path("runs/demo")

FENCE = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(r"\n\s*```text\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
BOX = re.compile(r"[\u2500-\u257f]")
NUMBER = re.compile(r"[-+]?(?P<digits>\d+(?:\.(?P<decimals>\d+))?)(?:e(?P<exponent>[-+]?\d+))?")
EDGES = "()[]{},:;"
SLACK = 1.5
"""Floats agree when they differ by at most this many units of the last digit printed."""

PICTURE_SCALE = 1.25
PICTURED = """
SELECT graph_id FROM graphs JOIN prompts USING (prompt_id) WHERE task = 'two_hop_capital' AND is_correct
ORDER BY abs(n_feature_nodes - 9), completeness_score DESC, graph_id LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block with the output that follows it (None without one); `output_span` is its place in the text."""

    kind: str
    code: str
    line: int
    output: str | None
    output_span: tuple[int, int]


def find_blocks(text: str) -> list[Block]:
    """All fenced blocks, in order."""
    blocks = []
    for match in FENCE.finditer(text):
        shown = OUTPUT.match(text, match.end())
        blocks.append(
            Block(
                kind=match["kind"],
                code=match["body"],
                line=text.count("\n", 0, match.start()) + 1,
                output=shown["body"] if shown else None,
                output_span=shown.span("body") if shown else (0, 0),
            )
        )
    return blocks


class Runner:
    """Runs blocks in a folder in which the demo run lies where the README says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def output(self, block: Block) -> str:
        """What the block prints, without white space at line ends."""
        run = {"python": self._python, "sql": self._sql, "console": self._console}[block.kind]
        with chdir(self._folder):
            printed = run(block)
        return "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())

    def _python(self, block: Block) -> str:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(block.code, f"README.md, line {block.line}", "exec"), self._names)
        return printed.getvalue()

    def _sql(self, block: Block) -> str:
        import duckdb

        with duckdb.connect(str(RUN_IN_README / "results.duckdb"), read_only=True) as connection:
            answer = connection.sql(block.code)
            assert len(answer) > 0, f"README.md, line {block.line}: the answer has no rows"
            return str(answer)

    def _console(self, block: Block) -> str:
        command = re.fullmatch(r"\$ tracer (?P<arguments>.*)", block.code.strip().replace("\\\n", " "), re.DOTALL)
        assert command, f"README.md, line {block.line}: not one command that begins with `$ tracer`"
        ended = subprocess.run(
            [sys.executable, "-m", "tracer", *shlex.split(command["arguments"])],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@contextmanager
def make_runner(run: Path) -> Iterator[Runner]:
    """A runner for the demo run at `run`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / RUN_IN_README).parent.mkdir()
        (folder / RUN_IN_README).symlink_to(run.absolute())
        (folder / "configs").symlink_to(REPOSITORY / "configs")
        yield Runner(folder)


def is_run(block: Block) -> bool:
    """Whether the block is one that can be run here."""
    return block.kind in {"python", "sql", "console"}


def outputs(text: str, run: Path) -> list[tuple[Block, str]]:
    """Every block that can be run, with what it prints now."""
    with make_runner(run) as runner:
        return [(block, runner.output(block)) for block in find_blocks(text) if is_run(block)]


def updated(text: str, run: Path) -> str:
    """The README with the outputs of today."""
    for block, printed in reversed(outputs(text, run)):
        if block.output is not None:
            start, end = block.output_span
            text = text[:start] + printed + text[end:]
    return text


def differences(expected: str, found: str) -> list[str]:
    """Lines that differ beyond rounding; frames of tables and the width of their columns do not count."""
    expected_lines, found_lines = _lines(expected), _lines(found)
    if len(expected_lines) != len(found_lines):
        return [f"{len(expected_lines)} lines in README.md, {len(found_lines)} now:\n{found}"]
    pairs = zip(expected_lines, found_lines, strict=True)
    return [f"- {' '.join(one)}\n+ {' '.join(other)}" for one, other in pairs if not _same_line(one, other)]


def _lines(text: str) -> list[list[str]]:
    lines = [BOX.sub(" ", line).split() for line in text.splitlines()]
    return [line for line in lines if line]


def _same_line(expected: list[str], found: list[str]) -> bool:
    if len(expected) != len(found):
        return False
    return all(_same_word(one, other) for one, other in zip(expected, found, strict=True))


def _same_word(expected: str, found: str) -> bool:
    if expected == found:
        return True
    one, other = (NUMBER.fullmatch(word.strip(EDGES)) for word in (expected, found))
    if one is None or other is None or not _is_float(one) or not _is_float(other):
        return False
    unit = min(_last_digit(one), _last_digit(other))
    return abs(float(one.group()) - float(other.group())) <= SLACK * unit


def _is_float(number: re.Match[str]) -> bool:
    return number["decimals"] is not None or number["exponent"] is not None


def _last_digit(number: re.Match[str]) -> float:
    return 10.0 ** (int(number["exponent"] or 0) - len(number["decimals"] or ""))


def draw_picture(run: Path, target: Path = PICTURE) -> None:
    """Draw the attribution graph of a two-hop prompt as the run page draws it, photographed by Chromium."""
    from tests.views.browser import open_tab
    from tracer.tables.database import query
    from tracer.views import page
    from tracer.views.graph_choice import read_graph

    database = run.absolute() / "results.duckdb"
    graph = read_graph(database, query(database, PICTURED)["graph_id"].item(), 400)
    with tempfile.TemporaryDirectory() as name, patch.object(page, "choose_graph", lambda _: graph):
        page.write_page(database, Path(name) / "page.html")
        with open_tab() as tab:
            tab.open((Path(name) / "page.html").as_uri(), width=1280)
            box = tab.evaluate(
                "(() => { const box = document.querySelector('#graph-picture').getBoundingClientRect();"
                " return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height}; })()"
            )
            shot = tab.send("Page.captureScreenshot", clip=box | {"scale": PICTURE_SCALE}, captureBeyondViewport=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(base64.b64decode(shot["data"]))


def main() -> int:
    """Compare, or rewrite with `--update`; exit code 1 where an output differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of configs/demo.yaml")
    parser.add_argument("--update", action="store_true", help="write the outputs of today into README.md")
    parser.add_argument("--picture", action="store_true", help="draw the picture anew")
    arguments = parser.parse_args()
    if arguments.picture:
        draw_picture(arguments.run)
    text = README.read_text(encoding="utf-8")
    if arguments.update:
        README.write_text(updated(text, arguments.run), encoding="utf-8")
        return 0
    differing = False
    for block, printed in outputs(text, arguments.run):
        for difference in differences(block.output, printed) if block.output is not None else []:
            print(f"README.md, line {block.line}\n{difference}")
            differing = True
    return int(differing)


if __name__ == "__main__":
    raise SystemExit(main())
