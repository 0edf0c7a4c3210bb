"""Encoders q(z|x,c): modules whose `forward(x, c)` returns the posterior of each example."""

from vaezoo.encoders.full_covariance import CholeskyEncoder
from vaezoo.encoders.gaussian import GaussianEncoder
from vaezoo.encoders.labeled import LabeledEncoder
from vaezoo.encoders.point import PointEncoder
from vaezoo.encoders.spherical import SphericalEncoder

__all__ = ["CholeskyEncoder", "GaussianEncoder", "LabeledEncoder", "PointEncoder", "SphericalEncoder"]
