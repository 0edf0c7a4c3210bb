"""Loads models and reads recipes under an audit hook, and says what it heard: run as a script with a job on stdin.

A job: `warm` (what to load before the hook listens), `load` and `recipes` (what to load and read then), `offline` (what
of it without asking the Hub for another copy where it is refused), `modules` (what may be imported), `read` and `write`
(folders from which may be read, in which may be written), `canaries` (whether to do in the end what should
be heard). The answer: what became of each, and what was heard beyond reading those folders.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

HARMLESS = {
    "object.__getattr__",
    "object.__setattr__",
    "object.__delattr__",
    "os.listdir",
    "os.scandir",
    "sys._getframe",
    "builtins.id",
    "code.__new__",
    "glob.glob",
    "glob.glob/2",
    "pathlib.Path.glob",
    "time.sleep",
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def inside(path: object, folders: list[str]) -> bool:
    if isinstance(path, int):  # a descriptor: how it was opened has been heard
        return True
    real = os.path.realpath(os.fsdecode(path))  # type: ignore[arg-type]
    return any(real == each or real.startswith(each + os.sep) for each in folders)


def heard(event: str, args: tuple[Any, ...], job: dict[str, Any]) -> str | None:
    """Returns a line about an event that the job does not allow."""
    if event in HARMLESS:
        return None
    if event == "open":
        path, _, flags = args
        writes = bool((flags or 0) & WRITING)
        if inside(path, job["write"] if writes else job["read"] + job["write"]):
            return None
        return f"open {'to write' if writes else 'to read'}: {path}"
    if event == "import":
        return None if args[0].partition(".")[0] in job["modules"] else f"import: {args[0]}"
    if event in ("exec", "compile", "marshal.loads") and job["modules"]:
        file = getattr(args[0], "co_filename", None) if event == "exec" else args[1] if event == "compile" else ""
        own = not file or str(file).startswith("<") or inside(file, job["read"])
        return None if own else f"{event}: {file}"
    return f"{event}: {str(args)[:200]}"


def canaries() -> dict[str, Callable[[], object]]:
    """Returns what should be heard."""
    import _pickle
    import socket
    import subprocess

    return {
        "exec": lambda: exec("1"),
        "compile": lambda: compile("1", "<canary>", "eval"),
        "import": lambda: __import__("this_module_is_missing"),
        "subprocess.Popen": lambda: subprocess.Popen(["true"]).wait(),
        "os.system": lambda: os.system("true"),
        "socket.connect": lambda: socket.socket().connect(("127.0.0.1", 9)),
        "open to write": lambda: open(os.devnull, "wb").close(),
        "open to read": lambda: open("/etc/hostname", "rb").close(),
        "pickle.find_class": lambda: _pickle.loads(b"cbuiltins\nlen\n."),
        "os.remove": lambda: os.remove("/nowhere"),
        "os.mkdir": lambda: os.mkdir("/"),
    }


def attempt(work: Callable[[], object]) -> str:
    from vaezoo.errors import VaezooError

    try:
        work()
        return "done"
    except VaezooError as error:
        return f"refused: {type(error).__name__}: {error}"[:300]


class Listener:
    """An audit hook that notes what a job does not allow, while it is on."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job, self.on, self.found = job, False, list[str]()
        sys.addaudithook(self.hear)

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on:
            self.on = False
            line = heard(event, args, self.job)
            self.found += [] if line is None else [line]
            self.on = True

    def during(self, work: Callable[[], object]) -> list[str]:
        """Returns what is heard while `work` is done."""
        self.found, self.on = [], True
        try:
            with suppress(Exception):
                work()
        finally:
            self.on = False
        return self.found


def main() -> None:
    job = json.load(sys.stdin)
    import torch
    from huggingface_hub import HfApi, errors, snapshot_download

    import vaezoo
    from vaezoo.recipe import read_recipe

    assert torch and HfApi and errors and snapshot_download  # imported before anybody listens
    for name in job["warm"]:
        vaezoo.load(name)
    for name in job["recipes"] if job["warm"] else ():
        attempt(partial(read_recipe, Path(name)))
    birds = canaries()
    listener = Listener(job)
    results: dict[str, str] = {}

    def work() -> None:
        for name in job["load"]:
            results[name] = attempt(partial(vaezoo.load, name, local_files_only=name in job["offline"]))
        for name in job["recipes"]:
            results[name] = attempt(partial(read_recipe, Path(name)))

    events = sorted(set(listener.during(work)))
    heard_of = {
        name: any(line.startswith(name) for line in listener.during(bird))
        for name, bird in (birds.items() if job["canaries"] else ())
    }
    print(json.dumps({"results": results, "events": events, "canaries": heard_of}))


if __name__ == "__main__":
    main()
