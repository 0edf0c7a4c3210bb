"""The index of pretrained models: read without importing torch."""

from __future__ import annotations

import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import cast

from vaezoo.documents import read_bytes, unseal
from vaezoo.errors import CorruptWeightsError, UnknownNameError

__all__ = ["bundled_folder", "info", "list_models", "read_index"]

ROOM = Path(__file__).parent


@lru_cache(maxsize=1)
def read_index() -> dict[str, dict[str, object]]:
    """Returns name -> facts of every pretrained model: variant, data, size and SHA-256 of its files, figures.

    One that does not come with the package also has its `repository` on the Hub and the `commit` of 40 digits there.

    Raises:
        CorruptWeightsError: the index is not the one that was written.
    """
    path = ROOM / "index.json"
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
    return ROOM / name
