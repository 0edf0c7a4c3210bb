"""Sources and cache, with real files, web servers and processes on this machine."""

import gzip
import hashlib
import http.server
import multiprocessing
import os
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import TestCase

import pytest

from vaezoo.core import cache_root
from vaezoo.data.download import registries, sources
from vaezoo.data.download.cache import Collection, ensure
from vaezoo.data.download.registries import DebianPackage, NpmPackage
from vaezoo.data.download.sources import DataFile, Folder, Mirror, Source, SourceError
from vaezoo.errors import DownloadError

CONTENT = {"one": bytes(300), "two": b"2" * 5000}
FILES = tuple(
    DataFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items()
)


def collection(*where: Source) -> Collection:
    return Collection(name="toy", files=FILES, sources=where)


def write(folder: Path, content: dict[str, bytes], *, packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return folder


@dataclass
class Server:
    """A web server on this machine: the files that it has, and the requests that it received."""

    content: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    truncated: bool = False
    address: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            data = state.content.get(self.path[1:].removesuffix(".gz"))
            page = b"" if data is None else gzip.compress(data)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page[: len(page) // (2 if state.truncated else 1)])

        def log_message(self, format: str, *args: object) -> None:
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads, web.block_on_close = True, False
    threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
    state.address = f"http://127.0.0.1:{web.server_port}/"
    yield state
    web.shutdown()
    web.server_close()


def assert_clean(cache: Path) -> None:
    """Only whole files (and the lock) are in the cache."""
    assert {path.name for path in (cache / "data" / "toy").iterdir()} <= {*CONTENT, ".lock"}


def test_a_mirror_fills_the_cache_once(tmp_path: Path, server: Server) -> None:
    server.content = CONTENT
    with TestCase().assertNoLogs("vaezoo", "INFO"):  # sources are logged at debug level
        paths = ensure(collection(Mirror(server.address)), cache=tmp_path)
    assert {path.name: path.read_bytes() for path in paths} == CONTENT
    assert_clean(tmp_path)
    assert ensure(collection(Mirror(server.address)), cache=tmp_path, download=False) == paths
    assert len(server.requests) == 2
    ensure(collection(Mirror(server.address)), cache=tmp_path / "other", files=FILES[1:])
    assert server.requests[2:] == ["/two.gz"]


def test_a_failure_or_a_wrong_file_of_a_mirror_is_not_remembered(tmp_path: Path, server: Server) -> None:
    mirror = Mirror(server.address)
    for server.content, server.truncated in (({}, False), (CONTENT, True)):
        with pytest.raises(DownloadError, match="one"):
            ensure(collection(mirror), cache=tmp_path)
    server.truncated = False
    ensure(collection(mirror), cache=tmp_path)
    assert_clean(tmp_path)
    server.content, lines = {**CONTENT, "two": b"3" * 5000}, list[str]()
    right = Folder(write(tmp_path / "right", CONTENT))
    ensure(collection(mirror, right), cache=tmp_path / "other", report=lines.append)
    assert any("1 of 2 file(s): two has the wrong SHA-256" in line for line in lines)
    assert "right: 1 of 1 file(s)" in lines[-1]
    assert_clean(tmp_path / "other")


def test_a_wrong_file_in_the_cache_is_deleted_and_replaced(tmp_path: Path) -> None:
    folder = write(tmp_path / "data" / "toy", {**CONTENT, "two": b"3" * 5000})
    with pytest.raises(DownloadError, match="download=False"):
        ensure(collection(), cache=tmp_path, download=False)
    assert (folder / "two").exists()  # unchanged without permission
    with pytest.raises(DownloadError, match=r"two had the wrong SHA-256 and was deleted"):
        ensure(collection(), cache=tmp_path)
    assert not (folder / "two").exists() and (folder / "one").exists()
    write(folder, CONTENT, packed=True)  # put into the cache by hand
    ensure(collection(), cache=tmp_path)
    assert (folder / "two").read_bytes() == CONTENT["two"]


def test_when_all_fail_every_reason_is_given(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        mirrors = [Mirror("http://127.0.0.1:9/"), Mirror(f"http://127.0.0.1:{port}/"), Mirror(server.address)]
        start = time.monotonic()
        with pytest.raises(DownloadError) as caught:
            ensure(collection(*mirrors, Folder(tmp_path / "none")), cache=tmp_path)
        assert time.monotonic() - start < 5
    message = str(caught.value)
    for part in (*(mirror.address for mirror in mirrors), "refused", "timed out", "404", "has neither", "by hand"):
        assert part in message
    for file in FILES:
        assert file.name in message and file.sha256 in message
    assert str(tmp_path / "data" / "toy") in message


DAMAGED = {
    "empty": b"",
    "text": b"no gzip",
    "truncated": gzip.compress(b"2" * 5000)[:-16],
    "damaged": gzip.compress(b"2")[:10] + b"\xff" * 9,
    "too large": gzip.compress(bytes(10**6)),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_archives_are_refused(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path / "by-hand", {"two.gz": DAMAGED[kind]})
    with pytest.raises(DownloadError, match=r"two(\.gz)?[: ]"):
        ensure(collection(Folder(folder)), cache=tmp_path, files=FILES[1:])
    assert_clean(tmp_path)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes shell scripts into a folder that comes first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write_script(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return write_script


def test_npm_packages(tmp_path: Path, program: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    source = NpmPackage("toy", "1.0", "package/data")
    part, whole = tmp_path / "part", tmp_path / "whole"
    for path, content in ((part, {"two": b"2"}), (whole, CONTENT)):
        with tarfile.open(path, "w:gz") as archive:
            archive.add(write(tmp_path / "package-content", content), "package/data")
    for script, reason in (
        ("echo npm error code E404 >&2; exit 1", "E404"),
        ("exit 0", "no archive"),
        (f"cp {part} toy.tgz", "one"),
        ("echo hello > toy.tgz", "gzip"),
    ):
        program("npm", script)
        with pytest.raises(SourceError, match=reason):
            source.fetch(FILES, tmp_path)
    program("npm", f'test "$2" = toy@1.0 && cp {whole} toy-1.0.tgz')
    ensure(collection(source), cache=tmp_path)
    assert_clean(tmp_path)
    program("npm", "exec sleep 5")
    monkeypatch.setattr(registries, "TIMEOUT", 0.2)
    with pytest.raises(SourceError, match="no result after"):
        source.fetch(FILES, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="npm is not installed"):
        source.fetch(FILES, tmp_path)


def test_debian_packages_installed_or_downloaded(tmp_path: Path, program: Callable[[str, str], None]) -> None:
    here = write(tmp_path / "usr", CONTENT, packed=True)
    program("dpkg", f"ls -d {here} {here}/*")
    ensure(collection(DebianPackage("dataset-toy")), cache=tmp_path / "a")
    program("dpkg", "exit 1")
    program("apt-get", 'test "$1 $2" = "download dataset-toy" && touch toy.deb')
    program("dpkg-deb", f'mkdir -p "$3/usr/share" && cp {here}/* "$3/usr/share"')
    ensure(collection(DebianPackage("dataset-toy")), cache=tmp_path / "b")
    for name in "ab":
        assert_clean(tmp_path / name)
    program("apt-get", "echo E: Unable to locate package >&2; exit 100")
    with pytest.raises(SourceError, match="Unable to locate"):
        DebianPackage("dataset-toy").fetch(FILES, tmp_path)


@dataclass(frozen=True)
class Slow:
    """A source that counts its requests in a file that processes share."""

    log: Path
    title: str = "slow"

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        with self.log.open("a") as log:
            log.write("request\n")
        for file in files:
            (folder / file.name).write_bytes(CONTENT[file.name])
            time.sleep(0.1)


def test_concurrent_processes_download_once(tmp_path: Path) -> None:
    """The processes are forked: a spawned one would import torch for seconds."""
    folder = write(tmp_path / "data" / "toy", {"two": b"wrong"})
    (folder / ".fetch-of-a-killed-process").mkdir()
    fork = multiprocessing.get_context("fork")
    work = {"collection": collection(Slow(tmp_path / "log")), "cache": tmp_path}
    children = [fork.Process(target=lambda: ensure(**work)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0, 0, 0] and (tmp_path / "log").read_text() == "request\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in CONTENT} == CONTENT
    assert_clean(tmp_path)


def test_location_and_permissions_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(DownloadError, match="VAEZOO_HOME"):
        ensure(collection(), cache=tmp_path)
    folder = write(tmp_path / "other" / "data" / "toy", CONTENT)
    folder.chmod(0o555)
    ensure(collection(), cache=tmp_path / "other")
    assert not (folder / ".lock").exists()
    folder.chmod(0o755)
    monkeypatch.delenv("VAEZOO_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == Path.home() / ".cache" / "vaezoo"
    for variable, value, expected in (("XDG_CACHE_HOME", "/a", "/a/vaezoo"), ("VAEZOO_HOME", "/mine", "/mine")):
        monkeypatch.setenv(variable, value)
        assert cache_root() == Path(expected)
    assert cache_root("elsewhere") == Path("elsewhere")
