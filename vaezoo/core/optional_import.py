"""Import of optional packages when they are first used."""

import importlib
from types import ModuleType

from vaezoo.errors import MissingExtraError


def require(module: str, package: str, purpose: str) -> ModuleType:
    """Returns the imported `module`.

    Raises:
        MissingExtraError: `package` is not installed, or fails to import.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # torchvision raises RuntimeError next to an incompatible torch
        raise MissingExtraError(
            f"{purpose} needs {package}, which could not be imported ({error}). Install it: pip install {package}"
        ) from error
