"""The index of published models, read from `index.json`. Imports no torch."""

from __future__ import annotations

import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import cast

from vaezoo.errors import CorruptWeightsError, UnknownNameError
from vaezoo.storage.config import CONFIG
from vaezoo.storage.documents import read_bytes, sha256, unseal

__all__ = ["bundled_folder", "info", "list_models", "read_index"]

PACKAGE_FOLDER = Path(__file__).parent


@lru_cache(maxsize=1)
def read_index() -> dict[str, dict[str, object]]:
    """Returns name -> facts of every pretrained model: variant, data, size and SHA-256 of its files, figures.

    One that does not come with the package also has its `repository` on the Hub and the `commit` of 40 digits there.

    Raises:
        CorruptWeightsError: the index is not the one that was written.
    """
    path = PACKAGE_FOLDER / "index.json"
    return parse_index(read_bytes(path)) if path.exists() else {}


def parse_index(data: bytes) -> dict[str, dict[str, object]]:
    """Returns the models of an index; raises CorruptWeightsError where it is not the one that was written."""
    models = unseal(data, "The index of pretrained models").get("models")
    if not isinstance(models, dict):
        raise CorruptWeightsError("The index of pretrained models has no table `models`. Reinstall vaezoo.")
    return cast(dict[str, dict[str, object]], models)


def list_models(pattern: str = "*", variant: str | None = None) -> list[str]:
    """Returns the names of pretrained models that match a shell pattern, and a variant where one is given."""
    return [
        name
        for name, facts in sorted(read_index().items())
        if fnmatch.fnmatchcase(name, pattern) and variant in (None, facts["variant"])
    ]


def info(name: str) -> dict[str, object]:
    """Returns what the index knows of a pretrained model.

    Raises:
        UnknownNameError: with the closest names.
    """
    if not isinstance(name, str) or name not in read_index():
        raise UnknownNameError("pretrained model", name, read_index())
    return read_index()[name]


def bundled_folder(name: str) -> Path:
    """Returns the folder of a bundled model; see `info` for what is raised."""
    info(name)
    return PACKAGE_FOLDER / name


def verified(name: str) -> Path:
    """Returns the folder of a bundled model whose config, which vouches for its weights, is the indexed one.

    Raises:
        CorruptWeightsError: it is not.
    """
    folder = bundled_folder(name)
    files = cast(dict[str, dict[str, object]], info(name)["files"])
    found, wanted = sha256(read_bytes(folder / CONFIG)), str(files[CONFIG]["sha256"])
    if found != wanted:
        raise CorruptWeightsError(
            f"{name}/{CONFIG} has SHA-256 {found[:12]}…; the index says {wanted[:12]}…. Reinstall vaezoo."
        )
    return folder
