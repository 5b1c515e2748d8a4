"""Every query of the cookbook runs, reads what its section says, and on the demo run has an answer."""

import re
from pathlib import Path

import pytest

from tests.readme_blocks import find_blocks
from tests.tables.cookbook import AGGREGATE, HARVEST, IN_FULL, PAGE, Recipe, recipes
from tracer.tables.database import ask, query
from tracer.tables.harvest_tables import HARVEST_TABLES
from tracer.tables.joining import connect_harvest
from tracer.tables.schema import TABLES

RECIPES = recipes()
OF_HARVESTS = [recipe for recipe in RECIPES if recipe.section == HARVEST]
OF_RUNS = [recipe for recipe in RECIPES if recipe.section != HARVEST]
NEED_STRATA = {"Which do so within strata, that is, not only because they belong to the same tasks?"}
"""Without rows where `aggregate.stratify_by` is not set."""
MAY_BE_EMPTY = {
    "What failed?", "Which groups and components have labels?", "How good are labels, beside their nulls?",
    "Which labels fail on texts that their author never saw?", "Is any document on both sides of a label's split?",
    "What did language models cost, and what became of the calls?",
}  # fmt: skip
"""Without rows where nothing failed, or no language model was asked."""
LARGE = {"nodes", "edges", "incidence", "head_loadings"}


@pytest.mark.parametrize("recipe", OF_RUNS, ids=lambda recipe: recipe.question)
def test_a_query_runs_on_a_tiny_run(recipe: Recipe, tiny_results: Path) -> None:
    assert query(tiny_results, recipe.sql).columns


@pytest.mark.parametrize("recipe", OF_HARVESTS, ids=lambda recipe: recipe.question)
def test_a_query_has_an_answer_on_a_tiny_harvest_beside_the_run(
    recipe: Recipe, tiny_results: Path, tiny_harvest: Path
) -> None:
    with connect_harvest(tiny_harvest, tiny_results) as connection:
        assert ask(connection, recipe.sql).height > 0


def test_every_table_of_a_harvest_is_asked_something() -> None:
    asked = set().union(*(recipe.harvested for recipe in OF_HARVESTS))
    assert asked == set(HARVEST_TABLES)


def test_every_block_of_sql_is_found_and_every_question_asked_once() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(RECIPES) == len([block for block in find_blocks(text) if block.kind == "sql"]) >= 50
    assert len({recipe.question for recipe in RECIPES}) == len(RECIPES)


def test_sections_read_what_they_say() -> None:
    for recipe in OF_RUNS:
        assert not recipe.harvested, recipe.question
        assert recipe.tables, recipe.question
        if recipe.section == AGGREGATE:
            assert {TABLES[name].made_by for name in recipe.tables} <= {"aggregate", "view"}, recipe.question
        assert (recipe.section == IN_FULL) <= bool(recipe.tables & LARGE), recipe.question


def test_every_table_is_asked_something_or_is_counts_of_others(tiny_results: Path) -> None:
    there = query(tiny_results, "SELECT table_name FROM duckdb_tables() WHERE database_name = 'results'")
    asked = set().union(*(recipe.tables for recipe in RECIPES))
    assert set(there["table_name"]) - asked <= {"logits", "qk_edges", "feature_activation_hist"}


def test_the_map_of_tables_names_tables_and_prose_is_no_wider_than_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert all(len(line) <= 120 or line.startswith("|") for line in text.splitlines())
    modules = re.findall(r"`(\w+\.py)`", prose)
    assert set(modules) <= {path.name for path in PAGE.parent.glob("*.py")}
    columns = {f"{table.name}.{column.name}" for table in TABLES.values() for column in table.columns}
    named = {span for span in re.findall(r"`(\w+\.\w+)`", prose) if span.split(".")[0] in TABLES}
    assert named <= columns


@pytest.mark.slow
@pytest.mark.parametrize("recipe", OF_RUNS, ids=lambda recipe: recipe.question)
def test_a_query_has_an_answer_on_the_demo_run(recipe: Recipe, demo_run: Path) -> None:
    frame = query(demo_run / "results.duckdb", recipe.sql)
    assert frame.height > 0 or recipe.question in MAY_BE_EMPTY
