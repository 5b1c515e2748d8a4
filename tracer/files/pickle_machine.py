"""Takes a pickle apart without executing it: opcodes are read with `pickletools` and moved on a stack of plain data.

Nothing is imported, called or set. A class or function is a `Global`, two strings; what a pickle wants called is handed
to the reader that asked, which knows a few names and their meaning. Opcodes as in the standard library's `pickletools`.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracer.errors import DataError
from tracer.files.limits import refused, shown


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function that was not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True, kw_only=True)
class Inert:
    """An object that was not made: its class by name, and what it would have been made from."""

    module: str
    name: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meanings:
    """What a reader makes of the three things that plain data has no opcode for."""

    of_global: Callable[[Global], Any]
    of_call: Callable[[Global, tuple[Any, ...]], Any]
    of_reference: Callable[[Any], Any]
    """Of a persistent id, by which torch names a storage."""


def unpickled(data: bytes, path: Path, meanings: Meanings) -> Any:
    """The plain data that a pickle describes.

    Args:
        data: the pickle.
        path: its file, named in errors.
        meanings: what globals, calls and persistent ids stand for.

    Raises:
        DataError: the pickle is damaged, uses opcodes beyond plain data, or a meaning refuses something.
    """
    machine = _Machine(path, meanings)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name not in _OPERATIONS:
                operand = "" if argument is None else f" {shown(argument)}"
                raise machine.refusal(f"a pickle with {opcode.name}{operand}")
            _OPERATIONS[opcode.name](machine, argument)
        (value,) = machine.values
    except DataError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise refused(
            path, found=f"a damaged pickle ({type(error).__name__}: {str(error)[:200]})", expected="a whole one"
        ) from error
    return value


class _Machine:
    """The stack, the marks on it, and what was put aside to be used again."""

    def __init__(self, path: Path, meanings: Meanings) -> None:
        self.path, self.meanings = path, meanings
        self.values: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def refusal(self, found: str) -> DataError:
        """The error for what is neither plain data nor known to the reader."""
        return refused(
            self.path, found=found, expected="plain data and tensors",
            to_do="Nothing of it was executed. Write the file anew with plain data, or as safetensors.",
        )  # fmt: skip

    def take(self, n_values: int) -> list[Any]:
        """Remove the last values."""
        first = len(self.values) - n_values
        if first < (self.marks[-1] if self.marks else 0):
            raise ValueError("a value is missing")
        taken = self.values[first:]
        del self.values[first:]
        return taken

    def take_to_mark(self) -> list[Any]:
        """Remove the values above the last mark, and the mark."""
        taken = self.values[self.marks[-1] :]
        del self.values[self.marks.pop() :]
        return taken

    def append(self, items: list[Any]) -> None:
        """Add items to the list that is the last value."""
        self._last(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values in turn to the dict that is the last value."""
        found = self._last(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            plain = all(isinstance(part, _KEYS) for part in (key if isinstance(key, tuple) else (key,)))
            if not plain:
                raise self.refusal(f"a key that is {_named(key)}")
            found[key] = value

    def call(self, function: Any, arguments: Any) -> None:
        """Put in place of a call what it means."""
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise self.refusal(f"a call of {_named(function)} with {_named(arguments)}")
        self.values.append(self.meanings.of_call(function, arguments))

    def build(self, state: Any) -> None:
        """Give the last value its state; a dict's own attributes mean nothing here."""
        last = self.values[-1]
        if isinstance(last, Inert):
            last.state = state
        elif not isinstance(last, dict):
            raise self.refusal(f"a state for {_named(last)}")

    def _last(self, kind: type) -> Any:
        if not isinstance(self.values[-1], kind):
            raise self.refusal(f"{_named(self.values[-1])} filled like a {kind.__name__}")
        return self.values[-1]


def _named(value: Any) -> str:
    if isinstance(value, Global):
        return str(value)
    return f"an object of {value.module}.{value.name}" if isinstance(value, Inert) else f"a {type(value).__name__}"


def _push(machine: _Machine, value: Any) -> None:
    machine.values.append(value)


def _push_global(machine: _Machine, module: Any, name: Any) -> None:
    if not isinstance(module, str) or not isinstance(name, str):
        raise machine.refusal(f"a global named by {_named(module)} and {_named(name)}")
    machine.values.append(machine.meanings.of_global(Global(module, name)))


def _instance(machine: _Machine, dotted: str) -> None:
    arguments = tuple(machine.take_to_mark())
    _push_global(machine, *dotted.split(" ", 1))
    machine.call(machine.values.pop(), arguments)


def _object(machine: _Machine) -> None:
    function, *arguments = machine.take_to_mark()
    machine.call(function, tuple(arguments))


def _object_with_keywords(machine: _Machine) -> None:
    function, arguments, keywords = machine.take(3)
    if keywords:
        raise machine.refusal(f"a call of {_named(function)} with keywords")
    machine.call(function, arguments)


def _new_dict(machine: _Machine, items: list[Any]) -> None:
    machine.values.append({})
    machine.set_items(items)


def _keep(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.values[-1]


_KEYS = (str, int, float, bool, bytes, type(None))
_HOLD_A_VALUE = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
)  # fmt: skip
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(_HOLD_A_VALUE, _push),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, place: _push(machine, machine.memo[place])),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _keep),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda _machine, _: None),
    "MEMOIZE": lambda machine, _: _keep(machine, len(machine.memo)),
    "NONE": lambda machine, _: _push(machine, None),
    "NEWTRUE": lambda machine, _: _push(machine, True),
    "NEWFALSE": lambda machine, _: _push(machine, False),
    "EMPTY_LIST": lambda machine, _: _push(machine, []),
    "EMPTY_TUPLE": lambda machine, _: _push(machine, ()),
    "EMPTY_DICT": lambda machine, _: _push(machine, {}),
    "TUPLE1": lambda machine, _: _push(machine, tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: _push(machine, tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: _push(machine, tuple(machine.take(3))),
    "TUPLE": lambda machine, _: _push(machine, tuple(machine.take_to_mark())),
    "LIST": lambda machine, _: _push(machine, machine.take_to_mark()),
    "DICT": lambda machine, _: _new_dict(machine, machine.take_to_mark()),
    "APPEND": lambda machine, _: machine.append(machine.take(1)),
    "APPENDS": lambda machine, _: machine.append(machine.take_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.take_to_mark()),
    "MARK": lambda machine, _: machine.marks.append(len(machine.values)),
    "DUP": lambda machine, _: _push(machine, machine.values[-1]),
    "GLOBAL": lambda machine, dotted: _push_global(machine, *dotted.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: _push_global(machine, *machine.take(2)),
    "REDUCE": lambda machine, _: machine.call(*machine.take(2)),
    "NEWOBJ": lambda machine, _: machine.call(*machine.take(2)),
    "NEWOBJ_EX": lambda machine, _: _object_with_keywords(machine),
    "INST": _instance,
    "OBJ": lambda machine, _: _object(machine),
    "BUILD": lambda machine, _: machine.build(*machine.take(1)),
    "BINPERSID": lambda machine, _: _push(machine, machine.meanings.of_reference(*machine.take(1))),
}
"""What each opcode of plain data and objects does; all others are refused."""
