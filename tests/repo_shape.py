"""Checkers of the shape of the house: each reads source text and gives its complaints, none where all is well."""

import ast
from collections.abc import Iterator

LEVELS = (
    ("errors",), ("config",), ("files",), ("storage",), ("corpus",), ("model",), ("graph",), ("attribution",),
    ("intervene", "harvest"), ("tables",), ("aggregate",), ("autointerp",), ("views",), ("run",), ("cli",),
    ("__main__",),
)  # fmt: skip
"""The rooms of the package; a room imports itself and rooms of lower levels."""
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
CORE = frozenset({"errors", "config"})
PLAIN = frozenset({"graph"})
"""Rooms of plain data and mathematics, which import the core and `files` alone."""
OWNERS = {"duckdb": "tables", "ray": "run"}
"""Packages that one room alone may import."""
FORBIDDEN = frozenset({"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"})
N_FILE_LINES, N_FUNCTION_LINES, N_METHODS = 300, 60, 9

Function = ast.FunctionDef | ast.AsyncFunctionDef


def imported_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every absolutely imported dotted name with its line, inside functions and `TYPE_CHECKING` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def import_order(room: str, source: str) -> list[str]:
    """Imports of a higher room, or of another room of the same level. `room` "" is the package's own `__init__`."""
    if room == "":
        return []
    complaints = []
    for name, line in imported_names(ast.parse(source)):
        package, _, rest = name.partition(".")
        if package != "tracer" or rest == "__version__":
            continue
        other = rest.split(".")[0]
        is_below = other in CORE | {"files"} if room in PLAIN else LEVEL_OF.get(other, len(LEVELS)) < LEVEL_OF[room]
        # The package's lazy names (`from tracer import attribute`) stand for rooms up to attribution.
        is_lazy_name = other in {"Graph", "ReplacementModel", "attribute"} and LEVEL_OF[room] > LEVEL_OF["attribution"]
        if other != room and not is_below and not is_lazy_name:
            complaints.append(f"line {line}: {room} imports {name}")
    return complaints


def owned_imports(room: str, source: str) -> list[str]:
    """Imports of a package that belongs to another room."""
    return [
        f"line {line}: {name} belongs to {OWNERS[name.split('.')[0]]}"
        for name, line in imported_names(ast.parse(source))
        if OWNERS.get(name.split(".")[0], room) != room
    ]


def relative_imports(source: str) -> list[str]:
    """`from . import x` and its kin."""
    return [
        f"line {node.lineno}: relative import"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]


def unsafe_loading(source: str) -> list[str]:
    """Pickle in any of its forms: the modules, `torch.load`, `allow_pickle`."""
    tree = ast.parse(source)
    complaints = [f"line {line}: {name}" for name, line in imported_names(tree) if name.split(".")[0] in FORBIDDEN]
    complaints += [f"line {line}: {name}" for name, line in imported_names(tree) if name == "torch.load"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
            complaints.append(f"line {node.lineno}: torch.load")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            complaints.append(f"line {node.lineno}: allow_pickle")
    return complaints


def sizes(source: str) -> list[str]:
    """Files, functions and classes that are too large; properties are no methods, nor are dunders."""
    n_lines = len(source.splitlines())
    complaints = [f"{n_lines} lines"] if n_lines >= N_FILE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            n_function_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if n_function_lines >= N_FUNCTION_LINES:
                complaints.append(f"line {node.lineno}: {node.name} has {n_function_lines} lines")
        elif isinstance(node, ast.ClassDef):
            n_methods = sum(_is_method(item) for item in node.body)
            if n_methods > N_METHODS:
                complaints.append(f"line {node.lineno}: {node.name} has {n_methods} methods")
    return complaints


def _is_method(item: ast.stmt) -> bool:
    if not isinstance(item, Function) or (item.name.startswith("__") and item.name.endswith("__")):
        return False
    return not any(ast.unparse(decorator) in {"property", "cached_property"} for decorator in item.decorator_list)


def missing_docstrings(source: str) -> list[str]:
    """The module, and public functions, classes and methods, without a docstring."""
    tree = ast.parse(source)
    complaints = [] if ast.get_docstring(tree) else ["no module docstring"]
    return complaints + [
        f"line {node.lineno}: {node.name} has no docstring"
        for node in _public_definitions(tree)
        if not ast.get_docstring(node)
    ]


def _public_definitions(scope: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    for node in scope.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public_definitions(node)
