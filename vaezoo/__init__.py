"""vaezoo: a zoo of variational autoencoders.

The public names are those of `__init__.pyi`. Each is imported when first used: `import vaezoo` imports no torch.
"""

from pathlib import Path

import lazy_loader

_resolve, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Modules that have moved are still found under their old names, with a DeprecationWarning.
__path__.append(str(Path(__file__).parent / "_deprecated"))


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("vaezoo")
    return _resolve(name)
