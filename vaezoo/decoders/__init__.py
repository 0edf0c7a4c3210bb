"""Decoders p(x|z,c): modules whose `forward(z, c)` returns the likelihood of x."""

from vaezoo.decoders.decoder import Decoder, LabeledDecoder

__all__ = ["Decoder", "LabeledDecoder"]
