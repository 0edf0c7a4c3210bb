"""dSprites, drawn: 737,280 white sprites of 64x64 pixels, one for each combination of five factors."""

from pathlib import Path

from vaezoo.data.dataset import Dataset
from vaezoo.data.procedural.dataset import drawn_split
from vaezoo.data.procedural.sprites import Sprites


def dsprites(split: str, *, cache: Path, download: bool) -> Dataset:
    """Returns dSprites as binary images (N, 1, 64, 64) that are drawn on demand, with factors; labels are the shapes.

    N = 663,552 (train), 73,728 (test: a tenth, in an order of chance) or 737,280 (all, in the order of the grid: shape,
    scale, orientation, x, y, the last one the fastest). Drawn by vaezoo, not the authors' file; see
    `vaezoo.data.procedural.sprites`. Nothing is downloaded.

    Licence: that of vaezoo. Source: Matthey, Higgins, Hassabis and Lerchner, "dSprites: Disentanglement testing Sprites
    dataset", 2017, https://github.com/google-deepmind/dsprites-dataset.

    Raises:
        DataError: `split` is none of `"train"`, `"test"` and `"all"`.
    """
    del cache, download  # part of every data set's signature
    return drawn_split(Sprites(), "dsprites", split, scale=1)
