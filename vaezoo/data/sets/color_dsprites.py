"""Color dSprites, procedural: 5,898,240 sprites of 64x64 pixels, each of dSprites in eight hues."""

from typing import Final

from vaezoo.data.dataset import Dataset
from vaezoo.data.procedural import dataset as procedural
from vaezoo.data.procedural.dataset import drawn_split
from vaezoo.data.procedural.sprites import ColorSprites

LICENCE: Final = f"Color dSprites: {procedural.LICENCE}"


def color_dsprites(split: str) -> Dataset:
    """Returns `uint8` images (N, 3, 64, 64) on black that are drawn on demand, with factors; labels are the shapes.

    The hue is the first factor, one of eight around the color wheel; the others and the splits are those of
    `dsprites`. N = 5,308,416 (train), 589,824 (test) or 5,898,240 (all).

    License and source: see `dsprites`.

    Raises:
        DataError: `split` is none of `"train"`, `"test"` and `"all"`.
    """
    return drawn_split(ColorSprites(), "color-dsprites", split, scale=255)
