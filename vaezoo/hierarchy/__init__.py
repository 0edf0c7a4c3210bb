"""Models with several levels of latents: paths, distributions, parts and objectives of hierarchies."""

from vaezoo.hierarchy.distributions import ChainPosterior, Descent, HierarchicalPosterior, HierarchicalPrior
from vaezoo.hierarchy.ladder import LadderEncoder, proposal
from vaezoo.hierarchy.objective import LevelObjective
from vaezoo.hierarchy.parts import BottomDecoder, OnPath, PathDecoder, PathPrior
from vaezoo.hierarchy.path import MarkovPath, Path, combine, halving, repeat_rows
from vaezoo.hierarchy.top_down import Ascent, Proposals, ResidualPath, Stand, TopDownEncoder, stands

__all__ = [
    "Ascent",
    "BottomDecoder",
    "ChainPosterior",
    "Descent",
    "HierarchicalPosterior",
    "HierarchicalPrior",
    "LadderEncoder",
    "LevelObjective",
    "MarkovPath",
    "OnPath",
    "Path",
    "PathDecoder",
    "PathPrior",
    "Proposals",
    "ResidualPath",
    "Stand",
    "TopDownEncoder",
    "combine",
    "halving",
    "proposal",
    "repeat_rows",
    "stands",
]
