"""Tests in processes of their own: equal bytes under any hash seed, no pickle, memory, open files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
REPEATED = """
import json, shutil, sys, warnings
unpickled = []
import torch, vaezoo
from support.runs import small_data, small_recipe
from vaezoo.trainer import loop
sys.addaudithook(lambda event, _: unpickled.append(event) if event == "pickle.find_class" else None)
warnings.simplefilter("ignore")
loop.LOG_EVERY = 5
torch.set_num_threads(1)
recipe, folder = small_recipe("factor-vae", data={"validation": 10}, steps=20, average=0.9), sys.argv[1]
given = {"data": small_data(recipe), "out": folder, "trackers": ()}
vaezoo.train(recipe, **given)
if len(sys.argv) > 2:
    shutil.copytree(folder, sys.argv[2])
    vaezoo.train(recipe, **given, resume=True)
    vaezoo.train(recipe.as_dict(), **given, extend=True, steps=25)
    vaezoo.save(vaezoo.load(folder + "/"), folder + "/again")
    seen = len(unpickled)
    import pickle
    pickle.loads(b"cbuiltins\\nlen\\n.")
    assert len(unpickled) == seen + 1, "the hook is called for pickle"
    unpickled.pop()
print(json.dumps(unpickled))
"""
MEASURED = """
import json, os, resource, sys, warnings
import torch
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def now(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
base, counts = peak(), json.loads(sys.argv[2])
import vaezoo
warnings.simplefilter("ignore")
torch.set_num_threads(1)
def load(count):
    for _ in range(count):
        vaezoo.load("vae-mnist", device="cpu")
    return now(), len(os.listdir("/proc/self/fd"))
before, after = load(50), load(counts["loads"])
data = None
if counts["synthetic"]:
    data = torch.randint(256, (60_000, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
vaezoo.train("vae-mnist", data=data, steps=counts["steps"], out=sys.argv[1], trackers=(), device="cpu")
print(json.dumps({"peak": peak() - base, "growth": after[0] - before[0], "files": [before[1], after[1]]}))
"""


def run(code: str, *arguments: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=TESTS.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parent}:{TESTS}"} | environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=500,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.full
def test_bytes_do_not_depend_on_the_hash_seed_and_nothing_is_unpickled(tmp_path: Path) -> None:
    found = set()
    for seed in ("0", "4242"):
        folder = tmp_path / seed / "run"
        # The last one is resumed, too, after its folder was copied.
        folders = [tmp_path / "more" / "run", folder] if seed == "4242" else [folder]
        assert run(REPEATED, *map(str, folders), PYTHONHASHSEED=seed) == []
        files = ("model.safetensors", "metrics.jsonl", "config.json", "recipe.json")
        paths = [*(folder / name for name in files), *sorted((folder / "checkpoints" / "step-000000020").iterdir())]
        found.add(tuple((path.name, path.read_bytes()) for path in paths))
    assert len(found) == 1
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".pkl", ".bin", ".pickle", ".npy")]


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
@pytest.mark.parametrize(
    "counts",
    [
        pytest.param({"loads": 200, "steps": 20, "synthetic": True}, marks=pytest.mark.full),
        pytest.param({"loads": 1_000, "steps": 300, "synthetic": False}, marks=pytest.mark.deep, id="MNIST"),
    ],
)
def test_memory_of_a_run_on_60_000_images_and_of_many_loads(counts: dict[str, object], tmp_path: Path) -> None:
    found = run(MEASURED, str(tmp_path / "run"), json.dumps(counts))
    print(found)
    assert found["peak"] < 1200, "MiB beyond torch itself"
    assert found["growth"] < 10, "MiB"
    assert found["files"][0] == found["files"][1]
