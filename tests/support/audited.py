"""Runs a job from stdin under an audit hook and prints the events that the job does not allow.

A job: `warm` (models to load before the hook is on), `load`, `recipes`, `checkpoints` and `convert` (what to read under
the hook), `images` (folders of images to load, stream, evaluate and draw), `offline` (those of `load` that make no
request), `modules` (allowed imports), `read` and `write` (allowed folders), `into` (a folder for converted models and
pictures), `canaries` (whether to cause each event at the end).
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
    "object.__getattr__", "object.__setattr__", "object.__delattr__", "os.listdir", "os.scandir", "sys._getframe",
    "builtins.id", "code.__new__", "glob.glob", "glob.glob/2", "pathlib.Path.glob", "time.sleep",
    "mmap.__new__",  # of an open file
}  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def inside(path: object, folders: list[str]) -> bool:
    if isinstance(path, int):  # a descriptor, whose opening was an event too
        return True
    real = os.path.realpath(os.fsdecode(path))  # type: ignore[arg-type]
    return any(real == each or real.startswith(each + os.sep) for each in folders)


def refused(event: str, args: tuple[Any, ...], job: dict[str, Any]) -> str | None:
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
    """Returns functions that cause the events of their names."""
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


def image_works(folder: str, into: str) -> dict[str, Callable[[], object]]:
    """Returns every way in which the files of a folder are read as images."""
    import torch
    from PIL import Image

    import vaezoo
    from vaezoo.data import from_tensors, load_dataset
    from vaezoo.workflows.draw import reconstructions

    Image.init()  # the plugins are imported before the hook is on
    vaezoo.load("vae-mnist")

    class Pictures(list[object], torch.utils.data.Dataset[object]):
        """A map-style data set."""

    def opened() -> object:
        files = sorted(each for each in Path(folder).rglob("*") if each.is_file())
        return from_tensors(Pictures([Image.open(file) for file in files]))

    name, size = f"folder:{folder}", {"size": 28, "channels": "gray"}
    return {
        "load": lambda: load_dataset(name, "all", **size),  # type: ignore[arg-type]
        "stream": lambda: load_dataset(name, "all", memory_limit=0, workers=0, **size).digest,  # type: ignore[arg-type]
        "evaluate": lambda: vaezoo.evaluate(vaezoo.load("vae-mnist"), name, samples=0),
        "reconstruct": lambda: reconstructions("vae-mnist", 1, name, Path(into)),
        "Pillow": opened,
    }


class Listener:
    """An audit hook that records the events that a job does not allow, while it is on."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job, self.on, self.found = job, False, list[str]()
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on:
            self.on = False
            line = refused(event, args, self.job)
            self.found += [] if line is None else [line]
            self.on = True

    def during(self, work: Callable[[], object]) -> list[str]:
        """Returns the events during `work`."""
        self.found, self.on = [], True
        try:
            with suppress(Exception):
                work()
        finally:
            self.on = False
        return self.found


def main() -> None:
    job = {
        "warm": [],
        "load": [],
        "offline": [],
        "recipes": [],
        "checkpoints": [],
        "convert": [],
        "images": [],
        **json.load(sys.stdin),
    }
    import torch
    from huggingface_hub import HfApi, errors, snapshot_download

    import vaezoo
    from vaezoo.recipe import read_recipe
    from vaezoo.storage.checkpoint import read_folder

    assert torch and HfApi and errors and snapshot_download and vaezoo.convert  # imported before the hook is on
    for name in job["warm"]:
        vaezoo.load(name)
    for name in job["recipes"] if job["warm"] else ():
        attempt(partial(read_recipe, Path(name)))
    works: dict[str, Callable[[], object]] = {
        name: partial(vaezoo.load, name, local_files_only=name in job["offline"]) for name in job["load"]
    }
    works |= {name: partial(read_recipe, Path(name)) for name in job["recipes"]}
    works |= {name: partial(read_folder, Path(name)) for name in job["checkpoints"]}
    works |= {name: partial(vaezoo.convert, name, Path(job["into"]) / Path(name).name) for name in job["convert"]}
    for folder in job["images"]:
        works |= {f"{way} {folder}": work for way, work in image_works(folder, job["into"]).items()}
    birds = canaries() if job["canaries"] else {}
    listener = Listener(job)
    results: dict[str, str] = {}
    events = listener.during(lambda: results.update({name: attempt(work) for name, work in works.items()}))
    caused = {name: any(line.startswith(name) for line in listener.during(bird)) for name, bird in birds.items()}
    print(json.dumps({"results": results, "events": sorted(set(events)), "canaries": caused}))


if __name__ == "__main__":
    main()
