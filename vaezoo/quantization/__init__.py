"""Discrete codes: encoders, codebooks, priors over codes and their objectives."""

from vaezoo.quantization.codebook import Codebook, CodebookEncoder, Distance
from vaezoo.quantization.codes import (
    CodePoint,
    CodeSource,
    Gradient,
    QuantizedLevel,
    UniformCodes,
    look_up,
    nearest,
    nearest_indices,
    straight_through,
)
from vaezoo.quantization.gumbel import GumbelCodes, GumbelEncoder
from vaezoo.quantization.lattice import LatticeEncoder, ScalarEncoder, SignEncoder
from vaezoo.quantization.multi_codebook import MultiCodebook, ResidualEncoder, TwoGridEncoder, TwoGridNetwork, grids_of
from vaezoo.quantization.objective import (
    CodeObjective,
    CommitmentObjective,
    RelaxedObjective,
    commitment_distance,
    entropy_penalty,
)
from vaezoo.quantization.prior import CodePrior, CodeSequences, UniformCodePrior, code_source

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
    "MultiCodebook",
    "QuantizedLevel",
    "RelaxedObjective",
    "ResidualEncoder",
    "ScalarEncoder",
    "SignEncoder",
    "TwoGridEncoder",
    "TwoGridNetwork",
    "UniformCodePrior",
    "UniformCodes",
    "code_source",
    "commitment_distance",
    "entropy_penalty",
    "grids_of",
    "look_up",
    "nearest",
    "nearest_indices",
    "straight_through",
]
