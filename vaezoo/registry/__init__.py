"""One registry class for everything that has a name; `Architecture`; `create`.

Built-ins are found as files, not listed: `vaezoo/variants/beta_vae.py` is `beta-vae`. Third parties register through
entry points (`vaezoo.variants`, `.backbones`, `.likelihoods`, `.samplers`, `.datasets`). Listing names imports nothing.
"""

from __future__ import annotations

from vaezoo.registry.building import architecture_for, create
from vaezoo.registry.entries import Variant, chosen, completed, register, split_options, variants
from vaezoo.registry.names import Registry, owner_of
from vaezoo.registry.options import Option, options_of, parse_options
from vaezoo.registry.shared import Architecture, Named, backbones, check_named, likelihoods, samplers

__all__ = [
    "Architecture",
    "Named",
    "Option",
    "Registry",
    "Variant",
    "architecture_for",
    "backbones",
    "check_named",
    "chosen",
    "completed",
    "create",
    "likelihoods",
    "options_of",
    "owner_of",
    "parse_options",
    "register",
    "samplers",
    "split_options",
    "variants",
]
