"""Takes evaluated model folders into the package: `python -m vaezoo.zoo.bundle FOLDER NAME`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from vaezoo.checkpoint import write_file
from vaezoo.documents import seal, sha256
from vaezoo.errors import ConfigError
from vaezoo.zoo.card import model_card
from vaezoo.zoo.folder import CARD, CONFIG, METRICS, WEIGHTS, read_config, read_metrics, read_weights
from vaezoo.zoo.index import ROOM

__all__ = ["bundle", "reindex"]


def bundle(folder: Path, name: str) -> Path:
    """Copies a verified, evaluated model folder into the package under `name`, and writes the index again.

    Raises:
        CorruptWeightsError: the folder is damaged.
        ConfigError: it has no figures yet.
    """
    config = read_config(folder)
    read_weights(folder, config)
    metrics = read_metrics(folder)
    if metrics is None:
        raise ConfigError(f"{folder} has no {METRICS}: run `vaezoo evaluate {folder} --write` first.")
    target = ROOM / name
    target.mkdir(exist_ok=True)
    for file in (WEIGHTS, METRICS, CONFIG):
        shutil.copyfile(folder / file, target / file)
    write_file(target / CARD, model_card(name, config, metrics).encode())
    reindex()
    return target


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
                for file in (CONFIG, WEIGHTS)
            },
            "metrics": read_metrics(folder),
        }
    write_file(ROOM / "index.json", seal({"models": index}))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(bundle(Path(sys.argv[1]), sys.argv[2]))
    else:
        reindex()
