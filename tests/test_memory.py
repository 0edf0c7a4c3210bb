"""Freed memory stays with the process."""

import os
import platform
import subprocess
import sys

import pytest
from runs import fit, small_recipe, trainer

from vaezoo.trainer import loop

SCRIPT = """
import resource, torch
from vaezoo.memory import keep_freed_memory
torch.set_num_threads(1)
kept = keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        for size in (1_000_000, 4_000_000, 2_000_000):
            block = torch.ones(size)
            other = (block + 1) * 2
        del block, other
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(4):
    faults()
print(int(kept), faults())
"""


def run(**environment: str) -> tuple[int, int]:
    """Returns whether memory is kept, and the page faults of eight rounds of some blocks of up to 16 MB."""
    # glibc begins with this threshold, but moves it, depending on what was freed before.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(128 << 10), **environment}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return int(kept), int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    kept, few = run()
    untouched, many = run(VAEZOO_KEEP_MEMORY="0")
    assert (kept, untouched) == (1, 0)
    assert few < 10_000 < 50_000 < many  # where memory is short, the system takes some of it back


def test_a_run_keeps_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(loop, "keep_freed_memory", lambda: calls.append(1))
    fit(trainer(small_recipe("vae")))
    assert calls == [1]
