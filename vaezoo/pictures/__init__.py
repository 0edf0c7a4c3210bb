"""Pictures for slides and model cards: grids, reconstructions, samples, traversals, interpolations, curves, code use.

Every function writes one PNG and returns its path; series are drawn as lines. Images are enlarged by integer factors
without smoothing. The global state of matplotlib is not changed, no window is opened; equal inputs give equal files.
"""

from vaezoo.pictures.codes import code_use
from vaezoo.pictures.images import comparison, grid, reconstructions, samples
from vaezoo.pictures.latents import interpolation, traversal
from vaezoo.pictures.series import lines
from vaezoo.pictures.training import curves

__all__ = [
    "code_use",
    "comparison",
    "curves",
    "grid",
    "interpolation",
    "lines",
    "reconstructions",
    "samples",
    "traversal",
]
