"""Weights of other projects into model folders. Nothing that loads a model imports this room."""

from __future__ import annotations

from vaezoo.storage.conversion.convert import Conversion, convert

__all__ = ["Conversion", "convert"]
