"""The queries of tracer/tables/README.md by section and question."""

import re
from dataclasses import dataclass
from pathlib import Path

from tracer.tables.schema import TABLES

PAGE = Path(__file__).resolve().parents[2] / "tracer" / "tables" / "README.md"
AGGREGATE, IN_FULL, HARVEST = "Aggregate tables", "Nodes and edges in full", "A harvest"
"""Sections whose queries read aggregate tables alone, nodes or edges from end to end, a harvest beside the run."""
ENTRY = re.compile(r"^### (?P<question>[^\n]+)\n\n```sql\n(?P<sql>.*?)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Recipe:
    """One query with the question that it answers and the section that it is in."""

    section: str
    question: str
    sql: str

    @property
    def tables(self) -> set[str]:
        """The declared tables that it reads."""
        return set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", self.sql)) & set(TABLES)

    @property
    def harvested(self) -> set[str]:
        """The tables of a harvest that it reads."""
        return set(re.findall(r"\b(?:FROM|JOIN)\s+harvest\.(\w+)", self.sql))


def recipes() -> list[Recipe]:
    """All of them, in order."""
    text = PAGE.read_text(encoding="utf-8")
    sections = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return [
        Recipe(section, entry["question"], entry["sql"].strip())
        for section, body in zip(sections[::2], sections[1::2], strict=True)
        for entry in ENTRY.finditer(body)
    ]
