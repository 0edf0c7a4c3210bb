"""The index of pretrained models: read without importing torch."""

from __future__ import annotations

import fnmatch
import json
from functools import lru_cache
from pathlib import Path
from typing import cast

from vaezoo.errors import UnknownNameError

__all__ = ["bundled_folder", "info", "list_models", "read_index"]

ROOM = Path(__file__).parent


@lru_cache(maxsize=1)
def read_index() -> dict[str, dict[str, object]]:
    """Returns name -> facts of every pretrained model: variant, data, size and SHA-256 of its files, figures.

    One that does not come with the package also has its `repository` on the Hub and the `commit` of 40 digits there.
    """
    path = ROOM / "index.json"
    return cast(dict[str, dict[str, object]], json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


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
    if name not in read_index():
        raise UnknownNameError("pretrained model", name, read_index())
    return read_index()[name]


def bundled_folder(name: str) -> Path:
    """Returns the folder of a bundled model; see `info` for what is raised."""
    info(name)
    return ROOM / name
