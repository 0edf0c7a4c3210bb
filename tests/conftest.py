"""Every test starts from the same random state and leaves torch's defaults as they were."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from support.forks import Forks

if TYPE_CHECKING:
    from support.hub_server import Hub

    import vaezoo

MEMORY = Path("/dev/shm")
for size in ("COLUMNS", "LINES"):  # of the terminal that starts the tests, which widths of tables follow
    os.environ.pop(size, None)


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    torch.default_generator.manual_seed(0)  # torch.manual_seed formats a traceback for each kind of device
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: its fsync costs nothing, and who is killed, not unplugged, needs none."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    server = Forks()
    yield server
    server.close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Iterator[Hub]":
    """A server that the client in this process takes for the Hub; logged in as somebody who may write."""
    from huggingface_hub import constants
    from support.hub_server import reach, serving

    with serving() as started:
        started.tokens.add("secret")
        settings = {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": True}
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        reach(monkeypatch, started.endpoint)
        monkeypatch.setenv("HF_TOKEN", "secret")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield started


@pytest.fixture
def tiny(hub: "Hub", tmp_path: Path) -> "tuple[vaezoo.VAE, str]":
    """A small model, and the commit of `them/tiny` that holds it."""
    import vaezoo

    torch.manual_seed(0)
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=2)
    folder = vaezoo.save(model, tmp_path / "tiny")
    return model, hub.publish("them/tiny", {path.name: path.read_bytes() for path in folder.iterdir()})


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors: some tests wait for servers and other processes most of their time."""
    return len(os.sched_getaffinity(0)) + 1
