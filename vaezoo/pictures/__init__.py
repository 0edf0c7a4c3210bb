"""Pictures for slides and model cards: grids, reconstructions, samples, traversals, interpolations and training curves.

Every function writes one PNG and returns its path. Images are enlarged by integer factors without smoothing. The global
state of matplotlib is not changed, no window is opened, and equal inputs give equal files.
"""

from vaezoo.pictures.images import comparison, grid, reconstructions, samples
from vaezoo.pictures.latents import interpolation, traversal
from vaezoo.pictures.training import curves

__all__ = ["comparison", "curves", "grid", "interpolation", "reconstructions", "samples", "traversal"]
