"""Deprecated name; see `vaezoo.errors.deprecated_module`."""

from vaezoo.errors import deprecated_module

__getattr__ = deprecated_module(__name__, "vaezoo.core", "vaezoo.objectives", draw="sample_with_log_prob")
