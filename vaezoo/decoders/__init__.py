"""Decoders p(x|z,c): modules whose `forward(z, c)` returns the likelihood of x."""

from vaezoo.decoders.decoder import Decoder
from vaezoo.decoders.labelled import LabelledDecoder

__all__ = ["Decoder", "LabelledDecoder"]
