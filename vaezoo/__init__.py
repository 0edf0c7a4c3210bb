"""vaezoo: a zoo of variational autoencoders, what timm is to classifiers.

Importing it imports no torch; names are resolved when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaezoo.conversion import convert as convert
    from vaezoo.data import Dataset as Dataset
    from vaezoo.data import load_dataset as load_dataset
    from vaezoo.elbo import ELBO as ELBO
    from vaezoo.elbo import Inference as Inference
    from vaezoo.errors import VaezooError as VaezooError
    from vaezoo.evaluation import evaluate as evaluate
    from vaezoo.hub import load as load
    from vaezoo.hub import push as push
    from vaezoo.model import VAE as VAE
    from vaezoo.recipe import list_recipes as list_recipes
    from vaezoo.recipe import read_recipe as read_recipe
    from vaezoo.registry import Architecture as Architecture
    from vaezoo.registry import create as create
    from vaezoo.registry import register as register
    from vaezoo.zoo.folder import save as save
    from vaezoo.zoo.index import info as info
    from vaezoo.zoo.index import list_models as list_models
    from vaezoo.zoo.reproduce import train as train
    from vaezoo.zoo.sampling import fit_sampler as fit_sampler
    from vaezoo.zoo.sampling import load_sampler as load_sampler
    from vaezoo.zoo.sampling import save_sampler as save_sampler

_HOMES = {
    "Architecture": "registry",
    "Dataset": "data",
    "ELBO": "elbo",
    "Inference": "elbo",
    "VAE": "model",
    "VaezooError": "errors",
    "convert": "conversion",
    "create": "registry",
    "evaluate": "evaluation",
    "fit_sampler": "zoo.sampling",
    "info": "zoo.index",
    "list_models": "zoo.index",
    "list_recipes": "recipe",
    "load": "hub",
    "load_dataset": "data",
    "load_sampler": "zoo.sampling",
    "push": "hub",
    "read_recipe": "recipe",
    "register": "registry",
    "save": "zoo.folder",
    "save_sampler": "zoo.sampling",
    "train": "zoo.reproduce",
}

__all__ = [*_HOMES, "list_variants"]


def list_variants(pattern: str = "*") -> list[str]:
    """Returns the names of registered variants that match a shell pattern; imports none of them."""
    import fnmatch

    from vaezoo.registry import variants

    return [name for name in variants.names() if fnmatch.fnmatchcase(name, pattern)]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("vaezoo")
    if name not in _HOMES:
        raise AttributeError(f"module 'vaezoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"vaezoo.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
