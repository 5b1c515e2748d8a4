"""What a hub holds: repositories with their commits and branches, who may read them, and what goes wrong on demand."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["model", "dataset"]
FaultKind = Literal["cut", "short", "hold", "error"]
Access = Literal["open", "anonymous", "forbidden", "narrow"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The bytes of a file at one commit."""

    content: bytes

    @property
    def oid(self) -> str:
        """The name that git gives to these bytes."""
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


Tree = dict[str, StoredFile]


@dataclass(slots=True, kw_only=True)
class Repository:
    """A repository: `revisions` maps branches and tags to commits, `trees` commits to their files."""

    name: str
    kind: Kind
    gated: bool
    private: bool
    revisions: dict[str, str] = field(default_factory=dict)
    trees: dict[str, Tree] = field(default_factory=dict)

    def commit(self, folder: Path, revision: str) -> str:
        """Put the files of `folder` under a new commit and move `revision` to it."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        tree = {path.relative_to(folder).as_posix(): StoredFile(path.read_bytes()) for path in paths}
        content = "".join(f"{path} {file.oid}\n" for path, file in tree.items())
        commit = hashlib.sha1(f"{self.kind} {self.name}\n{content}".encode()).hexdigest()
        self.trees[commit] = tree
        self.revisions[revision] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        return self.revisions.get(revision, revision if revision in self.trees else None)


def listing(tree: Tree, folder: str, *, recursive: bool) -> Iterator[dict]:
    """The entries below `folder` as the hub lists them."""
    prefix = f"{folder}/" if folder else ""
    folders = set()
    for path, file in tree.items():
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        for n_parts in range(1, len(parts)):
            folders.add((prefix + "/".join(parts[:n_parts]), n_parts))
        if recursive or len(parts) == 1:
            yield {"type": "file", "path": path, "size": len(file.content), "oid": file.oid}
    for path, depth in sorted(folders):
        if recursive or depth == 1:
            yield {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


@dataclass(slots=True, kw_only=True)
class Fault:
    """What goes wrong: the next `n_times` answers to GET for an address that ends in `path` are spoilt.

    cut: the connection ends after `after` bytes of the body. short: the answer says that the file has `after` bytes.
    hold: after so many bytes nothing more comes until the server stops. error: status 500, the only one that an
    address which is no file can have.
    """

    path: str
    kind: FaultKind
    after: int
    n_times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: `range` is the header of that name, `authorised` says whether a token came with it."""

    method: str
    path: str
    range: str | None
    authorised: bool
