"""Conversion of weights of other projects into model folders; `load` does not import it."""

from vaezoo.storage.conversion.convert import Conversion, convert

__all__ = ["Conversion", "convert"]
