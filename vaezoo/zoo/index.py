"""The index of published models, read from `index.json`. Imports no torch."""

import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import cast

from vaezoo.errors import CorruptWeightsError, UnknownNameError
from vaezoo.storage.config import CONFIG, LARGEST_CONFIG
from vaezoo.storage.json_files import read_bytes, seal, sha256, unseal

PACKAGE_FOLDER = Path(__file__).parent


@lru_cache(maxsize=1)
def read_index() -> dict[str, dict[str, object]]:
    """Returns name -> facts of every pretrained model: variant, data, size and SHA-256 of its files, figures.

    A model that is not bundled also has its `repository` on the Hub and the `commit` of 40 digits.

    Raises:
        CorruptWeightsError: the index is damaged.
    """
    path = PACKAGE_FOLDER / "index.json"
    return parse_index(read_bytes(path)) if path.exists() else {}


def parse_index(data: bytes) -> dict[str, dict[str, object]]:
    """Returns the models of an index; raises CorruptWeightsError if it is damaged."""
    models = unseal(data, "The index of pretrained models").get("models")
    if not isinstance(models, dict):
        raise CorruptWeightsError("The index of pretrained models has no table `models`. Reinstall vaezoo.")
    return cast(dict[str, dict[str, object]], models)


def list_models(pattern: str = "*", variant: str | None = None) -> list[str]:
    """Returns the names of the pretrained models that match the given conditions.

    Args:
        pattern: a shell pattern of the name.
        variant: a variant, or a composition such as "vq-vae+code-prior"; models that combine it with others count.
    """
    wanted = set() if variant is None else set(variant.split("+"))
    return [
        name
        for name, facts in sorted(read_index().items())
        if fnmatch.fnmatchcase(name, pattern) and wanted <= set(str(facts["variant"]).split("+"))
    ]


def bundled_models() -> list[str]:
    """Returns the names of the models whose weights come with the package."""
    return [name for name in list_models() if "repository" not in read_index()[name]]


def info(name: str) -> dict[str, object]:
    """Returns the index entry of a pretrained model.

    Raises:
        UnknownNameError: with the closest names.
    """
    if not isinstance(name, str) or name not in read_index():
        raise UnknownNameError("pretrained model", name, read_index())
    return read_index()[name]


def verified(name: str) -> Path:
    """Returns the folder of a bundled model, after the values of its config were compared with the index.

    Raises:
        CorruptWeightsError: they differ.
    """
    folder = PACKAGE_FOLDER / name
    files = cast(dict[str, dict[str, object]], info(name)["files"])
    config = unseal(read_bytes(folder / CONFIG, LARGEST_CONFIG), f"{name}/{CONFIG}")
    found, wanted = sha256(seal(config)), str(files[CONFIG]["sha256"])
    if found != wanted:
        raise CorruptWeightsError(
            f"{name}/{CONFIG} has SHA-256 {found[:12]}…; the index has {wanted[:12]}…. Reinstall vaezoo."
        )
    return folder
