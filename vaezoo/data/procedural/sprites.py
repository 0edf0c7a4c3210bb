"""The sprites of dSprites, computed from their factors.

The geometry was fitted to the 320 frames of the authors' published animation (Matthey, Higgins, Hassabis and Lerchner,
2017, https://github.com/google-deepmind/dsprites-dataset): 296 are reproduced exactly, and 38 pixels of the others
differ in all. A pixel is white when its center is inside the sprite.
"""

import math
from typing import Final

import torch
from torch import Tensor

SIDE: Final = 64
SHAPES: Final = ("square", "ellipse", "heart")
SCALES: Final = 6
ORIENTATIONS: Final = 40
POSITIONS: Final = 32

# In pixels, at scale 1.
_HALF_SIDE: Final = 9.5997
_HALF_AXES: Final = (12.772, 7.212)
_HEART: Final = (0.5995, 0.6625, 1.44)  # scale of x, scale of y, shift of y

_PER_SHAPE: Final = SCALES * ORIENTATIONS * POSITIONS**2
_WINDOW: Final = 28  # no sprite extends further than 13.6 pixels from its center
_TABLE: Final = 8192  # angles at which the heart's radius is tabulated
_TOGETHER: Final = 128  # images drawn in one pass, so that temporaries stay in cache


def heart_outline(count: int) -> tuple[Tensor, Tensor]:
    """Returns `count` points of the heart's outline at scale 1, x to the right and y up, in pixels, float64 (count,).

    The first and the last point are the cleft.
    """
    t = torch.linspace(0, 2 * math.pi, count, dtype=torch.float64)
    wide, high, up = _HEART
    y = 13 * t.cos() - 5 * (2 * t).cos() - 2 * (3 * t).cos() - (4 * t).cos()
    return wide * 16 * t.sin() ** 3, high * y + up


def _heart_radii() -> Tensor:
    """Returns the heart's radius at `_TABLE` + 1 angles from 0 to 2π, clockwise from straight up."""
    x, y = heart_outline(200_001)
    # Along the outline; the tip is halfway.
    angle = torch.atan2(x, y)
    angle[len(angle) // 2 + 1 :] += 2 * math.pi
    angle[-1] = 2 * math.pi
    angle[len(angle) // 2] = math.pi
    grid = torch.linspace(0, 2 * math.pi, _TABLE + 1, dtype=torch.float64)
    right = torch.searchsorted(angle.contiguous(), grid).clamp(1, len(angle) - 1)
    share = (grid - angle[right - 1]) / (angle[right] - angle[right - 1])
    radius = torch.hypot(x, y)
    return (radius[right - 1] + share * (radius[right] - radius[right - 1])).float()


class Sprites:
    """Draws sprites by their place in the grid shape × scale × orientation × x × y, the last the fastest."""

    grid: tuple[tuple[str, int], ...] = (
        ("shape", len(SHAPES)),
        ("scale", SCALES),
        ("orientation", ORIENTATIONS),
        ("x", POSITIONS),
        ("y", POSITIONS),
    )
    name = "dsprites-1"
    shape: tuple[int, ...] = (1, SIDE, SIDE)
    levels: tuple[int, ...] = (0, 1)

    def __init__(self) -> None:
        self._radii = _heart_radii()
        # The last orientation equals the first one, to the last bit.
        turn = torch.linspace(0, 2 * math.pi, ORIENTATIONS, dtype=torch.float64)
        turn[-1] = 0.0
        self._cos, self._sin = turn.cos().float(), turn.sin().float()
        self._scale = torch.linspace(0.5, 1.0, SCALES)
        self._place = torch.linspace(16.0, 48.0, POSITIONS)

    def __len__(self) -> int:
        """Returns the number of images."""
        return math.prod(size for _, size in self.grid)

    def read(self, positions: Tensor) -> Tensor:
        """Returns the images at `positions` (B,) as `uint8` (B, 1, 64, 64) of 0 and 1."""
        canvas = torch.zeros(len(positions), SIDE * SIDE, dtype=torch.uint8)
        # Images of one shape together: each shape has its own test for points inside.
        for number in range(len(SHAPES)):
            rows = (positions // _PER_SHAPE == number).nonzero().flatten()
            for part in rows.split(_TOGETHER) if len(rows) else ():
                self._paint(canvas, part, positions[part], number)
        return canvas.view(-1, 1, SIDE, SIDE)

    def _paint(self, canvas: Tensor, rows: Tensor, positions: Tensor, number: int) -> None:
        """Sets the pixels of sprites of one shape in `rows` of the canvas."""
        y, rest = positions % POSITIONS, positions // POSITIONS
        x, rest = rest % POSITIONS, rest // POSITIONS
        turn, scale = rest % ORIENTATIONS, self._scale[rest // ORIENTATIONS % SCALES]
        center_x, center_y = self._place[x], self._place[y]
        left, top = (torch.floor(center + 0.5) - _WINDOW // 2 for center in (center_x, center_y))
        steps = torch.arange(_WINDOW) + 0.5
        right = (left - center_x)[:, None] + steps
        up = (center_y - top)[:, None] - steps
        cos, sin = ((part[turn] / scale)[:, None] for part in (self._cos, self._sin))
        # Pixel centers in the sprite's own frame, rotated back and at scale 1; (rows, y, x).
        along = (cos * right)[:, None, :] + (sin * up)[:, :, None]
        across = (cos * up)[:, :, None] - (sin * right)[:, None, :]
        inside = self._inside(number, along, across)
        corner = (rows * SIDE * SIDE + top.long() * SIDE + left.long())[:, None, None]
        window = torch.arange(_WINDOW)[:, None] * SIDE + torch.arange(_WINDOW)
        canvas.view(-1)[(corner + window).view(-1)] = inside.view(-1).to(torch.uint8)

    def _inside(self, number: int, x: Tensor, y: Tensor) -> Tensor:
        """Returns which points (…) of the sprite's own frame are inside the shape."""
        if SHAPES[number] == "square":
            return torch.maximum(x.abs(), y.abs()) < _HALF_SIDE
        if SHAPES[number] == "ellipse":
            return (x / _HALF_AXES[0]).square_() + (y / _HALF_AXES[1]).square_() < 1
        place = torch.atan2(x, y).mul_(_TABLE / (2 * math.pi))
        place += torch.where(place < 0, float(_TABLE), 0.0)
        low = place.long().clamp_(0, _TABLE - 1)
        radius = torch.lerp(self._radii[low], self._radii[low + 1], place - low)
        return torch.hypot(x, y) < radius


class ColorSprites(Sprites):
    """Draws sprites in `HUES` fully saturated colors on black; the hue is the first factor, the slowest."""

    HUES = 8
    grid = (("hue", HUES), *Sprites.grid)
    name = "colour-dsprites-1"  # part of every digest: never renamed
    shape: tuple[int, ...] = (3, SIDE, SIDE)

    def __init__(self) -> None:
        super().__init__()
        # Red, green and blue are triangles over the color wheel, a third of it apart.
        wheel = torch.arange(self.HUES, dtype=torch.float64)[:, None] / self.HUES
        distance = (wheel - torch.tensor([0.0, 1 / 3, 2 / 3], dtype=torch.float64) + 0.5) % 1 - 0.5
        self._colors = ((2 - 6 * distance.abs()).clamp(0, 1) * 255).round().to(torch.uint8)
        self.levels = tuple(sorted({0, *self._colors.flatten().tolist()}))

    def read(self, positions: Tensor) -> Tensor:
        """Returns the images at `positions` (B,) as `uint8` (B, 3, 64, 64)."""
        plain = len(self) // self.HUES
        return super().read(positions % plain) * self._colors[positions // plain][:, :, None, None]
