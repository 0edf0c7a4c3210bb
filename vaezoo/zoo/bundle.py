"""Takes evaluated model folders into the package: `python -m vaezoo.zoo.bundle FOLDER NAME`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from vaezoo.checkpoint import canonical, sha256, write_file
from vaezoo.errors import ConfigError
from vaezoo.zoo.card import model_card
from vaezoo.zoo.folder import CARD, CONFIG, METRICS, read_config, read_metrics, verified_folder
from vaezoo.zoo.index import ROOM
from vaezoo.zoo.shards import weight_files

__all__ = ["bundle", "reindex"]


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
    target = ROOM / name
    target.mkdir(exist_ok=True)
    for file in (*vouched(config, name), METRICS, CONFIG):
        shutil.copyfile(folder / file, target / file)
    write_file(target / CARD, model_card(name, config, metrics).encode())
    reindex()
    return target


def vouched(config: Mapping[str, object], name: str) -> list[str]:
    """Returns the names of the files that a config vouches for."""
    return [file.name for file in weight_files(config, name)]


def reindex() -> None:
    """Writes `index.json` from the folders that are in the package."""
    index = {}
    for folder in sorted(path.parent for path in ROOM.glob(f"*/{CONFIG}")):
        config = read_config(folder)
        index[folder.name] = {
            "variant": config["variant"],
            "data": config["data"],
            "architecture": config["architecture"],
            "files": {
                file: {"size": (folder / file).stat().st_size, "sha256": sha256((folder / file).read_bytes())}
                for file in (CONFIG, *vouched(config, folder.name))
            },
            "metrics": json.loads((folder / METRICS).read_bytes()),
        }
    write_file(ROOM / "index.json", canonical(index).encode())


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(bundle(Path(sys.argv[1]), sys.argv[2]))
    else:
        reindex()
