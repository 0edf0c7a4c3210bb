"""Runs `audited.py`, which reads files under an audit hook, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


def audited(place: Path, read: list[Path], modules: list[str], **job: object) -> dict[str, Any]:
    """Runs `audited.py` in an empty folder; it may read `read`, vaezoo and the installation."""
    place.mkdir()
    roots = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(os.__file__)), TESTS.parent, *read]
    job |= {"read": sorted({os.path.realpath(each) for each in roots}), "modules": modules}
    done = subprocess.run(
        [sys.executable, str(TESTS / "support" / "audited.py")],
        input=json.dumps(job), capture_output=True, text=True, cwd=place, timeout=300,
        env={
            **os.environ, "PYTHONPATH": str(TESTS.parent), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
            "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(place.parent / "cache"),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(place.iterdir())
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
