"""Packages that only some data sets need, imported when they are."""

import importlib
from types import ModuleType

from vaezoo.errors import MissingExtraError


def require(module: str, package: str, purpose: str) -> ModuleType:
    """Returns the imported `module`.

    Raises:
        MissingExtraError: `package` is not installed, or does not import here.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # torchvision raises RuntimeError beside a torch it was not built for
        raise MissingExtraError(
            f"{purpose} needs {package}, which could not be imported ({error}). Install it: pip install {package}"
        ) from error
