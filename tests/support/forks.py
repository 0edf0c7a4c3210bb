"""A process that imports torch once and forks a child for each run; unlike the tests' process it has no threads."""

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
MODULES = ("storage.files", "storage.checkpoint", "trainer.metrics_log")  # `at_change` halves their writes
CALLS = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "link")


class Forks:
    """The tests' side of the process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=TESTS.parent,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        )

    def call(self, work: Callable[..., object], **arguments: object) -> Any:
        """Calls a function of a test module in the process; arguments and result are JSON."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps([work.__module__, work.__name__, arguments]), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline() or '{"error": "the process has ended"}')
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def forked(work: Callable[[], int | None]) -> int:
    """Starts `work` in a child, whose exit status is the result, and returns the process number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        status = work() or 0
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended(child: int) -> int:
    """Waits for a child and returns its exit status; -9 where it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_change(number: int, action: Callable[[], None]) -> Callable[[], int]:
    """Calls `action` before change `number` of the file system, or half-way through a write; for a child that ends.

    The result counts the changes.
    """
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count - 1 == number:
            action()

    def wrapped(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            tick()
            return function(*args, **kwargs)

        return call

    def opened(*args: Any, **kwargs: Any) -> Any:
        file = open(*args, **kwargs)  # noqa: SIM115 - the caller closes it
        if file.writable():
            write = file.write

            def halves(data: bytes) -> int:
                write(data[: len(data) // 2])
                file.flush()
                tick()
                return len(data) // 2 + write(data[len(data) // 2 :])

            file = Piecewise(file, halves)
        return file

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
    for module in MODULES:
        importlib.import_module(f"vaezoo.{module}").open = opened  # type: ignore[attr-defined]
    return lambda: count


class Piecewise:
    """A file with another `write`."""

    def __init__(self, file: Any, write: Callable[[bytes], int]) -> None:
        self.file, self.write = file, write

    def __enter__(self) -> "Piecewise":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of training is no answer
    import torch

    import vaezoo.workflows.train  # noqa: F401 - imported once for all children

    torch.set_num_threads(1)
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).zero_grad()  # the first one imports half of torch
    for line in sys.stdin:
        module, name, arguments = json.loads(line)
        try:
            answer = {"value": getattr(importlib.import_module(module), name)(**arguments)}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
