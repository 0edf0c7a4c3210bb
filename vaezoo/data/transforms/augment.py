"""Random augmentation of a batch of images: horizontal flips and shifts."""

import torch
from torch import Tensor

from vaezoo.errors import DataError


def check_augmentation(shape: tuple[int, ...], *, flip: bool, shift: int) -> None:
    """Raises DataError unless examples of `shape` can be flipped and shifted."""
    if (flip or shift) and (len(shape) not in (2, 3) or shift >= min(shape[-2:])):
        raise DataError(
            f"Got data.flip = {str(flip).lower()} and data.shift = {shift} for examples of shape {shape}; expected "
            "images (H, W) or (C, H, W) larger than the shift. Leave both out for tables."
        )


def augment(x: Tensor, *, flip: bool, shift: int, generator: torch.Generator) -> Tensor:
    """Returns each image flipped from left to right with probability 1/2, then shifted by up to `shift` pixels.

    The horizontal and the vertical shift are uniform over the whole numbers from -`shift` to `shift`; pixels at the
    edge are repeated. Values do not change, so that binary images stay binary.

    Args:
        x: Images (B, H, W) or (B, C, H, W).
        flip: Whether to flip.
        shift: Largest shift, 0 for none.
        generator: Source of randomness, on the CPU.
    """
    if flip:
        chosen = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(chosen.to(x.device).view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
    if shift:
        moved = torch.randint(-shift, shift + 1, (2, len(x), 1), generator=generator).to(x.device)
        for dim, by in zip((-1, -2), moved, strict=True):
            size = x.shape[dim]
            places = (torch.arange(size, device=x.device) - by).clamp(0, size - 1)  # (B, size)
            shape = [len(x), *[1] * (x.ndim - 1)]
            shape[dim] = size
            x = x.gather(dim, places.view(shape).expand_as(x))
    return x
