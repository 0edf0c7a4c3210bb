"""Deprecated name; see `vaezoo.errors.deprecated_module`."""

from vaezoo.errors import deprecated_module

__getattr__ = deprecated_module(
    __name__, "vaezoo.encoders", "vaezoo.decoders", "vaezoo.core.part", given="network_inputs"
)
