"""Models with several levels of latents: paths, distributions, parts and objectives of hierarchies."""

from vaezoo.hierarchy.distributions import ChainPosterior, Descent, HierarchicalPosterior, HierarchicalPrior
from vaezoo.hierarchy.ladder import LadderEncoder, proposal
from vaezoo.hierarchy.objective import LevelObjective
from vaezoo.hierarchy.parts import BottomDecoder, PathDecoder, PathMixin, PathPrior
from vaezoo.hierarchy.path import MarkovPath, Path, combine, halving_sizes, repeat_rows
from vaezoo.hierarchy.top_down import (
    BottomUpNetwork,
    LevelSpec,
    RelativePosteriors,
    ResidualPath,
    TopDownEncoder,
    level_specs,
)

__all__ = [
    "BottomDecoder",
    "BottomUpNetwork",
    "ChainPosterior",
    "Descent",
    "HierarchicalPosterior",
    "HierarchicalPrior",
    "LadderEncoder",
    "LevelObjective",
    "LevelSpec",
    "MarkovPath",
    "Path",
    "PathDecoder",
    "PathMixin",
    "PathPrior",
    "RelativePosteriors",
    "ResidualPath",
    "TopDownEncoder",
    "combine",
    "halving_sizes",
    "level_specs",
    "proposal",
    "repeat_rows",
]
