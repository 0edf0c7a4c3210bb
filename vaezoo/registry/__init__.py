"""The registries of variants, backbones, likelihoods and samplers; `Architecture`; `create`.

Built-ins are found as files, not listed: `vaezoo/variants/beta_vae.py` is `beta-vae`. Third parties register through
entry points (`vaezoo.variants`, `.backbones`, `.likelihoods`, `.samplers`, `.datasets`). Listing names imports nothing.
"""

from vaezoo.registry.architecture import (
    Architecture,
    Named,
    backbones,
    check_named,
    code_defaults,
    likelihoods,
    samplers,
)
from vaezoo.registry.create import create, recreate
from vaezoo.registry.options import (
    Codes,
    Count,
    Fraction,
    LargeWeight,
    Option,
    Share,
    Steps,
    Temperature,
    Weight,
    Widths,
    options_of,
    parse_options,
)
from vaezoo.registry.registry import Registry, owner_of
from vaezoo.registry.variant import (
    Variant,
    is_variant,
    list_variants,
    register,
    resolve,
    split_options,
    variants,
    with_requirements,
)

__all__ = [
    "Architecture",
    "Codes",
    "Count",
    "Fraction",
    "LargeWeight",
    "Named",
    "Option",
    "Registry",
    "Share",
    "Steps",
    "Temperature",
    "Variant",
    "Weight",
    "Widths",
    "backbones",
    "check_named",
    "code_defaults",
    "create",
    "is_variant",
    "likelihoods",
    "list_variants",
    "options_of",
    "owner_of",
    "parse_options",
    "recreate",
    "register",
    "resolve",
    "samplers",
    "split_options",
    "variants",
    "with_requirements",
]
