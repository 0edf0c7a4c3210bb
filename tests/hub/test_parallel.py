"""Several processes load a model that is not cached at the same time; some of them are killed."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from support.forks import Forks, ended, forked
from support.hub_server import Handler, Hub, Storage

from vaezoo.zoo.index import PACKAGE_FOLDER

PROCESSES, KILLED = 6, 2
ROUNDS = [pytest.param(5, marks=pytest.mark.full), pytest.param(20, marks=pytest.mark.deep)]


def load_at_once(endpoint: str, cache: str, kills: list[float]) -> dict[str, object]:
    """Loads a model in several child processes, kills some after `kills` seconds, and returns their results."""
    # Imported once for all children; the client reads the environment at its import only.
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
    outputs = [os.read(read, 1000).decode() for read, _ in pipes]
    for read, _ in pipes:
        os.close(read)
    return {"statuses": statuses, "outputs": outputs, "seconds": time.monotonic() - start}


def child(cache: str, write: int) -> int:
    import vaezoo
    from vaezoo.storage.json_files import sha256

    sample = vaezoo.load("hf:them/vae").sample(2, seed=0)
    (file,) = Path(cache).glob("models--them--vae/snapshots/*/model.safetensors")
    os.write(write, f"{sha256(file.read_bytes())} {sha256(sample.numpy().tobytes())}".encode())
    return 0


def in_pieces(handler: Handler) -> bool:
    """Sends large files slowly, so that a download can be interrupted."""
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
    except OSError:  # the client was killed
        handler.close_connection = True
    return True


@pytest.mark.parametrize("rounds", ROUNDS)
def test_parallel_processes_download_one_copy_though_some_are_killed(
    hub: Hub, forks: Forks, rounds: int, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in (PACKAGE_FOLDER / "vae-mnist").iterdir()}
    hub.publish("them/vae", files)
    rng, outputs, killed = random.Random(0), set(), 0
    for number in range(rounds):
        for kills in ([], [rng.uniform(0.0, 0.6) for _ in range(KILLED)]):
            hub.fault = in_pieces if kills else None
            hub.sent.clear()
            cache = str(tmp_path / f"{number} {len(kills)}")
            done = forks.call(load_at_once, endpoint=hub.endpoint, cache=cache, kills=kills)
            assert done["statuses"][len(kills) :] == [0] * (PROCESSES - len(kills)) and done["seconds"] < 60
            assert kills or sum(hub.sent) <= 1.5 * sum(map(len, files.values()))
            killed += done["statuses"].count(-signal.SIGKILL)
            outputs |= set(done["outputs"]) - {""}
        again = forks.call(load_at_once, endpoint=hub.endpoint, cache=cache, kills=[])
        assert again["statuses"] == [0] * PROCESSES
        outputs |= set(again["outputs"])
    assert len(outputs) == 1 and killed >= 1
