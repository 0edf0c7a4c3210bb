"""Faults between the client and the Hub: one clear error or a complete model, and no partial files.

All waits of vaezoo and of the client are divided by 20; in the full run they are real.
"""

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http
from support.hub_server import Fault, Front, Handler, Hub, Storage, flip, git_digest, reach, same

import vaezoo
from vaezoo.errors import CorruptWeightsError, DownloadError
from vaezoo.hub import client
from vaezoo.storage.config import CONFIG
from vaezoo.storage.model_folder import CARD, WEIGHTS
from vaezoo.zoo.index import PACKAGE_FOLDER

Tiny = tuple[vaezoo.VAE, str]
LONGEST = 30.0  # seconds until an error


@pytest.fixture(params=[20, pytest.param(1, marks=pytest.mark.deep)], ids=["quick", "real"])
def scale(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Divides all waits."""
    factor: int = request.param
    clock = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / factor)})
    monkeypatch.setattr(client, "TIMEOUT", client.TIMEOUT / factor)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", constants.HF_HUB_DOWNLOAD_TIMEOUT / factor)
    monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", 60.0 / factor, raising=False)  # older clients lack it
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", clock)
    return factor


def status(code: int) -> Fault:
    return lambda handler: handler.reply(code, b"{}")


def page(handler: Handler) -> bool:
    return handler.reply(200, b"<html>Sign in to this network</html>", "text/html")


def redirect_loop(handler: Handler) -> bool:
    return handler.reply(302, Location=handler.path)


def silence(handler: Handler) -> bool:
    handler.hub.closing.wait(60)
    handler.close_connection = True
    return True


def content(handler: Handler) -> bytes:
    """Returns the body that the storage should send."""
    return handler.hub.large[handler.path.split("/")[2]]


def cut(part: float, times: int = 10**6) -> Fault:
    """Closes the connection after a part of the body, for the first `times` requests."""
    seen: list[int] = []

    def fault(handler: Handler) -> bool:
        seen.append(1)
        if len(seen) > times:
            return False
        data = content(handler)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.close_connection = True
        handler.write(data[: int(part * len(data))])
        return True

    return fault


def body(change: slice, extra: bytes = b"") -> Fault:
    """Sends a part of the body followed by other bytes, with a matching Content-Length."""
    return lambda handler: handler.reply(200, content(handler)[change] + extra)


def headers(**changed: str) -> Fault:
    """Answers for a small file as the Hub does, with changed headers; an empty one is left out."""

    def fault(handler: Handler) -> bool:
        _, owner, name, _, commit, file = handler.path.split("/")
        data = handler.hub.repositories[f"{owner}/{name}"].commits[commit][file]
        sent = {"ETag": f'"{git_digest(data)}"', "X_Repo_Commit": commit} | changed
        return handler.reply(200, data, **{key: value for key, value in sent.items() if value})

    return fault


def at(stage: str, fault: Fault) -> Fault:
    """Limits a fault to the look-up of the commit, the request for the config, or the download of the weights."""

    def chosen(handler: Handler) -> bool:
        here = {
            "commit": handler.path.startswith("/api/"),
            "config": isinstance(handler, Front) and handler.path.endswith(CONFIG),
            "weights": isinstance(handler, Storage),
        }
        return here[stage] and fault(handler)

    return chosen


FAULTS: dict[str, Fault] = {
    **{f"commit: {code}": at("commit", status(code)) for code in (401, 404, 429, 503)},
    **{f"config: {code}": at("config", status(code)) for code in (403, 503)},
    **{f"weights: {code}": at("weights", status(code)) for code in (404, 503)},
    **{f"{stage}: HTML page": at(stage, page) for stage in ("commit", "config", "weights")},
    **{f"{stage}: redirect loop": at(stage, redirect_loop) for stage in ("commit", "config")},
    **{f"{stage}: silence": at(stage, silence) for stage in ("commit", "config", "weights")},
    "no ETag": at("config", headers(ETag="")),
    "ETag outside the cache": at("config", headers(ETag='"../../../../outside"')),
    "absolute ETag": at("config", headers(ETag='"/outside"')),
    "no commit": at("config", headers(X_Repo_Commit="")),
    "another commit": at("config", headers(X_Repo_Commit="0" * 40)),
    "commit outside the cache": at("config", headers(X_Repo_Commit="../../outside")),
    "config too large": at("config", headers(X_Linked_Size="99999999")),
    "negative size": at("config", headers(X_Linked_Size="-1")),
    "weights: longer": at("weights", body(slice(None), bytes(100))),
    "weights: shorter": at("weights", body(slice(0, -100))),
    "weights: other bytes": at("weights", body(slice(0, -4), bytes(4))),
    "weights: connection cut": at("weights", cut(0.5)),
}


SLOW = {"weights: silence": pytest.mark.full}


def partial_files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.endswith((".incomplete", ".tmp"))]


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in FAULTS])
def test_fault_with_an_empty_cache_is_one_clear_error(
    hub: Hub, tiny: Tiny, scale: int, name: str, tmp_path: Path
) -> None:
    hub.fault = FAULTS[name]
    start = time.perf_counter()
    damaged = (CorruptWeightsError, "SHA-256")
    refused = (DownloadError, "^hf:them/tiny could not be fetched: ")
    error, words = damaged if name == "weights: other bytes" else refused
    with pytest.raises(error, match=words):
        vaezoo.load("hf:them/tiny")
    assert time.perf_counter() - start < LONGEST * (1 if scale > 1 else 4)
    assert not list(tmp_path.rglob("*outside*"))
    with pytest.raises((DownloadError, CorruptWeightsError)):
        vaezoo.load("hf:them/tiny", local_files_only=True)
    hub.fault = None
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])
    assert not partial_files(tmp_path / "cache")


@pytest.mark.parametrize("name", [name for name in FAULTS if name.startswith("commit:")])
def test_cached_model_loads_while_the_hub_fails(hub: Hub, tiny: Tiny, scale: int, name: str) -> None:
    model, commit = tiny
    vaezoo.load("hf:them/tiny")
    hub.fault = FAULTS[name]
    hub.requests.clear()
    assert same(vaezoo.load(f"hf:them/tiny@{commit}"), model) and not hub.requests
    start = time.perf_counter()
    if name.endswith(("401", "404")):
        with pytest.raises(DownloadError):  # an answer: the repository was withdrawn or is private
            vaezoo.load("hf:them/tiny")
    else:
        assert same(vaezoo.load("hf:them/tiny"), model)
    assert time.perf_counter() - start < LONGEST


def test_failed_download_of_a_new_commit_keeps_the_old_one(hub: Hub, tiny: Tiny, scale: int, tmp_path: Path) -> None:
    vaezoo.load("hf:them/tiny")
    newer = vaezoo.create("vae", shape=(1, 8, 8), latent=3)
    folder = vaezoo.save(newer, tmp_path / "newer")
    hub.publish("them/tiny", {path.name: path.read_bytes() for path in folder.iterdir()})
    hub.fault = at("weights", status(503))
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])
    assert same(vaezoo.load("hf:them/tiny", local_files_only=True), tiny[0])
    hub.fault = None
    assert same(vaezoo.load("hf:them/tiny"), newer)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_download_survives_one_cut_connection(hub: Hub, tiny: Tiny, scale: int, part: float) -> None:
    hub.fault = at("weights", cut(part, times=1))
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])


def test_unreachable_hub_is_one_clear_error(hub: Hub, tiny: Tiny, scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for endpoint in ("http://127.0.0.1:9", "http://no-such-host.invalid"):
        reach(monkeypatch, endpoint)
        start = time.perf_counter()
        with pytest.raises(DownloadError, match=r"^hf:them/tiny could not be fetched: ConnectError: "):
            vaezoo.load("hf:them/tiny")
        assert time.perf_counter() - start < LONGEST
    reach(monkeypatch, hub.endpoint)
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])


def test_repository_without_a_card_loads(hub: Hub, tiny: Tiny, scale: int) -> None:
    model, commit = tiny
    files = dict(hub.repositories["them/tiny"].commits[commit])
    del files[CARD]
    hub.publish("them/bare", files)
    assert same(vaezoo.load("hf:them/bare"), model)
    flip(next(Path(constants.HF_HUB_CACHE).glob(f"models--them--bare/snapshots/*/{WEIGHTS}")))
    hub.fault = at("commit", silence)
    with pytest.raises(CorruptWeightsError, match="could not be fetched again"):
        vaezoo.load("hf:them/bare")


# Disks


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limits the size of files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_is_one_clear_error(hub: Hub, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in (PACKAGE_FOLDER / "vae-mnist").iterdir()}
    hub.publish("them/vae", files)
    assert len(files[WEIGHTS]) > 600_000
    with largest_file(500_000), pytest.raises(DownloadError, match=r"^hf:them/vae could not be fetched: .*too large"):
        vaezoo.load("hf:them/vae")
    assert not partial_files(tmp_path / "cache")
    assert same(vaezoo.load("hf:them/vae"), vaezoo.load("vae-mnist"))


OVERRIDE = 1 << 1  # CAP_DAC_OVERRIDE, with which root ignores file modes


@contextmanager
def bound_by_modes() -> Iterator[None]:
    """Removes root's exemption from file modes in this thread."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    assert libc.capget(head, data) == 0
    before = data[0]
    data[0] = before & ~OVERRIDE
    assert libc.capset(head, data) == 0
    try:
        yield
    finally:
        data[0] = before
        assert libc.capset(head, data) == 0


def set_folder_modes(root: Path, mode: int) -> None:
    for path in [root, *root.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(mode)


def test_read_only_cache_serves_its_models_and_refuses_others(hub: Hub, tiny: Tiny, tmp_path: Path) -> None:
    model, commit = tiny
    cache = tmp_path / "cache"
    vaezoo.load("hf:them/tiny")
    hub.publish("them/other", {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()})
    set_folder_modes(cache, 0o555)
    try:
        with bound_by_modes():
            with pytest.raises(PermissionError):
                (cache / "new").touch()
            for place in ("hf:them/tiny", f"hf:them/tiny@{commit}"):
                assert same(vaezoo.load(place), model)
            with pytest.raises(DownloadError, match=r"^hf:them/other could not be fetched: .*Permission denied"):
                vaezoo.load("hf:them/other")
    finally:
        set_folder_modes(cache, 0o755)
    assert same(vaezoo.load("hf:them/other"), model)
