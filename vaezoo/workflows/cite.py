"""`cite`: BibTeX entries of the papers of a variant or a model."""

import inspect
from pathlib import Path

from vaezoo.errors import ConfigError, UnknownNameError
from vaezoo.registry import variants
from vaezoo.registry.docstrings import citations
from vaezoo.storage.config import CONFIG, read_config
from vaezoo.workflows.load import locate
from vaezoo.zoo.index import list_models, read_index


def cite(name: str | Path) -> str:
    """Returns the BibTeX entries of the papers in the docstring of a variant, each once, the variant's own first.

    Args:
        name: a variant, several variants ("vamp-vae+iwae"), a pretrained model, or a model's folder.

    Raises:
        UnknownNameError: no such variant or model, with the closest names.
        ConfigError: a variant of another package that states no papers.
    """
    found = dict[str, str]()
    for entry in (variants.get(each.strip()) for each in variant_of(name).split("+")):
        own = citations(inspect.getdoc(entry.builder) or "")
        if not own:
            raise ConfigError(f"The variant {entry.name!r} states no papers. Cite its package.")
        found |= {address: text for address, text in own.items() if address not in found}
    return "\n\n".join(found.values())


def variant_of(name: str | Path) -> str:
    """Returns the variant of a pretrained model or a folder, and the name of a variant unchanged."""
    if isinstance(name, str) and name in read_index():
        return str(read_index()[name]["variant"])
    if isinstance(name, Path) or "/" in name or "\\" in name:
        folder = locate(name)
        if not (folder / CONFIG).is_file():
            raise ConfigError(f"{folder} is an unfinished run. Cite its variant: vaezoo cite VARIANT.")
        return str(read_config(folder)["variant"])
    if unknown := [each for each in name.split("+") if each.strip() not in variants.names()]:
        raise UnknownNameError("variant or pretrained model", unknown[0], [*variants.names(), *list_models()])
    return name
