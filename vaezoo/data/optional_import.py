"""Import of packages that only some data sets need."""

import importlib
from types import ModuleType

from vaezoo.errors import MissingExtraError


def require(module: str, package: str, purpose: str) -> ModuleType:
    """Returns the imported `module`.

    Raises:
        MissingExtraError: `package` is not installed or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except (
        ImportError,
        RuntimeError,
    ) as error:  # torchvision raises RuntimeError with a torch that it was not built for
        raise MissingExtraError(
            f"{purpose} needs {package}, which could not be imported ({error}). Install it: pip install {package}"
        ) from error
