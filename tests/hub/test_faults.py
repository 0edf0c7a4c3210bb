"""What goes wrong between us and the Hub: one clear error in time or a whole model, and nothing left behind.

All waits, ours and the client's, are a twentieth of what they are (30 seconds become 1.5); by hand they are real.
"""

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http
from support.hub_server import Fault, Front, Handler, Hub, Storage, flip, git_digest, reach, same

import vaezoo
from vaezoo.errors import CorruptWeightsError, DownloadError
from vaezoo.hub import client, transfer
from vaezoo.storage.config import CONFIG
from vaezoo.storage.model_folder import CARD, WEIGHTS
from vaezoo.zoo.index import bundled_folder

Tiny = tuple[vaezoo.VAE, str]
LONGEST = 30.0  # seconds until an error, where the waits are real


@pytest.fixture(params=[20, pytest.param(1, marks=pytest.mark.deep)], ids=["quick", "real"])
def scale(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """By how much all waits are divided."""
    factor: int = request.param
    clock = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / factor)})
    for module, name in (
        (client, "TIMEOUT"), (transfer, "PATIENCE"), (transfer, "GRACE"), (constants, "HF_HUB_DOWNLOAD_TIMEOUT"),
        (file_download, "_ETAG_RETRY_TIMEOUT"),
    ):  # fmt: skip
        monkeypatch.setattr(
            module, name, getattr(module, name, 60.0) / factor, raising=False
        )  # older ones lack the last
    monkeypatch.setattr(transfer, "TICK", 0.02)
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", clock)
    return factor


# Faults


def status(code: int, **headers: str) -> Fault:
    return lambda handler: handler.reply(code, b"{}", **headers)


def page(handler: Handler) -> bool:
    return handler.reply(200, b"<html>Sign in to this network</html>", "text/html")


def circle(handler: Handler) -> bool:
    return handler.reply(302, Location=handler.path)


def silence(handler: Handler) -> bool:
    handler.hub.closing.wait(60)
    handler.close_connection = True
    return True


def begin(handler: Handler, length: int | None, **headers: str) -> None:
    """Sends the head of an answer, whatever is to follow."""
    handler.send_response(200)
    for key, value in headers.items():
        handler.send_header(key.replace("_", "-"), value)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.close_connection = True


def content(handler: Handler) -> bytes:
    """Returns what the storage should send."""
    return handler.hub.large[handler.path.split("/")[2]]


def trickle(handler: Handler) -> bool:
    """Sends a byte a second, or what that is here."""
    begin(handler, 4000)
    with suppress(OSError):
        while not handler.hub.closing.wait(transfer.PATIENCE / 20):
            handler.write(b" ")
    return True


def cut(part: float, after: int = 0) -> Fault:
    """Ends the connection after a part of the body, `after` times or for ever."""
    seen: list[int] = []

    def fault(handler: Handler) -> bool:
        seen.append(1)
        if after and len(seen) > after:
            return False
        data = content(handler)
        begin(handler, len(data))
        handler.write(data[: int(part * len(data))])
        return True

    return fault


def longer(handler: Handler) -> bool:
    return handler.reply(200, content(handler) + bytes(100))


def shorter(handler: Handler) -> bool:
    return handler.reply(200, content(handler)[:-100])


def endless(handler: Handler) -> bool:
    """Sends zeros without end, and does not say how many."""
    begin(handler, None)
    with suppress(OSError):
        while not handler.hub.closing.is_set():
            handler.write(bytes(2**18))
    return True


def corrupt(handler: Handler) -> bool:
    data = content(handler)
    return handler.reply(200, data[:-4] + bytes(4))


def headers(**changed: str) -> Fault:
    """Answers for a small file as the Hub does, but for some headers; an empty one is left out."""

    def fault(handler: Handler) -> bool:
        _, owner, name, _, commit, file = handler.path.split("/")
        data = handler.hub.repositories[f"{owner}/{name}"].commits[commit][file]
        told = {"ETag": f'"{git_digest(data)}"', "X_Repo_Commit": commit} | changed
        return handler.reply(200, data, **{key: value for key, value in told.items() if value})

    return fault


def at(stage: str, fault: Fault) -> Fault:
    """Lets a fault happen where the commit is looked up, a small file asked for, or the weights are sent."""

    def chosen(handler: Handler) -> bool:
        here = {
            "looking up": handler.path.startswith("/api/"),
            "asking": isinstance(handler, Front) and handler.path.endswith(CONFIG),
            "sending": isinstance(handler, Storage),
        }
        return here[stage] and fault(handler)

    return chosen


STATUSES = (401, 403, 404, 408, 429, 500, 502, 503, 504)
FAULTS: dict[str, Fault] = {
    **{f"looking up: {code}": at("looking up", status(code)) for code in STATUSES},
    **{f"asking: {code}": at("asking", status(code)) for code in (401, 403, 404, 408, 429, 503)},
    **{f"sending: {code}": at("sending", status(code)) for code in (401, 403, 404, 408, 429, 500, 503)},
    "come back in an hour": at("sending", status(429, Retry_After="3600")),
    "no more for an hour": at("asking", status(429, RateLimit='"api";r=0;t=3600')),
    **{f"{stage}: a page": at(stage, page) for stage in ("looking up", "asking", "sending")},
    **{f"{stage}: a circle": at(stage, circle) for stage in ("looking up", "asking", "sending")},
    **{f"{stage}: silence": at(stage, silence) for stage in ("looking up", "asking", "sending")},
    **{f"{stage}: a byte a second": at(stage, trickle) for stage in ("looking up", "sending")},
    "no ETag": at("asking", headers(ETag="")),
    "an ETag that leads elsewhere": at("asking", headers(ETag='"../../../../outside"')),
    "an ETag that is a path": at("asking", headers(ETag='"/outside"')),
    "no commit": at("asking", headers(X_Repo_Commit="")),
    "another commit": at("asking", headers(X_Repo_Commit="0" * 40)),
    "a commit that leads elsewhere": at("asking", headers(X_Repo_Commit="../../outside")),
    "too large to be a config": at("asking", headers(X_Linked_Size="99999999")),
    "a length that is none": at("asking", headers(X_Linked_Size="-1")),
    "sending: longer": at("sending", longer),
    "sending: shorter": at("sending", shorter),
    "sending: endless": at("sending", endless),
    "sending: other bytes": at("sending", corrupt),
    "sending: cut": at("sending", cut(0.5)),
}


def left_behind(root: Path) -> list[Path]:
    """Returns what downloads left, given a moment to clean up after themselves."""
    for _ in range(200):
        left = [path for path in root.rglob("*") if path.name.endswith((".incomplete", ".tmp")) or path.name[0] == "."]
        left = [path for path in left if ".locks" not in path.parts]
        if not left:
            break
        time.sleep(0.1)
    return left


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_in_the_cache_and_the_hub_at_fault_is_one_clear_error(
    hub: Hub, tiny: Tiny, scale: int, name: str, tmp_path: Path
) -> None:
    hub.fault = FAULTS[name]
    start = time.perf_counter()
    error = DownloadError if name != "sending: other bytes" else CorruptWeightsError
    with pytest.raises(error, match="^hf:them/tiny could not be fetched: " if error is DownloadError else "SHA-256"):
        vaezoo.load("hf:them/tiny")
    assert time.perf_counter() - start < LONGEST
    assert not left_behind(tmp_path / "cache")
    assert not list(tmp_path.rglob("*outside*"))
    with pytest.raises((DownloadError, CorruptWeightsError)):
        vaezoo.load("hf:them/tiny", local_files_only=True)
    hub.fault = None
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])


@pytest.mark.parametrize("name", [name for name in FAULTS if name.startswith("looking up")])
def test_what_is_in_the_cache_is_loaded_though_the_hub_is_at_fault(
    hub: Hub, tiny: Tiny, scale: int, name: str, tmp_path: Path
) -> None:
    model, commit = tiny
    vaezoo.load("hf:them/tiny")
    hub.fault = FAULTS[name]
    hub.requests.clear()
    assert same(vaezoo.load(f"hf:them/tiny@{commit}"), model) and not hub.requests
    start = time.perf_counter()
    if name.endswith(("401", "403", "404")):
        with pytest.raises(DownloadError):  # an answer: it was withdrawn, or is no longer for us
            vaezoo.load("hf:them/tiny")
    else:
        assert same(vaezoo.load("hf:them/tiny"), model)
    assert time.perf_counter() - start < LONGEST
    assert not left_behind(tmp_path / "cache")


def test_a_newer_commit_that_cannot_be_had_leaves_the_old_one(hub: Hub, tiny: Tiny, scale: int, tmp_path: Path) -> None:
    vaezoo.load("hf:them/tiny")
    newer = vaezoo.create("vae", shape=(1, 8, 8), latent=3)
    folder = vaezoo.save(newer, tmp_path / "newer")
    hub.publish("them/tiny", {path.name: path.read_bytes() for path in folder.iterdir()})
    hub.fault = at("sending", status(503))
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])
    assert same(vaezoo.load("hf:them/tiny", local_files_only=True), tiny[0])
    hub.fault = None
    assert same(vaezoo.load("hf:them/tiny"), newer)


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 0.99])
def test_a_connection_that_is_cut_once_does_not_matter(hub: Hub, tiny: Tiny, scale: int, part: float) -> None:
    hub.fault = at("sending", cut(part, after=1))
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])


@pytest.mark.parametrize("stage", ["asking", "sending"])
def test_a_fault_that_passes_does_not_matter(hub: Hub, tiny: Tiny, scale: int, stage: str) -> None:
    times = iter([429, 408 if stage == "sending" else 503])
    hub.fault = at(stage, lambda handler: (code := next(times, 0)) != 0 and handler.reply(code))
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])


def test_slow_but_steady_is_not_given_up(hub: Hub, tiny: Tiny, scale: int) -> None:
    """It takes longer than the patience, and comes a little faster than the pace."""

    def steady(handler: Handler) -> bool:
        data = content(handler)
        begin(handler, len(data))
        piece = len(data) // 30
        for start in range(0, len(data), piece):
            handler.write(data[start : start + piece])
            time.sleep(transfer.PATIENCE / 20)
        return True

    hub.fault = at("sending", steady)
    assert len(next(iter(hub.large.values()))) / (1.5 * transfer.PATIENCE) > transfer.PACE
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])


def test_nobody_there_is_one_clear_error(
    hub: Hub, tiny: Tiny, scale: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reach(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"^hf:them/tiny could not be fetched: ConnectError: .*refused"):
        vaezoo.load("hf:them/tiny")
    reach(monkeypatch, "http://no-such-host.invalid")
    with pytest.raises(DownloadError, match=r"^hf:them/tiny could not be fetched: "):
        vaezoo.load("hf:them/tiny")
    reach(monkeypatch, hub.endpoint)
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])


def test_other_threads_sessions_are_left_alone(hub: Hub, tiny: Tiny, scale: int) -> None:
    session = client.the_client().get_session()
    hooks = {key: list(value) for key, value in session.event_hooks.items()}
    hub.fault = at("sending", silence)
    seen: list[int] = []

    def other(handler: Handler) -> bool:
        """While our transfer hangs, somebody else's request goes through, redirects, large answers and all."""
        if isinstance(handler, Storage) and not seen:
            seen.append(client.the_client().get_session().get(f"{hub.endpoint}/nothing").status_code)
        return False

    plain = hub.fault
    hub.fault = lambda handler: other(handler) or plain(handler)
    with pytest.raises(DownloadError):
        vaezoo.load("hf:them/tiny")
    assert seen == [404]
    for _ in range(100):
        now = client.the_client().get_session().event_hooks
        if {key: list(value) for key, value in now.items()} == hooks:
            break
        time.sleep(0.1)
    assert {key: list(value) for key, value in now.items()} == hooks


# Disks


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Lets no file grow above a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_clear_error(hub: Hub, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in bundled_folder("vae-mnist").iterdir()}
    hub.publish("them/vae", files)
    assert len(files[WEIGHTS]) > 1_200_000
    with largest_file(1_000_000), pytest.raises(DownloadError, match=r"^hf:them/vae could not be fetched: .*too large"):
        vaezoo.load("hf:them/vae")
    assert not left_behind(tmp_path / "cache")
    assert same(vaezoo.load("hf:them/vae"), vaezoo.load("vae-mnist"))


OVERRIDE = 1 << 1  # CAP_DAC_OVERRIDE, with which root writes where nobody may


@contextmanager
def bound_by_modes() -> Iterator[None]:
    """Has file modes bind root too, in this thread and those that it starts."""
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


def modes(root: Path, folders: int) -> None:
    for path in [root, *root.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(folders)


def test_a_cache_that_is_read_only_serves_and_refuses_clearly(hub: Hub, tiny: Tiny, tmp_path: Path) -> None:
    model, commit = tiny
    cache = tmp_path / "cache"
    vaezoo.load("hf:them/tiny")
    hub.publish("them/other", {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()})
    modes(cache, 0o555)
    try:
        with bound_by_modes():
            with pytest.raises(PermissionError):
                (cache / "new").touch()
            for place in ("hf:them/tiny", f"hf:them/tiny@{commit}"):
                assert same(vaezoo.load(place), model)
            with pytest.raises(DownloadError, match=r"^hf:them/other could not be fetched: .*Permission denied"):
                vaezoo.load("hf:them/other")
    finally:
        modes(cache, 0o755)
    assert same(vaezoo.load("hf:them/other"), model)


def test_what_a_killed_download_left_is_swept_when_it_is_old_and_nobodys(hub: Hub, tiny: Tiny, tmp_path: Path) -> None:
    from filelock import FileLock

    vaezoo.load("hf:them/tiny")
    place = tmp_path / "cache" / "models--them--tiny"
    locks = sorted((tmp_path / "cache" / ".locks" / place.name).glob("*.lock"))
    parts = [place / "blobs" / f"{lock.stem}.{number:08x}.incomplete" for number, lock in enumerate(locks[:3])]
    for part in parts:
        part.write_bytes(b"half")
    old = time.time() - client.ORPHANED - 1
    for part in parts[:2]:
        os.utime(part, (old, old))
    with FileLock(locks[1]):
        vaezoo.load("hf:them/tiny")
    assert [part.exists() for part in parts] == [False, True, True]


def test_the_cards_of_others_are_not_needed(hub: Hub, tiny: Tiny, scale: int) -> None:
    model, commit = tiny
    files = dict(hub.repositories["them/tiny"].commits[commit])
    del files[CARD]
    hub.publish("them/bare", files)
    assert same(vaezoo.load("hf:them/bare"), model)
    flip(next(Path(constants.HF_HUB_CACHE).glob(f"models--them--bare/snapshots/*/{WEIGHTS}")))
    hub.fault = at("looking up", silence)
    with pytest.raises(CorruptWeightsError, match="could not be fetched again"):
        vaezoo.load("hf:them/bare")
    assert torch.is_tensor(model.sample(1, seed=0))
