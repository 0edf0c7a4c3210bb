"""Encoders q(z|x,c): modules whose `forward(x, c)` returns the posterior of each example."""

from vaezoo.encoders.categorical import CategoricalEncoder, JointEncoder, LabeledEncoder
from vaezoo.encoders.continuous import CholeskyEncoder, GaussianEncoder, PointEncoder, SphericalEncoder
from vaezoo.encoders.flow import AutoregressiveEncoder, HamiltonianEncoder, PlanarEncoder

__all__ = [
    "AutoregressiveEncoder",
    "CategoricalEncoder",
    "CholeskyEncoder",
    "GaussianEncoder",
    "HamiltonianEncoder",
    "JointEncoder",
    "LabeledEncoder",
    "PlanarEncoder",
    "PointEncoder",
    "SphericalEncoder",
]
