"""Every test starts from the same random state and leaves torch's defaults as they were."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from forks import Forks

MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    torch.manual_seed(0)
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
