"""Random flips and shifts of images."""

import numpy as np
import pytest
import torch

from vaezoo.data import augment, check_augmentation
from vaezoo.errors import DataError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shifted(image: "np.ndarray", down: int, right: int) -> "np.ndarray":  # type: ignore[type-arg]
    """Returns an image (H, W) moved by whole pixels, with its edge repeated."""
    height, width = image.shape
    padded = np.pad(image, ((height, height), (width, width)), mode="edge")
    return padded[height - down : 2 * height - down, width - right : 2 * width - right]


@pytest.mark.parametrize("channels", [None, 3])
def test_each_image_is_one_of_the_possible_ones_and_all_occur(channels: int | None) -> None:
    image = torch.rand(4, 5) if channels is None else torch.rand(channels, 4, 5)
    out = augment(image.expand(900, *image.shape), flip=True, shift=1, generator=seeded())
    plane = image if channels is None else image[0]
    planes = out if channels is None else out[:, 0]
    known = [
        torch.from_numpy(shifted((plane.flip(-1) if flip else plane).numpy(), down, right).copy())
        for flip in (False, True)
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    matches = torch.stack([(planes == each).flatten(1).all(1) for each in known])
    assert matches.sum(0).eq(1).all()
    assert matches.sum(1).min() >= 50 - 5 * 7 and matches.sum(1).max() <= 50 + 5 * 7  # 900 / 18, sigma 6.9


def test_channels_move_together_and_values_stay() -> None:
    x = torch.rand(8, 1, 6, 6).round().expand(8, 2, 6, 6)
    out = augment(x, flip=True, shift=3, generator=seeded(1))
    assert torch.equal(out[:, 0], out[:, 1]) and set(out.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(out, augment(x, flip=True, shift=3, generator=seeded(1)))
    assert torch.equal(x, augment(x, flip=False, shift=0, generator=seeded()))


def test_tables_and_too_large_shifts_are_refused() -> None:
    check_augmentation((30,), flip=False, shift=0)
    check_augmentation((1, 4, 4), flip=True, shift=3)
    for shape, flip, shift in (((30,), True, 0), ((1, 4, 4), False, 4), ((2, 1, 4, 4), True, 0)):
        with pytest.raises(DataError, match=r"data\.flip"):
            check_augmentation(shape, flip=flip, shift=shift)
