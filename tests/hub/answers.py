"""How the hub answers a request: errors as the real one words them, listings, and files whole or in part."""

import json
import re
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.repositories import Access, Fault, Kind, Repository, Request, StoredFile, Tree, listing

if TYPE_CHECKING:
    from tests.hub.server import Hub

_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|auth-check|refs)(?:/(.*))?)?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class AnswerError(Exception):
    """An answer that is an error: status, code and message as the hub's headers carry them."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub: "Hub", *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer, or say what is wrong."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        self.token = token if scheme == "Bearer" else None
        request = Request(
            method=self.command, path=self.path, range=self.headers.get("Range"), authorised=self.token is not None
        )
        self.hub.requests.append(request)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._answer(urlsplit(self.path), body.decode())
        except AnswerError as error:
            self._send_error(error)

    do_HEAD = do_POST = do_GET

    def log_message(self, *args: Any) -> None:
        """Say nothing: `hub.requests` is the log."""

    def _answer(self, address: Any, body: str) -> None:
        if self.token is not None and self.token not in self.hub.tokens:
            raise AnswerError(401, None, "Invalid credentials in Authorization header")
        if file := _FILE.fullmatch(address.path):
            repository, access = self._repository("dataset" if file[1] else "model", file[2])
            self._send_file(repository, access, unquote(file[3]), unquote(file[4]))
        elif api := _API.fullmatch(address.path):
            if self.hub.fault(address.path) is not None:
                raise AnswerError(500, None, "Internal Server Error")
            repository, access = self._repository("model" if api[1] == "models" else "dataset", api[2])
            self._send_json(self._api(repository, access, api[3], api[4] or "", address.query, body))
        else:
            raise AnswerError(404, None, "Not Found")

    def _repository(self, kind: Kind, name: str) -> tuple[Repository, Access]:
        repository, access = self.hub.repository(kind, unquote(name), self.token)
        if repository is None and self.token is None:
            is_file = "/resolve/" in self.path
            raise AnswerError(401, "RepoNotFound" if is_file else None, "Invalid username or password.")
        if repository is None:
            raise AnswerError(404, "RepoNotFound", "Repository not found")
        if access == "narrow":
            message = "Please enable access to public gated repositories in your fine-grained token settings"
            raise AnswerError(403, None, f"{message} to view this repository.")
        return repository, access

    def _api(self, repository: Repository, access: Access, what: str | None, rest: str, query: str, body: str) -> Any:
        if what == "auth-check":
            _refuse_gated(repository, access)
            return {}
        if what == "refs":
            branches = [{"name": name, "ref": name, "targetCommit": sha} for name, sha in repository.revisions.items()]
            return {"branches": branches, "tags": [], "converts": []}
        revision, _, path = rest.partition("/")
        commit, tree = _tree(repository, unquote(revision) or "main")
        if what == "tree":
            recursive = parse_qs(query).get("recursive", ["false"])[0].lower() == "true"
            entries = list(listing(tree, unquote(path), recursive=recursive))
            if path and not entries:
                raise AnswerError(404, "EntryNotFound", f"{unquote(path)} does not exist on {unquote(revision)}")
            return entries
        if what == "paths-info":
            asked = parse_qs(body).get("paths", [])
            return [entry for entry in listing(tree, "", recursive=True) if entry["path"] in asked]
        return {
            "id": repository.name,
            "sha": commit,
            "private": repository.private,
            "gated": "manual" if repository.gated else False,
            "disabled": False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in tree],
        }

    def _send_file(self, repository: Repository, access: Access, revision: str, path: str) -> None:
        _refuse_gated(repository, access)
        commit, tree = _tree(repository, revision)
        if path not in tree:
            raise AnswerError(404, "EntryNotFound", "Entry not found")
        fault = self.hub.fault(unquote(self.path)) if self.command == "GET" else None
        if fault is not None and fault.kind == "error":
            raise AnswerError(500, None, "Internal Server Error")
        self._send_content(tree[path], commit, fault)

    def _send_content(self, file: StoredFile, commit: str, fault: Fault | None) -> None:
        total, start, end = len(file.content), 0, len(file.content)
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or total) + 1, total) if asked[2] else total
            if start >= total:
                raise AnswerError(416, None, "Range Not Satisfiable")
        content = file.content[start:end]
        if fault is not None and fault.kind == "short":
            content = content[: fault.after]
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{file.oid}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.kind in ("cut", "hold"):
            self.wfile.write(content[: fault.after])
            self.close_connection = True
            if fault.kind == "hold":
                self.hub.holding.set()
                self.hub.stopped.wait()
            return
        self.wfile.write(content)

    def _send_json(self, plain: Any) -> None:
        body = json.dumps(plain).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_error(self, error: AnswerError) -> None:
        body = json.dumps({"error": error.message}).encode()
        self.send_response(error.status)
        if error.code is not None:
            self.send_header("X-Error-Code", error.code)
        self.send_header("X-Error-Message", error.message)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _refuse_gated(repository: Repository, access: Access) -> None:
    if access != "open":
        message = f"Access to {repository.kind} {repository.name} is restricted."
        raise AnswerError(401 if access == "anonymous" else 403, "GatedRepo", message)


def _tree(repository: Repository, revision: str) -> tuple[str, Tree]:
    commit = repository.resolve(revision)
    if commit is None:
        raise AnswerError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return commit, repository.trees[commit]
