"""Categorical pixels and mixtures of discretized logistics against enumeration, torch and a loop."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from vaezoo.distributions import CategoricalPixels, DiscretizedLogisticPixels, LogisticMixturePixels
from vaezoo.likelihoods.categorical import Categorical as CategoricalHead
from vaezoo.likelihoods.logistic_mixture import LogisticMixture

LEVELS = 4
DTYPE = torch.float64


def mixture(channels: int, components: int = 3, seed: int = 0) -> LogisticMixturePixels:
    """A mixture at one position."""
    noise = torch.Generator().manual_seed(seed)
    sizes = (components, 1), (components, channels, 1), (components, channels * (channels - 1) // 2, 1)
    logits, loc, pairs = (torch.randn(size, generator=noise, dtype=DTYPE) for size in sizes)
    scale = torch.randn(sizes[1], generator=noise, dtype=DTYPE) - 2.0
    return LogisticMixturePixels(logits, 0.5 + 0.3 * loc, scale, pairs.tanh(), LEVELS, (channels, 1, 1))


def all_pixels(channels: int) -> Tensor:
    values = torch.arange(LEVELS, dtype=DTYPE) / (LEVELS - 1)
    return torch.tensor(list(itertools.product(values.tolist(), repeat=channels)), dtype=DTYPE)[..., None, None]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_masses_of_a_mixture_sum_to_one(channels: int) -> None:
    masses = mixture(channels).log_prob(all_pixels(channels)).exp()
    assert masses.shape == (LEVELS**channels,) and float(masses.sum()) == pytest.approx(1.0, abs=1e-12)


def test_masses_of_a_mixture_equal_a_loop_over_components() -> None:
    found, x, expected = mixture(3), all_pixels(3), torch.zeros(LEVELS**3, dtype=DTYPE)
    for k, weight in enumerate(found.logits.squeeze(-1).softmax(0)):
        red, green, blue = x[:, :, 0, 0].unbind(1)
        loc = [
            found.loc[k, 0],
            found.loc[k, 1] + found.coefficients[1][k, 0] * (red - 0.5),
            found.loc[k, 2] + found.coefficients[2][k, 0] * (red - 0.5) + found.coefficients[2][k, 1] * (green - 0.5),
        ]
        total = torch.zeros(len(x), dtype=DTYPE)
        for channel, value in enumerate((red, green, blue)):
            scale = found.log_scale[k, channel].expand(len(x))
            total = total + DiscretizedLogisticPixels(loc[channel].expand(len(x)), scale, LEVELS, 0).log_prob(value)
        expected = expected + weight * total.exp()
    torch.testing.assert_close(found.log_prob(x).exp(), expected)


def test_one_component_of_one_channel_is_a_discretized_logistic() -> None:
    found, x = mixture(1, components=1), all_pixels(1)
    plain = DiscretizedLogisticPixels(found.loc[0, 0], found.log_scale[0, 0], LEVELS, 1)
    torch.testing.assert_close(found.log_prob(x), plain.log_prob(x[:, 0, 0]))


def test_samples_of_a_mixture_have_its_masses_and_its_mean() -> None:
    found, x = mixture(2), all_pixels(2)
    torch.manual_seed(0)
    drawn = found.sample((40_000,))
    place = (drawn.squeeze() * (LEVELS - 1)).round().long() @ torch.tensor([LEVELS, 1])
    shares = place.bincount(minlength=LEVELS**2) / len(place)
    torch.testing.assert_close(shares.double(), found.log_prob(x).exp(), atol=0.01, rtol=0)
    head = LogisticMixture((3, 2, 2), levels=256)
    fine = head(torch.randn(head.outputs, 3, 2, 2, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(fine.sample((20_000,)).mean(0), fine.mean, atol=0.03, rtol=0)


def test_categorical_pixels_equal_those_of_torch() -> None:
    logits = torch.randn(2, LEVELS, 3, 5, dtype=DTYPE)
    found, plain = CategoricalPixels(logits, 2), Categorical(logits=logits.movedim(1, -1))
    index = torch.randint(LEVELS, (7, 2, 3, 5))
    torch.testing.assert_close(found.log_prob(index / (LEVELS - 1)), plain.log_prob(index).sum((-2, -1)))
    masses = torch.stack([CategoricalPixels(logits[:, :, :1, :1], 2).log_prob(x) for x in all_pixels(1)[:, 0]])
    torch.testing.assert_close(masses.exp().sum(0), torch.ones(2, dtype=DTYPE))
    drawn = found.sample((20_000,))
    torch.testing.assert_close(drawn.mean(0), found.mean, atol=0.02, rtol=0)
    assert CategoricalHead((1, 2, 2), levels=8).contains(torch.arange(4).view(1, 1, 2, 2) / 7).all()
