"""The folder of a run: its name, and a record of where its data are on this machine."""

import json
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path
from typing import cast

from vaezoo.core import expanded
from vaezoo.data.readers.image_layout import end_remarks
from vaezoo.errors import CheckpointError, printable
from vaezoo.recipe import OF_A_RUN, Recipe, read_recipe
from vaezoo.storage import checkpoint
from vaezoo.storage.config import CONFIG, read_config
from vaezoo.storage.files import make_folder, write_file
from vaezoo.storage.json_files import canonical
from vaezoo.storage.model_card import architecture_text, figures_table, has_name
from vaezoo.storage.model_folder import read_metrics
from vaezoo.trainer.history import summary_of
from vaezoo.trainer.metrics_log import METRICS as LINES

RUNS = Path("runs")
LOCAL = "local.json"  # never published: it has a path of this machine
OF_FILES = ("folder", "table", "series")  # schemes of data sets that are files of this machine


def auto_folder(recipe: Recipe, resume: bool, source: object = None) -> Path:
    """Creates the first of runs/NAME, runs/NAME-2, … that does not exist; to resume, returns the last one that does.

    Processes that start at the same time get different folders. To resume, the folder of a run that is the `source` of
    the recipe is returned instead.

    Raises:
        CheckpointError: the folder cannot be created.
    """
    name = re.sub(r"[^\w.+-]+", "-", recipe.name).strip(".-")[:100] or recipe.variant

    def folders() -> Iterator[Path]:
        return (RUNS / (name if number == 1 else f"{name}-{number}") for number in count(1))

    if resume and isinstance(source, str | Path):
        for folder in (Path(source), Path(source).parent):
            if (folder / OF_A_RUN).is_file() and Path(source) in (folder, folder / OF_A_RUN):
                return folder
    if resume and (existing := list(takewhile(Path.exists, folders()))):
        return existing[-1]
    make_folder(RUNS)
    for folder in folders():
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise CheckpointError(f"Could not create {folder}: {error}. Choose another folder (--out).") from None
        return folder
    raise AssertionError


@contextmanager
def removed_if_empty(folder: Path | None) -> Iterator[None]:
    """Removes the folder after an error if nothing was written into it."""
    try:
        yield
    except BaseException:
        if folder is not None:
            with suppress(OSError):
                folder.rmdir()  # fails unless it is empty
        raise


def record_data(folder: Path, data: object) -> None:
    """Records the name of a run's data, with an absolute path, together with the identity of the folder.

    Data that have no name are not recorded.
    """
    if not isinstance(data, str):
        with suppress(OSError):
            (folder / LOCAL).unlink(missing_ok=True)
        return
    scheme, colon, rest = data.partition(":")
    if colon and scheme in OF_FILES:
        path = expanded(rest).absolute()
        data = f"{scheme}:{path}"
        end_remarks(path)
    write_file(folder / LOCAL, canonical({"data": data, **identity(folder)}).encode("utf-8", "surrogateescape"))


def recorded_data(folder: Path) -> str | None:
    """Returns the data set of a run that was trained in this very folder on this machine; None for any other folder.

    A folder that was copied, downloaded or unpacked has another identity, so that a path in it is never opened.
    """
    try:
        facts = json.loads((folder / LOCAL).read_bytes()[:65_536].decode("utf-8", "surrogateescape"))
        data = facts.pop("data")
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return data if facts == identity(folder) and isinstance(data, str) else None


def own_data(name: str | Path, data: str | None) -> str | None:
    """Returns `data`, or without any the recorded data set of the model's folder, if it is a run of this machine."""
    local = isinstance(name, Path) or (("/" in name or "\\" in name) and not name.startswith("hf:"))
    if data is not None or not local:
        return data
    found = recorded_data(Path(name))
    if found is not None and found.startswith("folder:"):
        end_remarks(Path(found.removeprefix("folder:")))  # its training has given them
    return found


def identity(folder: Path) -> dict[str, object]:
    """Returns what identifies a folder on this machine: host, owner and number of the folder in its file system."""
    facts = folder.stat()
    return {"host": platform.node(), "inode": facts.st_ino, "owner": facts.st_uid}


def describe_folder(folder: Path) -> str:
    """Returns a description of a run or a model folder: variant, architecture, state, figures, and how to go on.

    Raises:
        CorruptWeightsError, RecipeError: a file in it is damaged.
    """
    finished, started = (folder / CONFIG).is_file(), (folder / OF_A_RUN).is_file()
    parts = []
    if finished:
        config = read_config(folder)
        shape = architecture_text(cast(Mapping[str, object], config["architecture"]))
        parts.append(f"{printable(str(folder))}: a trained {config['variant']}\n{shape}")
    if started:
        recipe = read_recipe(folder)
        if not finished:
            steps = checkpoint.listed(folder / "checkpoints")
            state = f"newest checkpoint after step {checkpoint.step_of(steps[0]):,}" if steps else "no checkpoint"
            parts.append(f"{printable(str(folder))}: an unfinished run of {recipe.variant}; {state}")
        known = cast(Mapping[str, object], (config.get("data") if finished else None) or {})
        data = str(known.get("name", recipe.data.name))  # in the config that of the data themselves
        parts.append(f"Recipe {recipe.name or OF_A_RUN} on {data}{again(folder, data)}")
    if history := read_history(folder):
        parts.append(f"Training: {summary_of(history)}.")
    metrics = read_metrics(folder) if finished else None
    parts += [] if metrics is None else [figures_table(metrics)]
    return "\n\n".join(parts)


def again(folder: Path, data: str) -> str:
    """Returns how to train a run again, as the end of a sentence about its data."""
    name = printable(str(folder))
    if data.partition(":")[0] in OF_FILES or has_name(data):
        return f": vaezoo train {name}"
    return (
        f", data passed from Python: pass them again, vaezoo.train({name!r}, data=data), or name a data set, "
        f"vaezoo train {name} --data NAME"
    )


def read_history(folder: Path) -> list[dict[str, float | None]]:
    """Returns the lines of a run's `metrics.jsonl`, up to the first that is no table; none without the file."""
    found: list[dict[str, float | None]] = []
    with suppress(OSError, ValueError):
        for text in (folder / LINES).read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                break
            found.append({key: each for key, each in line.items() if each is None or isinstance(each, int | float)})
    return found
