"""Models with discrete codes: encoders, codebooks, priors over codes and their objectives."""

from vaezoo.quantization.codebook import Codebook, CodebookEncoder, Distance, MultiCodebook, encoded_by
from vaezoo.quantization.codes import (
    CodePoint,
    CodeSource,
    Gradient,
    Level,
    UniformCodes,
    look_up,
    nearest,
    nearest_indices,
    straight_through,
)
from vaezoo.quantization.gumbel import GumbelCodes, GumbelEncoder
from vaezoo.quantization.lattice import LatticeEncoder, ScalarEncoder
from vaezoo.quantization.objective import CodeObjective, CommitmentObjective, RelaxedObjective, commitment_of
from vaezoo.quantization.prior import CodePrior, CodeSequences, UniformCodePrior
from vaezoo.quantization.two_grids import TwoGridEncoder, TwoGridNetwork

__all__ = [
    "CodeObjective",
    "CodePoint",
    "CodePrior",
    "CodeSequences",
    "CodeSource",
    "Codebook",
    "CodebookEncoder",
    "CommitmentObjective",
    "Distance",
    "Gradient",
    "GumbelCodes",
    "GumbelEncoder",
    "LatticeEncoder",
    "Level",
    "MultiCodebook",
    "RelaxedObjective",
    "ScalarEncoder",
    "TwoGridEncoder",
    "TwoGridNetwork",
    "UniformCodePrior",
    "UniformCodes",
    "commitment_of",
    "encoded_by",
    "look_up",
    "nearest",
    "nearest_indices",
    "straight_through",
]
