"""The trained features: their files, images of any size and color, and the order of distances."""

import warnings
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d

from vaezoo.data import bundled_images
from vaezoo.errors import CorruptWeightsError
from vaezoo.evaluation import frechet_distance
from vaezoo.networks.features import TrainedFeatures, color, gray


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return bundled_images().batch(torch.arange(64))


def blurred(images: Tensor, width: float) -> Tensor:
    """Returns images blurred by a Gaussian of this standard deviation."""
    profile = torch.arange(-4.0, 5.0).div(width).square().mul(-0.5).softmax(0)
    return conv2d(conv2d(images, profile.view(1, 1, 1, 9), padding=(0, 4)), profile.view(1, 1, 9, 1), padding=(4, 0))


def test_the_classifier_is_trained_and_its_file_small(digits: Tensor) -> None:
    labels = bundled_images().labels
    classifier = gray.trained_classifier()
    assert int((classifier(digits).argmax(1) == labels).sum()) >= 63  # an error of 0.50 % on all test images
    assert not classifier.training
    state = torch.get_rng_state()
    found = TrainedFeatures()(digits)
    assert torch.equal(state, torch.get_rng_state())
    assert found.shape == (64, 128) and not found.requires_grad and bool((found >= 0).all())
    torch.testing.assert_close(classifier.head(found), classifier(digits))
    for file in (gray.FILE, color.FILE):
        assert len((files("vaezoo.networks.features") / file).read_bytes()) < 1_000_000


def test_a_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gray, "SHA256", "0" * 64)
    with pytest.raises(CorruptWeightsError, match=r"expected 0000.*reinstall"):
        TrainedFeatures()


def test_upside_down_digits_are_farther_than_blurred_ones(digits: Tensor) -> None:
    distances = [
        frechet_distance(x, digits) for x in (digits, blurred(digits, 0.7), blurred(digits, 0.9), digits.flip(2))
    ]
    assert distances == sorted(distances) and distances[0] < 1e-6 and distances[3] > 4 * distances[2]
    assert frechet_distance(digits, digits.flip(0)) < 1e-6  # the order does not matter


def test_other_sizes_are_resized(digits: Tensor) -> None:
    """Pillow's bilinear filter, which is another implementation."""
    large = digits[:8].repeat_interleave(3, 2).repeat_interleave(2, 3)
    rows = [Image.fromarray(each[0].numpy()).resize((28, 28), Image.Resampling.BILINEAR) for each in large]
    wanted = TrainedFeatures()(torch.from_numpy(np.stack(rows)).unsqueeze(1))
    torch.testing.assert_close(TrainedFeatures()(large), wanted, atol=1e-3, rtol=1e-3)
    assert torch.equal(TrainedFeatures()(digits[:, 0]), TrainedFeatures()(digits))  # without an axis of channels


def test_color_images_have_the_features_of_the_color_classifier(digits: Tensor) -> None:
    red, blue = (torch.cat([x * digits for x in shades], 1) for shades in ((1.0, 0.1, 0.0), (0.0, 0.1, 1.0)))
    own = TrainedFeatures()
    large = torch.nn.functional.interpolate(red, (64, 64), mode="bilinear", antialias=True)
    torch.testing.assert_close(own(red), color.ColorClassifier().hidden(large))
    assert own(red).shape == (64, 128)
    assert frechet_distance(red, blue) > 10 * frechet_distance(red, red.roll(1, 3)) > 0
    assert frechet_distance(red, red.flip(0)) < 1e-6


def test_channels_that_are_no_colors_are_gray_images_of_their_own(digits: Tensor) -> None:
    two, own = torch.cat([digits, 0.1 * digits], 1), TrainedFeatures()
    torch.testing.assert_close(own(two), torch.cat([own(digits), own(0.1 * digits)], 1))


def test_pixels_are_clipped_and_many_outside_the_range_are_a_warning(digits: Tensor) -> None:
    own, some = TrainedFeatures(), digits.clone()
    some[:, :, 0, 0] = 7.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(own(some), own(some.clamp(0, 1)))
    with pytest.warns(UserWarning, match=r"outside \[0, 1\]"):
        own(2 * digits - 1)


def test_features_do_not_depend_on_the_default_type() -> None:
    images = torch.rand(3, 1, 28, 28)
    wanted = TrainedFeatures()(images)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(TrainedFeatures()(images), wanted)
    finally:
        torch.set_default_dtype(torch.float32)
