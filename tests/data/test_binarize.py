"""Binarization: statistics, stability, and seeds."""

import numpy as np
import pytest
import torch

from vaezoo.data import (
    STATIC_SEED,
    TEST_SEED,
    Dataset,
    binarize,
    binarize_fixed,
    bundled_images,
    from_tensors,
    load_dataset,
    sample_binary,
)
from vaezoo.data.transforms.fixed_noise import thresholds
from vaezoo.errors import ConfigError, DataError


def every_level(count: int, split: str = "train") -> Dataset:
    return from_tensors(torch.arange(256, dtype=torch.uint8).repeat(count, 1), split=split)


def test_frequencies_are_the_pixel_values_and_pixels_are_independent() -> None:
    probability = thresholds(torch.arange(256, dtype=torch.uint8), 255) / 65536
    assert np.abs(probability - np.arange(256) / 255).max() < 8e-6
    assert probability[0] == 0 and probability[255] == 1
    count = 4000
    drawn = binarize_fixed(every_level(count), 3).images
    p = torch.arange(256) / 255
    z = (drawn.double().mean(0) - p) / (p * (1 - p) / count).sqrt().clamp(min=1e-9)
    assert z[[0, 255]].abs().max() == 0  # black stays black and white white
    assert z.abs().max() < 4.5 and 0.7 < z[1:255].var() < 1.3
    drawn = binarize_fixed(from_tensors(torch.full((4000, 8), 0.5)), 0).images.double()
    correlation = torch.corrcoef(torch.cat([drawn[:-1], drawn[1:]], 1).T) - torch.eye(16)
    assert correlation.abs().max() < 4.5 / 4000**0.5


def test_samples_do_not_depend_on_the_number_of_images_or_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = binarize_fixed(every_level(40), 1).images
    assert torch.equal(binarize_fixed(every_level(7), 1).images, whole[:7])
    monkeypatch.setattr("vaezoo.data.transforms.binarize._CHUNK_BYTES", 3 * 8 * 256)  # three images at a time
    assert torch.equal(binarize_fixed(every_level(40), 1).images, whole)
    assert not torch.equal(binarize_fixed(every_level(40), 2).images, whole)
    pixels = bundled_images()
    floats = from_tensors(pixels.batch(torch.arange(64)).double())
    assert torch.equal(binarize_fixed(pixels, 5).images, binarize_fixed(floats, 5).images)


def test_the_binarized_test_sets_never_change() -> None:
    """Golden digests: all published figures are on these images."""
    images = binarize(bundled_images(), "dynamic")
    assert images.digest == "d45a7c0185e7df252d15dd4d40e6c4441ff3bf1588f7a4c71ec8913bea595353"
    digits = binarize(load_dataset("digits", "test"), "static")
    assert digits.digest == "4fb9257ce9ccd045a7dc6dd9fed1f8e4ded1fdcaba82b763c9ade0bdbd8f508c"
    first = binarize_fixed(from_tensors(torch.full((1, 16), 0.5)), TEST_SEED).images
    assert first.flatten().tolist() == [1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0]
    test = bundled_images()
    fixed = binarize_fixed(test, TEST_SEED).digest
    assert binarize(test, "dynamic").digest == binarize(test, "static").digest == fixed
    held_out = from_tensors(test.images).split_off(10, 0)[1]
    assert binarize(held_out, "dynamic").digest == binarize_fixed(held_out, TEST_SEED).digest


def test_training_sets() -> None:
    train = from_tensors(bundled_images().images)
    assert binarize(train, "none") is train
    dynamic = binarize(train, "dynamic")
    assert dynamic.binarization == "dynamic" and dynamic.images is train.images
    static = binarize(train, "static")
    assert (static.binarization, static.scale, static.images.dtype) == ("static", 1, torch.uint8)
    assert static.digest == binarize_fixed(train, STATIC_SEED).digest
    masks = from_tensors(torch.eye(5, dtype=torch.bool))
    assert torch.equal(binarize(masks, "static").images, masks.images)
    assert binarize(static, "static") is static and binarize(static, "dynamic") is static
    assert set(static.batch(torch.arange(64)).flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("how", ["dynamic", "static"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_invalid_values_and_names_are_refused(how: str, split: str) -> None:
    table = from_tensors(torch.tensor([[-0.5, 2.0]]), split=split)
    with pytest.raises(DataError, match=r"from -0\.5 to 2"):
        binarize(table, how)
    with pytest.raises(ConfigError, match="Did you mean 'dynamic'"):
        binarize(table, "dynamik")


def test_sample_binary_uses_its_generator_and_type() -> None:
    x = torch.full((1000, 4), 0.25, dtype=torch.float64)
    one, two = (sample_binary(x, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, two) and one.dtype == torch.float64
    assert abs(one.mean().item() - 0.25) < 4.5 * (0.25 * 0.75 / 4000) ** 0.5
    assert sample_binary(torch.tensor([0.0, 1.0]).repeat(1000)).reshape(-1, 2).mean(0).tolist() == [0.0, 1.0]
    state = torch.get_rng_state()
    sample_binary(x, torch.Generator())
    assert torch.equal(state, torch.get_rng_state())
