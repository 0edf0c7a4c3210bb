"""Hierarchies of latents: paths, distributions, parts and the objective."""

from vaezoo.hierarchy.distributions import ChainPosterior, HierarchicalPosterior, HierarchicalPrior, LevelSamples
from vaezoo.hierarchy.ladder import LadderEncoder, proposal_layer
from vaezoo.hierarchy.objective import LevelObjective
from vaezoo.hierarchy.parts import BottomDecoder, PathDecoder, PathMixin, PathPrior
from vaezoo.hierarchy.path import MarkovPath, Path, combine, halving_sizes, repeat_rows
from vaezoo.hierarchy.top_down import (
    BottomUpNetwork,
    LevelSpec,
    RelativePosteriors,
    ResidualPath,
    TopDownEncoder,
    finest_channels,
    level_specs,
    total_units,
)
from vaezoo.hierarchy.two_layer import ChainEncoder

__all__ = [
    "BottomDecoder",
    "BottomUpNetwork",
    "ChainEncoder",
    "ChainPosterior",
    "HierarchicalPosterior",
    "HierarchicalPrior",
    "LadderEncoder",
    "LevelObjective",
    "LevelSamples",
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
    "finest_channels",
    "halving_sizes",
    "level_specs",
    "proposal_layer",
    "repeat_rows",
    "total_units",
]
