"""dSprites, procedural: 737,280 white sprites of 64x64 pixels, one for each combination of five factors."""

from typing import Final

from vaezoo.data.dataset import Dataset
from vaezoo.data.procedural import dataset as procedural
from vaezoo.data.procedural.dataset import drawn_split
from vaezoo.data.procedural.sprites import Sprites

LICENCE: Final = f"dSprites: {procedural.LICENCE}"


def dsprites(split: str) -> Dataset:
    """Returns dSprites as binary images (N, 1, 64, 64) that are drawn on demand, with factors; labels are the shapes.

    N = 663,552 (train), 73,728 (test: a tenth, in random order) or 737,280 (all, in the order of the grid: shape,
    scale, orientation, x, y, the last one the fastest). Drawn by vaezoo, not read from the authors' file; see
    `vaezoo.data.procedural.sprites`. Nothing is downloaded.

    License: that of vaezoo. Source: Matthey, Higgins, Hassabis and Lerchner, "dSprites: Disentanglement testing Sprites
    dataset", 2017, https://github.com/google-deepmind/dsprites-dataset.

    Raises:
        DataError: `split` is none of `"train"`, `"test"` and `"all"`.
    """
    return drawn_split(Sprites(), "dsprites", split, scale=1)
