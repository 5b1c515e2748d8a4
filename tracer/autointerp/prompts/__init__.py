"""The texts that a language model is given: one file each, the unchanging part of a call, so that servers cache it."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """An unchanging text, and its version: the file's name with a hash of what it says."""

    text: str
    version: str


@cache
def instructions(name: str) -> Instructions:
    """The text of `<name>.txt` beside this file.

    Args:
        name: explain, settle, group, detect, fuzz, intruder, simulate or output.
    """
    text = Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").strip()
    return Instructions(text=text, version=f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
