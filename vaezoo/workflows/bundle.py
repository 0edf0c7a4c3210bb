"""Takes evaluated models into the package's index.

`python -m vaezoo.zoo.bundle FOLDER NAME` copies a folder into the package; `python -m vaezoo.zoo.bundle
hf:owner/name@COMMIT NAME` pins what was published, which is fetched when it is first loaded.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from vaezoo.errors import ConfigError
from vaezoo.hub.client import Repository
from vaezoo.storage.config import CONFIG, read_config, weight_files
from vaezoo.storage.documents import seal, sha256
from vaezoo.storage.files import write_file
from vaezoo.storage.model_card import model_card
from vaezoo.storage.model_folder import CARD, METRICS, read_metrics, verified_folder
from vaezoo.workflows.load import pull
from vaezoo.zoo.index import PACKAGE_FOLDER, read_index

__all__ = ["bundle", "pin", "reindex"]

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")


def bundle(folder: Path, name: str) -> Path:
    """Copies a verified, evaluated model folder into the package under `name`, and writes the index again.

    Raises:
        CorruptWeightsError: the folder is damaged.
        ConfigError: it has no figures yet.
    """
    config = verified_folder(folder)
    metrics = read_metrics(folder)
    if metrics is None:
        raise ConfigError(f"{folder} has no {METRICS}: run `vaezoo evaluate {folder} --write` first.")
    target = PACKAGE_FOLDER / name
    target.mkdir(exist_ok=True)
    for file in (*vouched(config), METRICS, CONFIG):
        shutil.copyfile(folder / file, target / file)
    write_file(target / CARD, model_card(name, config, metrics).encode())
    reindex()
    return target


def vouched(config: Mapping[str, object]) -> list[str]:
    """Returns the names of the files that a config vouches for."""
    return [file.file for file in weight_files(config)]


def pin(place: str, name: str) -> dict[str, object]:
    """Adds an entry to the index that is not bundled: a commit on the Hub, as `push` returns it.

    What is there is fetched and checked; the index then says what each of its files must be.

    Args:
        place: "hf:owner/name@COMMIT", the commit of 40 digits.
        name: what `load` will know it by.

    Raises:
        ConfigError: no commit, a name that is bundled or no name, or a model without figures.
        CorruptWeightsError, DownloadError: see `load`.
    """
    repository = Repository.of(place)
    if not repository.pinned or not NAME.fullmatch(name) or (PACKAGE_FOLDER / name / CONFIG).exists():
        raise ConfigError(f"Got {place} as {name!r}; expected hf:owner/name@COMMIT of 40 digits, and a free name.")
    folder = pull(place)
    metrics = read_metrics(folder)
    if metrics is None:
        raise ConfigError(f"{place} has no {METRICS}: publish it with its figures.")
    facts = facts_of(folder, METRICS, *([CARD] if (folder / CARD).exists() else []))
    facts |= {"repository": repository.name, "commit": str(repository.revision)}
    write_index({**read_index(), name: facts})
    return facts


def facts_of(folder: Path, *more: str) -> dict[str, object]:
    """Returns what the index says of a model: its config, its figures, size and SHA-256 of files."""
    config = read_config(folder)
    return {
        "variant": config["variant"],
        "data": config["data"],
        "architecture": config["architecture"],
        "files": {
            file: {"size": (folder / file).stat().st_size, "sha256": sha256((folder / file).read_bytes())}
            for file in (CONFIG, *vouched(config), *more)
        },
        "metrics": read_metrics(folder),
    }


def reindex() -> None:
    """Writes `index.json` from the folders that are in the package; entries that are not bundled stay."""
    rest = {name: facts for name, facts in read_index().items() if "repository" in facts}
    write_index(rest | {path.parent.name: facts_of(path.parent) for path in sorted(PACKAGE_FOLDER.glob(f"*/{CONFIG}"))})


def write_index(index: Mapping[str, object]) -> None:
    """Writes the index."""
    write_file(PACKAGE_FOLDER / "index.json", seal({"models": index}))
    read_index.cache_clear()


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].startswith("hf:"):
        print(pin(sys.argv[1], sys.argv[2]))
    elif len(sys.argv) == 3:
        print(bundle(Path(sys.argv[1]), sys.argv[2]))
    else:
        reindex()
