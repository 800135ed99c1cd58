"""A small Hugging Face hub that serves folders as repositories to huggingface_hub."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|preupload|commit|discussions)/?([^/]*)/?(.*))?"
)
FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Missing(Exception):
    """The hub's answer for a repository, a revision or a file that it does not have."""

    status = 404

    def __init__(self, code: str, commit: str | None = None) -> None:
        super().__init__(code)
        self.headers = {"X-Error-Code": code, "X-Error-Message": code}
        self.headers |= {} if commit is None else {"X-Repo-Commit": commit}


class Refused(Missing):
    """An answer that a test asks for, as that of a gated repository."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        Exception.__init__(self, str(status))
        self.status, self.headers = status, headers


@dataclass
class Repository:
    """Commits as folders, and the branches that point at them."""

    root: Path
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main", deleted: tuple[str, ...] = ()) -> str:
        """Add files to `branch`; returns the new commit's SHA, which is `branch` itself if that is a SHA."""
        parent = self.branches.get(branch)
        old = {} if parent is None else {name: (self.root / parent / name).read_bytes() for name in self.files(parent)}
        new = {name: content for name, content in (old | files).items() if name not in deleted}
        digest = hashlib.sha1(f"{parent} {branch}".encode())
        for name in sorted(new):
            digest.update(name.encode() + b"\0" + new[name])
        sha = branch if re.fullmatch("[0-9a-f]{40}", branch) else digest.hexdigest()
        (self.root / sha).mkdir(parents=True, exist_ok=True)
        for name, content in new.items():
            path = self.root / sha / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.branches[branch] = sha
        return sha

    def resolve(self, revision: str) -> str:
        sha = self.branches.get(revision, revision)
        if not re.fullmatch("[0-9a-f]{40}", sha) or not (self.root / sha).is_dir():
            raise Missing("RevisionNotFound")
        return sha

    def files(self, sha: str) -> list[str]:
        folder = self.root / sha
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def read(self, sha: str, name: str) -> bytes:
        if name not in self.files(sha):
            raise Missing("EntryNotFound", sha)
        return (self.root / sha / name).read_bytes()

    def entries(self, sha: str, under: str = "", recursive: bool = True) -> list[dict[str, Any]]:
        """The tree below the folder `under`, as the hub lists it."""
        names = [name for name in self.files(sha) if not under or name.startswith(under + "/")]
        folders = {parent.as_posix() for name in names for parent in Path(name).parents} - {".", under}
        folders = {folder for folder in folders if folder.startswith(under)}
        if under and not names:
            raise Missing("EntryNotFound", sha)
        listed = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in sorted(folders)]
        for name in names:
            content = self.read(sha, name)
            listed.append({"type": "file", "oid": blob(content), "size": len(content), "path": name})
        depth = len(Path(under).parts) + 1
        return [entry for entry in listed if recursive or len(Path(entry["path"]).parts) == depth]


def blob(content: bytes) -> str:
    """Git's hash of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """The repositories, and the requests so far, as "GET /datasets/aps/super_glue/resolve/main/README.md"."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[str] = []
        self.refused: dict[str, tuple[int, dict[str, str]]] = {}  # by repository, the status and headers of each answer
        self.moved: dict[str, str] = {}  # from former to present names of repositories
        self.url = ""

    def create(self, kind: str, name: str) -> Repository:
        """Get or create a repository; `kind` is "models" or "datasets"."""
        return self.repositories.setdefault((kind, name), Repository(self.root / kind / name))

    def push(self, kind: str, name: str, folder: Path, branch: str = "main") -> str:
        """Commit a folder; returns the SHA."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.create(kind, name).commit(files, branch)

    def find(self, kind: str, name: str) -> Repository:
        if name in self.refused:
            raise Refused(*self.refused[name])
        if (kind, name) not in self.repositories:
            raise Missing("RepoNotFound")
        return self.repositories[kind, name]

    @contextmanager
    def serving(self) -> Iterator["Hub"]:
        """Serve on a free port of this machine; `url` is the value for HF_ENDPOINT."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answer,), {"hub": self}))
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class Answer(BaseHTTPRequestHandler):
    """Handles one request."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {unquote(url.path)}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for former, present in self.hub.moved.items():
            if f"/{former}/" in url.path:
                self.reply(307, b"", {"Location": self.path.replace(former, present)})
                return
        try:
            if match := FILE.fullmatch(url.path):
                kind, name, revision, path = match.groups()
                self.file(self.hub.find(kind or "models", name), unquote(revision), unquote(path))
            elif match := API.fullmatch(url.path):
                kind, name, verb, revision, path = match.groups()
                repository = self.hub.find(kind, name)
                arguments = (repository, name, unquote(revision or "main"), unquote(path or ""), url.query, body)
                self.reply(200, getattr(self, (verb or "revision").replace("-", "_"))(*arguments))
            elif url.path == "/api/repos/create":
                self.create(json.loads(body))
            elif url.path == "/api/validate-yaml":
                self.reply(200, {"errors": [], "warnings": []})
            else:
                self.reply(404, {"error": "no such page"})
        except Missing as error:
            self.reply(error.status, {"error": str(error)}, error.headers)

    do_GET = do_HEAD = do_POST = handle_request  # noqa: N815

    def file(self, repository: Repository, revision: str, path: str) -> None:
        sha = repository.resolve(revision)
        content = repository.read(sha, path)
        headers = {"ETag": f'"{blob(content)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            self.reply(206, content[start : end + 1], headers)
        else:
            self.reply(200, content, headers)

    def revision(self, repository: Repository, name: str, revision: str, *_: Any) -> dict:
        sha = repository.resolve(revision)
        return {"id": name, "sha": sha, "siblings": [{"rfilename": path} for path in repository.files(sha)]}

    def tree(self, repository: Repository, name: str, revision: str, path: str, query: str, body: bytes) -> list:
        return repository.entries(repository.resolve(revision), path, "recursive=true" in query.lower())

    def paths_info(self, repository: Repository, name: str, revision: str, path: str, query: str, body: bytes) -> list:
        wanted = re.findall(r"paths=([^&]*)", body.decode()) if body[:1] != b"{" else json.loads(body)["paths"]
        wanted = {unquote(path.replace("+", " ")) for path in wanted}
        return [entry for entry in repository.entries(repository.resolve(revision)) if entry["path"] in wanted]

    def discussions(self, repository: Repository, name: str, *_: Any) -> dict:
        """The pull requests: the branches refs/pr/<number>, all of the conversion bot."""
        numbers = [branch.removeprefix("refs/pr/") for branch in repository.branches if branch.startswith("refs/pr/")]
        facts = {"title": "Adding `safetensors` variant of this model", "author": {"name": "SFconvertbot"}}
        facts |= {"createdAt": "2023-01-01T00:00:00.000Z", "status": "open", "isPullRequest": True}
        facts |= {"repo": {"name": name, "type": "model"}}
        return {"count": len(numbers), "start": 0, "discussions": [facts | {"num": int(each)} for each in numbers]}

    def preupload(self, repository: Repository, name: str, revision: str, path: str, query: str, body: bytes) -> dict:
        files = json.loads(body)["files"]
        return {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]}

    def commit(self, repository: Repository, name: str, revision: str, path: str, query: str, body: bytes) -> dict:
        files, deleted = {}, []
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                deleted.append(line["value"]["path"])
        sha = repository.commit(files, revision, tuple(deleted))
        return {"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha, "hookOutput": ""}

    def create(self, wanted: dict[str, Any]) -> None:
        kind, name = f"{wanted.get('type') or 'model'}s", f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.refused:
            raise Refused(*self.hub.refused[name])
        exists = (kind, name) in self.hub.repositories
        if not exists:
            self.hub.create(kind, name).commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self.reply(409 if exists else 200, {"url": f"{self.hub.url}/{name}", "name": name})

    def reply(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""
