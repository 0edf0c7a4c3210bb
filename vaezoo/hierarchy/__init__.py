"""Hierarchies of latents: paths, distributions, parts and the objective."""

from vaezoo.hierarchy.bottom_up import ChainEncoder, LadderEncoder, proposal_layer
from vaezoo.hierarchy.distributions import HierarchicalPosterior, HierarchicalPrior
from vaezoo.hierarchy.objective import LevelObjective
from vaezoo.hierarchy.parts import BottomDecoder, PathDecoder, PathPrior
from vaezoo.hierarchy.path import MarkovPath, combine, halving_sizes
from vaezoo.hierarchy.top_down import LevelSpec, ResidualPath, TopDownEncoder, level_specs

__all__ = [
    "BottomDecoder",
    "ChainEncoder",
    "HierarchicalPosterior",
    "HierarchicalPrior",
    "LadderEncoder",
    "LevelObjective",
    "LevelSpec",
    "MarkovPath",
    "PathDecoder",
    "PathPrior",
    "ResidualPath",
    "TopDownEncoder",
    "combine",
    "halving_sizes",
    "level_specs",
    "proposal_layer",
]
