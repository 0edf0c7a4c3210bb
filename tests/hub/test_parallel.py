"""Many processes load one model that is not in the cache, at once; some of them are killed."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from support.forks import Forks, ended, forked
from support.hub_server import Handler, Hub, Storage

from vaezoo.zoo.index import bundled_folder

PROCESSES, KILLED = 8, 3
ROUNDS = [3, pytest.param(20, marks=pytest.mark.deep)]


def load_at_once(endpoint: str, cache: str, kills: list[float]) -> dict[str, object]:
    """Has eight children load a model at once, and kills some after so many seconds; says what the others saw."""
    # Here, once for all children; and what the environment says the client reads only when it is imported.
    from huggingface_hub import constants, file_download, hf_api  # noqa: F401

    from vaezoo import hub  # noqa: F401

    constants.ENDPOINT = endpoint
    constants.HUGGINGFACE_CO_URL_TEMPLATE = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    constants.HF_HUB_CACHE = cache
    constants.HF_HUB_DISABLE_XET = True
    start = time.monotonic()
    pipes = [os.pipe() for _ in range(PROCESSES)]
    children = []
    for _, write in pipes:
        children.append(forked(lambda write=write: child(cache, write)))  # type: ignore[misc]  # called at once
        os.close(write)
    for after, number in zip(sorted(kills), children, strict=False):
        time.sleep(max(0.0, start + after - time.monotonic()))
        os.kill(number, signal.SIGKILL)
    statuses = [ended(number) for number in children]
    said = [os.read(read, 1000).decode() for read, _ in pipes]
    for read, _ in pipes:
        os.close(read)
    return {"statuses": statuses, "said": said, "seconds": time.monotonic() - start}


def child(cache: str, write: int) -> int:
    import vaezoo
    from vaezoo.storage.documents import sha256

    model = vaezoo.load("hf:them/vae")
    (file,) = Path(cache).glob("models--them--vae/snapshots/*/model.safetensors")
    weights = sha256(file.read_bytes())
    sample = sha256(model.sample(2, seed=0).numpy().tobytes())
    os.write(write, f"{weights} {sample}".encode())
    return 0


def in_pieces(handler: Handler) -> bool:
    """Sends large files slowly enough to be killed on the way."""
    if not isinstance(handler, Storage) or handler.command != "GET":
        return False
    data = handler.hub.large[handler.path.split("/")[2]]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    try:
        for start in range(0, len(data), len(data) // 20):
            handler.write(data[start : start + len(data) // 20])
            time.sleep(0.01)
    except OSError:  # whoever asked was killed
        handler.close_connection = True
    return True


@pytest.fixture
def files(hub: Hub) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in bundled_folder("vae-mnist").iterdir()}
    hub.publish("them/vae", found)
    return found


@pytest.mark.parametrize("rounds", ROUNDS)
def test_eight_processes_fetch_one_copy(
    hub: Hub, files: dict[str, bytes], forks: Forks, rounds: int, tmp_path: Path
) -> None:
    seen = set()
    for number in range(rounds):
        hub.sent.clear()
        done = forks.call(load_at_once, endpoint=hub.endpoint, cache=str(tmp_path / str(number)), kills=[])
        assert done["statuses"] == [0] * PROCESSES and done["seconds"] < 30
        assert sum(hub.sent) <= 1.5 * sum(map(len, files.values()))
        seen |= set(done["said"])
    assert len(seen) == 1


@pytest.mark.parametrize("rounds", ROUNDS)
def test_processes_that_are_killed_harm_nobody(
    hub: Hub, files: dict[str, bytes], forks: Forks, rounds: int, tmp_path: Path
) -> None:
    hub.fault = in_pieces
    rng = random.Random(0)
    seen, killed = set(), 0
    for number in range(rounds):
        kills = [rng.uniform(0.0, 0.6) for _ in range(KILLED)]
        cache = tmp_path / str(number)
        done = forks.call(load_at_once, endpoint=hub.endpoint, cache=str(cache), kills=kills)
        assert done["statuses"][KILLED:] == [0] * (PROCESSES - KILLED) and done["seconds"] < 30
        killed += done["statuses"].count(-signal.SIGKILL)
        seen |= set(done["said"]) - {""}
        again = forks.call(load_at_once, endpoint=hub.endpoint, cache=str(cache), kills=[])
        assert again["statuses"] == [0] * PROCESSES
        seen |= set(again["said"])
    assert len(seen) == 1
    assert killed >= rounds
