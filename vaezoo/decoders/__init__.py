"""Decoders p(x|z,c): modules whose `forward(z, c)` returns the likelihood of x."""

from vaezoo.decoders.decoder import Decoder
from vaezoo.decoders.labeled import LabeledDecoder

__all__ = ["Decoder", "LabeledDecoder"]
