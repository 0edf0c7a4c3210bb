"""vaezoo: a zoo of variational autoencoders.

The public names are those of `__init__.pyi`. Each is imported when first used: `import vaezoo` imports no torch.
"""

from pathlib import Path

import lazy_loader

_resolve, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Names that other libraries, or submodules, have.
_ELSEWHERE = {
    **dict.fromkeys(("create_model", "build_model", "Model"), "vaezoo.create(VARIANT, shape=…)"),
    **dict.fromkeys(("load_model", "from_pretrained", "AutoModel", "pretrained"), "vaezoo.load(NAME)"),
    **dict.fromkeys(("Trainer", "fit", "trainer"), "vaezoo.train(RECIPE, data=…)"),
    **dict.fromkeys(("datasets", "list_datasets"), "vaezoo.load_dataset(NAME), vaezoo.data.datasets.names()"),
    "models": "vaezoo.list_models(), vaezoo.list_variants()",
    "benchmark": "vaezoo.compare(NAMES, data=…)",
    "sample": "vaezoo.load(NAME).sample(n)",
}

# Modules that have moved are still found under their old names, with a DeprecationWarning.
__path__.append(str(Path(__file__).parent / "_deprecated"))


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("vaezoo")
    try:
        return _resolve(name)
    except AttributeError as error:
        from vaezoo.errors import did_you_mean

        hint = f" Use {_ELSEWHERE[name]}." if name in _ELSEWHERE else did_you_mean(name, __all__)
        raise AttributeError(f"{error}.{hint}") from None
