"""A server with the Hub's protocol on 127.0.0.1, for the unmodified client: repositories, commits, tokens, faults.

Large files are on a second server, since the real Hub has them under another origin; each logs its requests.
"""

import base64
import hashlib
import json
import os
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import vaezoo

Fault = Callable[["Handler"], bool]
LARGE = (".safetensors", ".png")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_digest(data: bytes) -> str:
    """Returns the Hub's and git's name of a file that is not large."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def reach(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Makes an address the Hub's for the client in this process."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


def flip(path: Path) -> None:
    """Changes a bit of a file without changing its size; through a link, as an accident does."""
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    os.chmod(path.resolve(), 0o644)
    path.resolve().write_bytes(data)


def same(one: vaezoo.VAE, other: vaezoo.VAE) -> bool:
    """Returns whether two models draw the same samples, bit for bit."""
    c = 1 if one.context else None
    return torch.equal(one.sample(3, c, seed=0), other.sample(3, c, seed=0))


@dataclass
class Repository:
    """Commits by their hash, each with all its files; branches and tags by their name."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], message: str = "", branch: str = "main") -> str:
        """Makes a commit with these files and returns its hash."""
        text = json.dumps([message, len(self.commits), {path: digest(data) for path, data in sorted(files.items())}])
        name = hashlib.sha1(text.encode()).hexdigest()
        self.commits[name] = dict(files)
        self.messages.append(message)
        self.names[branch] = name
        return name

    def resolve(self, revision: str) -> str | None:
        """Returns the hash of a name or hash."""
        return revision if revision in self.commits else self.names.get(revision)


@dataclass
class Request:
    """A logged request."""

    path: str
    token: str | None
    agent: str


@dataclass
class Hub:
    """The state of both servers. `fault` receives each request first, and returns True if it answered it."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    elsewhere: list[Request] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)  # bytes of each body
    fault: Fault | None = None
    closing: threading.Event = field(default_factory=threading.Event)
    endpoint: str = ""
    storage: str = ""

    def publish(self, name: str, files: dict[str, bytes], *, private: bool = False) -> str:
        """Makes a commit in a repository, which is created if necessary, and returns its hash."""
        repository = self.repositories.setdefault(name, Repository(private))
        self.large.update({digest(data): data for path, data in files.items() if path.endswith(LARGE)})
        return repository.commit(files)


class Handler(BaseHTTPRequestHandler):
    """The base class of both servers' handlers."""

    protocol_version = "HTTP/1.1"
    hub: Hub
    log: list[Request]

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> bool:
        """Answers with the requested range of `body`."""
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if status == 200 else None
        if span:
            whole, start = len(body), int(span[1])
            body, status = body[start : int(span[2]) + 1 if span[2] else None], 206
            headers["Content_Range"] = f"bytes {start}-{start + len(body) - 1}/{whole}"
        self.send_response(status)
        for key, value in {"Content_Type": kind, "Content_Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.write(body)
        return True

    def write(self, body: bytes) -> None:
        """Sends a body or a part of one, and counts it."""
        self.wfile.write(body)
        self.hub.sent.append(len(body))

    def json(self, value: object, status: int = 200) -> bool:
        return self.reply(status, json.dumps(value).encode())

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self) -> None:
        """Logs the request and answers it."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.log.append(Request(self.path, token, self.headers.get("User-Agent", "")))
        if self.hub.fault is None or not self.hub.fault(self):
            self.serve(token)

    def serve(self, token: str | None) -> object:
        raise NotImplementedError

    do_GET = do_HEAD = do_POST = do_PUT = answer


class Storage(Handler):
    """Large files by their SHA-256."""

    def serve(self, token: str | None) -> object:
        name = self.path.split("/")[2]
        if self.command == "PUT":
            data = self.body()
            if digest(data) != name:
                return self.reply(400)
            self.hub.large[name] = data
            return self.reply(200)
        if name in self.hub.large:
            return self.reply(200, self.hub.large[name], "application/octet-stream", ETag=f'"{name}"')
        return self.reply(404)


class Front(Handler):
    """Everything but the large files."""

    def serve(self, token: str | None) -> object:
        path = urllib.parse.unquote(self.path.partition("?")[0])
        if token is not None and token not in self.hub.tokens:
            return self.reply(401, X_Error_Message="Invalid credentials in Authorization header")
        if path == "/api/validate-yaml":
            self.body()
            return self.json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(token)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)/(.+))?", path):
            return self.api(found[1], found[2] or "revision", found[3] or "main", token)
        if re.fullmatch(r"/[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            return self.batch()
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(found[1], found[2], found[3], token)
        return self.reply(404)

    def visible(self, name: str, token: str | None) -> Repository | None:
        """Returns a repository that the token may read; otherwise answers 401, as the Hub does."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and token is None):
            self.reply(401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
            return None
        return repository

    def create(self, token: str | None) -> bool:
        asked = json.loads(self.body())
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        if token is None:
            return self.reply(401)
        status = 409 if name in self.hub.repositories else 200
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.hub.repositories.setdefault(name, Repository(private)).names.setdefault("main", "")
        return self.json({"url": f"{self.hub.endpoint}/{name}", "name": name}, status)

    def api(self, name: str, call: str, revision: str, token: str | None) -> object:
        body = self.body()
        repository = self.visible(name, token)
        if repository is None:
            return None
        if call == "preupload":
            paths = [each["path"] for each in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in paths}
            files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
            return self.json({"files": files})
        if call == "commit":
            return self.commit(repository, name, revision, body, token)
        if call == "branch":
            repository.names.setdefault(revision, repository.names.get("main", ""))
            return self.json({})
        commit = repository.resolve(revision)
        if call == "tree" and commit == "":
            return self.json([])
        if not commit:
            return self.reply(404, X_Error_Code="RevisionNotFound")
        files = repository.commits[commit]
        if call == "tree":
            return self.json([entry(path, data) for path, data in sorted(files.items())])
        siblings = [{"rfilename": path} for path in sorted(files)]
        return self.json({"id": name, "sha": commit, "private": repository.private, "siblings": siblings})

    def batch(self) -> bool:
        objects = []
        for each in json.loads(self.body())["objects"]:
            found = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.large:
                found["actions"] = {"upload": {"href": f"{self.hub.storage}/large/{each['oid']}"}}
            objects.append(found)
        return self.json({"transfer": "basic", "objects": objects})

    def commit(self, repository: Repository, name: str, revision: str, body: bytes, token: str | None) -> object:
        if token is None:
            return self.reply(403)
        files = dict(repository.commits.get(repository.names.get(revision, ""), {}))
        message = ""
        for line in map(json.loads, filter(bytes.strip, body.splitlines())):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
        commit = repository.commit(files, message, revision)
        address = f"{self.hub.endpoint}/{name}/commit/{commit}"
        return self.json({"success": True, "commitOid": commit, "commitUrl": address, "hookOutput": ""})

    def resolve(self, name: str, revision: str, path: str, token: str | None) -> object:
        repository = self.visible(name, token)
        if repository is None:
            return None
        commit = repository.resolve(revision)
        if not commit:
            return self.reply(404, X_Error_Code="RevisionNotFound")
        if path not in repository.commits[commit]:
            return self.reply(404, X_Error_Code="EntryNotFound")
        data = repository.commits[commit][path]
        if path.endswith(LARGE):
            facts = {"X_Linked_Etag": f'"{digest(data)}"', "X_Linked_Size": str(len(data))}
            place = f"{self.hub.storage}/large/{digest(data)}"
            return self.reply(302, X_Repo_Commit=commit, Location=place, **facts)
        tag = f'"{git_digest(data)}"'
        return self.reply(200, data, "application/octet-stream", X_Repo_Commit=commit, ETag=tag)


def entry(path: str, data: bytes) -> dict[str, object]:
    """Returns a file's entry in a tree."""
    facts: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": git_digest(data)}
    if path.endswith(LARGE):
        facts["lfs"] = {"oid": digest(data), "size": len(data), "pointerSize": 134}
    return facts


@contextmanager
def serving() -> Iterator[Hub]:
    """Runs both servers for the block."""
    hub = Hub()
    servers = []
    for kind, log in ((Front, hub.requests), (Storage, hub.elsewhere)):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (kind,), {"hub": hub, "log": log}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    hub.endpoint, hub.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    try:
        yield hub
    finally:
        hub.closing.set()
        for server in servers:
            server.shutdown()
            server.server_close()
