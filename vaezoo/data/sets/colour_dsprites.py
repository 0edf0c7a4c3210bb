"""dSprites in colour, drawn: 5,898,240 sprites of 64x64 pixels, each of dSprites in eight hues."""

from pathlib import Path

from vaezoo.data.dataset import Dataset
from vaezoo.data.procedural.dataset import drawn_split
from vaezoo.data.procedural.sprites import ColourSprites


def colour_dsprites(split: str, *, cache: Path, download: bool) -> Dataset:
    """Returns `uint8` images (N, 3, 64, 64) on black that are drawn on demand, with factors; labels are the shapes.

    The hue is the first factor, one of eight around the colour wheel; the others and the splits are those of
    `dsprites`. N = 5,308,416 (train), 589,824 (test) or 5,898,240 (all).

    Licence and source: see `dsprites`.

    Raises:
        DataError: `split` is none of `"train"`, `"test"` and `"all"`.
    """
    del cache, download  # part of every data set's signature
    return drawn_split(ColourSprites(), "colour-dsprites", split, scale=255)
