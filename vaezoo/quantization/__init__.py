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
from vaezoo.quantization.gumbel import GumbelCodes, GumbelEncoder, StochasticCodes, StochasticEncoder
from vaezoo.quantization.lattice import LatticeEncoder, ScalarEncoder, SignEncoder, SphereEncoder
from vaezoo.quantization.learned import IndexEncoder, IndexPoint, LearnedCodebookEncoder, LinearCodebookEncoder
from vaezoo.quantization.multi_codebook import (
    GroupedEncoder,
    MultiCodebook,
    ResidualEncoder,
    TwoGridEncoder,
    TwoGridNetwork,
    grids_of,
)
from vaezoo.quantization.objective import (
    CodeObjective,
    CommitmentObjective,
    RelaxedObjective,
    bit_entropy,
    codebook_distance,
    commitment_distance,
    entropy_penalty,
    index_distance,
    index_entropy,
    orthogonality,
    scaled_distance,
)
from vaezoo.quantization.prior import CodePrior, CodeSequences, UniformCodePrior, code_source
from vaezoo.quantization.table import CodeTable
from vaezoo.quantization.transport import transport_distance, transport_plan

__all__ = [
    "CodeObjective",
    "CodePoint",
    "CodePrior",
    "CodeSequences",
    "CodeSource",
    "CodeTable",
    "Codebook",
    "CodebookEncoder",
    "CommitmentObjective",
    "Distance",
    "Gradient",
    "GroupedEncoder",
    "GumbelCodes",
    "GumbelEncoder",
    "IndexEncoder",
    "IndexPoint",
    "LatticeEncoder",
    "LearnedCodebookEncoder",
    "LinearCodebookEncoder",
    "MultiCodebook",
    "QuantizedLevel",
    "RelaxedObjective",
    "ResidualEncoder",
    "ScalarEncoder",
    "SignEncoder",
    "SphereEncoder",
    "StochasticCodes",
    "StochasticEncoder",
    "TwoGridEncoder",
    "TwoGridNetwork",
    "UniformCodePrior",
    "UniformCodes",
    "bit_entropy",
    "code_source",
    "codebook_distance",
    "commitment_distance",
    "entropy_penalty",
    "grids_of",
    "index_distance",
    "index_entropy",
    "look_up",
    "nearest",
    "nearest_indices",
    "orthogonality",
    "scaled_distance",
    "straight_through",
    "transport_distance",
    "transport_plan",
]
