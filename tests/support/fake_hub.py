"""A hub on this machine: what its client asks to make, fill, list and read a repository.

It answers as https://huggingface.co does, as far as ``huggingface_hub`` looks: commits, ETags,
error codes. Every file is kept as a regular one; Xet and LFS are not spoken.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_made_up"
_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"


class FakeHub:
    """Repositories as folders: ``<root>/<owner>/<name>/<commit>/…``; ``main`` is the last commit.

    Attributes:
        url: what ``HF_ENDPOINT`` is to be.
        asked: every request, as ``"METHOD /path"``.
        private: repositories made so.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        self.private: set[str] = set()
        self._heads: dict[str, str] = {}
        self.url = ""

    def commit(self, repo: str, files: Mapping[str, bytes]) -> str:
        """Add files to a repository, made if need be; the commit's id."""
        before = self.files(repo, self._heads[repo]) if self._heads.get(repo) else {}
        whole = {name: path.read_bytes() for name, path in before.items()} | dict(files)
        told = json.dumps([self._heads.get(repo), sorted((n, _oid(d)) for n, d in whole.items())])
        commit = hashlib.sha1(told.encode()).hexdigest()
        for name, data in whole.items():
            path = self.root / repo / commit / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._heads[repo] = commit
        return commit

    def create(self, repo: str, private: bool) -> bool:
        """Make an empty repository; whether it was not there."""
        if repo in self._heads:
            return False
        self._heads[repo] = ""
        self.private |= {repo} if private else set()
        return True

    def resolve(self, repo: str, revision: str) -> str | None:
        """The commit that a revision names; None: there is none."""
        commit = self._heads[repo] if revision == "main" else revision
        return commit if commit == "" or (self.root / repo / commit).is_dir() else None

    def files(self, repo: str, commit: str) -> dict[str, Path]:
        """Name → file, at a commit."""
        folder = self.root / repo / commit
        found = (path for path in sorted(folder.rglob("*")) if path.is_file()) if commit else ()
        return {path.relative_to(folder).as_posix(): path for path in found}

    def has(self, repo: str) -> bool:
        """Whether there is such a repository."""
        return repo in self._heads


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        """Say nothing on the terminal."""

    def _answer(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _handle(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {path}")
        knows = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command == "POST" and not knows:
            self._answer(401, {"error": "Invalid username or password."})
            return
        routes = {
            r"POST /api/repos/create": self._create,
            r"POST /api/validate-yaml": lambda _body: self._answer(200, {}),
            rf"POST /api/models/{_REPO}/preupload/main": self._preupload,
            rf"POST /api/models/{_REPO}/commit/main": self._commit,
            rf"GET /api/models/{_REPO}(/revision/(?P<revision>.+))?": self._info,
            rf"GET /api/models/{_REPO}/tree/(?P<revision>[^/]+)": self._tree,
            rf"(HEAD|GET) /{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)": self._file,
        }
        for route, answer in routes.items():
            if found := re.fullmatch(route, f"{self.command} {path}"):
                asked = {key: value or "main" for key, value in found.groupdict().items()}
                repo = asked.get("repo")
                closed = repo in self.hub.private and not knows
                if repo is not None and (closed or not self.hub.has(repo)):
                    self._answer(404 if knows else 401, X_Error_Code="RepoNotFound")
                    return
                if "revision" in asked:
                    asked["commit"] = self.hub.resolve(asked["repo"], asked.pop("revision"))
                    if asked["commit"] is None:
                        self._answer(404, X_Error_Code="RevisionNotFound")
                        return
                answer(**asked) if self.command != "POST" else answer(body, **asked)
                return
        self._answer(404, {"error": f"no such route: {self.command} {path}"})

    do_GET = do_HEAD = do_POST = _handle

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo = f"{asked['organization']}/{asked['name']}"
        is_new = self.hub.create(repo, asked.get("visibility") == "private")
        self._answer(200 if is_new else 409, {"url": f"{self.hub.url}/{repo}"})

    def _preupload(self, body: bytes, repo: str) -> None:
        files = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
            for file in json.loads(body)["files"]
        ]
        self._answer(200, {"files": files})

    def _commit(self, body: bytes, repo: str) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        commit = self.hub.commit(repo, files)
        url = f"{self.hub.url}/{repo}/commit/{commit}"
        self._answer(200, {"commitUrl": url, "commitOid": commit, "success": True})

    def _info(self, repo: str, commit: str) -> None:
        files = [
            {"rfilename": name, "size": path.stat().st_size, "blobId": _oid(path.read_bytes())}
            for name, path in self.hub.files(repo, commit).items()
        ]
        self._answer(200, {"id": repo, "sha": commit, "siblings": files})

    def _tree(self, repo: str, commit: str) -> None:
        files = [
            {
                "type": "file",
                "path": name,
                "size": path.stat().st_size,
                "oid": _oid(path.read_bytes()),
            }
            for name, path in self.hub.files(repo, commit).items()
        ]
        self._answer(200, files)

    def _file(self, repo: str, commit: str, name: str) -> None:
        path = self.hub.files(repo, commit).get(name)
        if path is None:
            self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        data = path.read_bytes()
        self._answer(200, data, ETag=f'"{_oid(data)}"', X_Repo_Commit=commit)


@contextmanager
def serve(root: Path) -> Iterator[FakeHub]:
    """A hub that answers while the block lasts."""
    hub = FakeHub(root)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
