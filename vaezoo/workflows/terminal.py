"""Pictures of half blocks, for a terminal with colors."""

from typing import Final

import torch
from rich.text import Text
from torch import Tensor
from torch.nn.functional import interpolate

from vaezoo.workflows.load import load

SIDE: Final = 16  # pixels of an image, and columns of the terminal
UPPER_HALF: Final = "▀"


def sample_strip(name: str, width: int) -> Text:
    """Returns samples of a pretrained model in a row of at most `width` columns; classes are used in turn.

    Args:
        name: of a model of gray or color images.
        width: columns of the terminal.
    """
    model = load(name).eval()
    count = max(1, (width + 1) // (SIDE + 1))
    context = torch.arange(count) % model.context if model.context else None
    return half_blocks(model.sample(count, context, seed=0))


def half_blocks(images: Tensor) -> Text:
    """Returns images (N, C, H, W), C = 1 or 3, pixels in [0, 1], side by side: each character has two pixels."""
    small = interpolate(images.float().clamp(0, 1), (SIDE, SIDE), mode="area")
    pixels = (255 * small.expand(-1, 3, -1, -1)).round().int().permute(2, 0, 3, 1).tolist()  # row, image, column, RGB
    result = Text(no_wrap=True)
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        for number, (above, below) in enumerate(zip(upper, lower, strict=True)):
            result.append(" " if number else "")
            for top, bottom in zip(above, below, strict=True):
                result.append(UPPER_HALF, f"rgb({','.join(map(str, top))}) on rgb({','.join(map(str, bottom))})")
        result.append("\n")
    result.rstrip()
    return result
