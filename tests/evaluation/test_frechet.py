"""Fréchet distance against scipy's matrix square root, and closed forms."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from support.cases import Case
from torch import Tensor, nn

from vaezoo.data import from_tensors, load_dataset
from vaezoo.errors import ConfigError, ContextError, DataError, ShapeError, SupportError
from vaezoo.evaluation import frechet_distance, gaussian_frechet_distance
from vaezoo.evaluation.test_sets import limited

FLAT = nn.Flatten()


def covariance(size: int, rank: int, seed: int) -> Tensor:
    rows = torch.randn(rank, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows.T @ rows / rank


@pytest.mark.parametrize("size", [1, 9, 40])
def test_distance_of_gaussians_equals_scipys(size: int) -> None:
    """The textbook formula, with the root of a matrix that is not symmetric."""
    one, other = covariance(size, 2 * size, 1), covariance(size, 3 * size, 2)
    shift = torch.linspace(-1, 1, size, dtype=torch.float64)
    product = sqrtm((one @ other).numpy())
    wanted = float(shift.square().sum() + one.trace() + other.trace()) - 2.0 * float(np.trace(product).real)
    assert gaussian_frechet_distance(shift, one, torch.zeros(size), other) == pytest.approx(wanted, rel=1e-9)


def test_known_distances_of_gaussians() -> None:
    a, b, mean = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 4.0, 1.0]), torch.tensor([1.0, 2.0, 3.0])
    # For covariances that commute it is Σ (σ - σ')², plus the squared distance of the means.
    assert gaussian_frechet_distance(mean, a.diag(), torch.zeros(3), b.diag()) == pytest.approx(14.0 + 1 + 0 + 4)
    # Rank one, at an angle: tr(Σ₁Σ₂)^½ is the product of the lengths and of the angle's cosine.
    lines = [torch.outer(each, each) for each in (torch.tensor([2.0, 0.0]), 3.0 * torch.tensor([0.6, 0.8]))]
    wanted = 4.0 + 9.0 - 2.0 * 6.0 * 0.6
    assert gaussian_frechet_distance(torch.zeros(2), lines[0], torch.zeros(2), lines[1]) == pytest.approx(wanted)


def test_it_is_zero_for_equal_sets_of_any_rank_and_decreases_for_more_similar_images() -> None:
    thin = covariance(200, 20, 3)
    assert gaussian_frechet_distance(torch.ones(200), thin, torch.ones(200), thin) < 1e-9 * float(thin.trace())
    digits = load_dataset("digits", "test")
    images = digits.batch(torch.arange(len(digits)))
    assert frechet_distance(images, "digits") < 1e-9
    assert frechet_distance(images.flip(0), "digits") < 1e-9  # in any order
    x = images[:200]
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    found = [frechet_distance(x.lerp(noise, share), x) for share in (0.0, 0.1, 1.0)]
    assert found == sorted(found) and found[1] > 1e-4
    # A shift by one pixel, which keeps the histogram of pixels, changes it.
    assert frechet_distance(x.roll(1, 3), x) > 1.0


def test_distance_of_images_equals_numpys() -> None:
    """Moments by numpy, the root by scipy."""
    generator = torch.Generator().manual_seed(0)
    theirs, ours = torch.rand(60, 1, 2, 3, generator=generator), torch.rand(50, 1, 2, 3, generator=generator) ** 2
    rows = [each.flatten(1).double().numpy() for each in (ours, theirs)]
    means, spreads = [each.mean(0) for each in rows], [np.cov(each, rowvar=False) for each in rows]
    wanted = ((means[0] - means[1]) ** 2).sum() + np.trace(spreads[0] + spreads[1] - 2 * sqrtm(spreads[0] @ spreads[1]))
    assert frechet_distance(ours, theirs, features=FLAT) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance(ours, theirs, features=FLAT, n=50) != pytest.approx(wanted, rel=1e-6)


class Recording(nn.Module):
    """Sums of rows of pixels; records mode and number of images of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[bool, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.training, len(x)))
        return x.sum((1, 2))


def test_samples_and_reconstructions_of_a_model() -> None:
    case = Case("vae", context=3)
    model, (x, c) = case.build(), case.inputs(700)
    assert c is not None
    features, state = Recording(), torch.get_rng_state()
    found = frechet_distance(model, (x, c), features=features, n=600, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    assert features.calls == [(False, 500), (False, 100)] * 2 and features.training and model.training
    assert found == frechet_distance(model, (x, c), features=features, n=600, seed=4)
    assert found != frechet_distance(model, (x, c), features=features, n=600, seed=5)
    part, _ = limited(from_tensors((x, c)), 600)  # chosen, not the first
    x, c = part.images, part.labels
    remade = model.reconstruct(x, c)
    wanted = frechet_distance(remade, x, features=features)
    measured = frechet_distance(model, case.inputs(700), features=features, n=600, of="reconstructions")
    assert measured == pytest.approx(wanted, rel=1e-6)
    torch.manual_seed(4)
    drawn = torch.cat([model.sample(500, c[:500]), model.sample(100, c[500:])])
    assert frechet_distance(drawn, x, features=features) == pytest.approx(found, rel=1e-6)


def test_invalid_input() -> None:
    x, case = torch.rand(8, 1, 8, 8), Case("vae", context=3)
    cases = [
        (lambda: frechet_distance(x, x, n=1), ConfigError, "n = 1"),
        (lambda: frechet_distance(x, x, of="priors"), ConfigError, "of = 'priors'"),  # type: ignore[arg-type]
        (lambda: frechet_distance(x[:, :, 1:], x), ShapeError, r"shape \(8, 1, 7, 8\).*\(B, 1, 8, 8\)"),
        (lambda: frechet_distance(x[:1], x), ShapeError, "single image"),
        (lambda: frechet_distance(x, x, features=nn.Identity()), ShapeError, r"features \(8, 1, 8, 8\)"),
        (lambda: frechet_distance(x * torch.nan, x), SupportError, "NaN"),
        (lambda: gaussian_frechet_distance(x[0, 0, 0], x[0, 0, 1:], *x[0, 0, :2]), ShapeError, "two means"),
        (lambda: frechet_distance(case.build(), x), ContextError, "no labels"),
        (lambda: frechet_distance(x, "digits", split="nowhere"), DataError, "nowhere"),
        (lambda: frechet_distance(case.build(), x[..., 1:], of="reconstructions"), ShapeError, "model expects"),
        (lambda: frechet_distance(torch.rand(4, 30), torch.rand(4, 30)), ShapeError, r"expected images.*features="),
    ]
    for call, error, words in cases:
        with pytest.raises(error, match=words):
            call()
