"""The stack of bits, and the masses of latents and pixels, against sums of logarithms and enumeration."""

import math

import numpy as np
import pytest
import torch
from support.cases import Case
from torch import Tensor
from torch.distributions import Distribution, Normal

from vaezoo.distributions import DiagonalNormal, LogisticMixturePixels
from vaezoo.errors import SupportError
from vaezoo.storage.compression import stack as coding
from vaezoo.storage.compression.latents import LARGEST, STEP, PosteriorGrid, PriorGrid
from vaezoo.storage.compression.pixels import MixtureSteps, masses_of, pop_pixels, push_pixels
from vaezoo.storage.compression.stack import BitStack


def filled(words: int = 4_000) -> BitStack:
    return BitStack(np.random.default_rng(0).integers(1, 2**32, words, dtype=np.uint32))


def test_symbols_cost_minus_the_logarithm_of_their_mass() -> None:
    probabilities = torch.rand(500, 7, dtype=torch.float64).softmax(1)
    symbols = torch.randint(7, (500,))
    stack = BitStack()
    stack.push(symbols, coding.table(probabilities))
    cost = -probabilities.gather(1, symbols[:, None]).log2().sum().item()
    assert stack.bits == pytest.approx(cost, abs=34)
    assert torch.equal(BitStack(stack.words).pop(coding.table(probabilities)), symbols)
    with pytest.raises(SupportError, match="NaN"):
        coding.table(probabilities / 0.0)


def test_what_was_popped_and_pushed_leaves_the_stack_unchanged() -> None:
    stack = filled()
    before = stack.words
    masses = [coding.bernoulli(torch.rand(100)), coding.uniform(torch.randint(2, 9, (100,)))]
    popped = [stack.pop(each) for each in masses]
    for each, symbols in reversed([*zip(masses, popped, strict=True)]):
        stack.push(symbols, each)
    assert np.array_equal(stack.words, before)


@pytest.mark.parametrize("scale", [0.001, 0.03, 1.0, 5.0])
def test_points_of_a_posterior_are_normal_and_cost_their_density(scale: float) -> None:
    loc = torch.linspace(-2, 2, 4_000, dtype=torch.float64)
    grid = PosteriorGrid.of(DiagonalNormal(loc, torch.full_like(loc, math.log(scale))))
    stack = filled(8_000)
    before, words = stack.bits, stack.words
    points = grid.pop(stack)
    z = points * STEP
    taken, spread = before - stack.bits, max(scale, STEP)
    assert float((z - loc).mean().abs()) < 4 * spread / math.sqrt(4_000) + STEP
    assert float((z - loc).std()) == pytest.approx(math.sqrt(scale**2 + STEP**2 / 12), rel=0.1)
    if scale > 4 * STEP:
        cost = -(Normal(loc, scale).log_prob(z).sum() / math.log(2) + 4_000 * math.log2(STEP))
        assert taken == pytest.approx(float(cost), rel=2e-3)
    grid.push(stack, points)
    assert np.array_equal(stack.words, words)


def test_points_of_a_prior_cost_their_density() -> None:
    z = torch.randn(3_000, dtype=torch.float64)
    grid, stack = PriorGrid.of(DiagonalNormal(torch.zeros_like(z), torch.zeros_like(z))), BitStack()
    points = (z / STEP).round()
    grid.push(stack, points)
    cost = -(Normal(0.0, 1.0).log_prob(z).sum() / math.log(2) + 3_000 * math.log2(STEP))
    assert stack.bits == pytest.approx(float(cost), rel=1e-3)
    assert torch.equal(grid.pop(stack), points.long()) and float(points.abs().max()) < LARGEST


def inputs(likelihood: str) -> tuple[Distribution, Tensor, Tensor]:
    case = Case("vae", shape=(3, 8, 8), likelihood=likelihood)
    model = case.build().double().eval()
    with torch.no_grad():
        found = model.decoder(torch.randn(1, *model.latent, dtype=torch.float64))
        x = found.sample()
    return found, x, (x[0] * (1 if likelihood.endswith("bernoulli") else 255)).round().long()


MASSES = ("bernoulli", "autoregressive-bernoulli", "discretized-logistic", "logistic-mixture", "categorical")


@pytest.mark.parametrize("likelihood", MASSES)
def test_pixels_cost_minus_their_log_likelihood(likelihood: str) -> None:
    distribution, x, levels = inputs(likelihood)
    stack = filled(10)
    before, words = stack.bits, stack.words
    push_pixels(stack, distribution, levels)
    cost = -distribution.log_prob(x).item() / math.log(2)
    assert stack.bits - before == pytest.approx(cost, rel=2e-3, abs=2)
    assert torch.equal(pop_pixels(stack, distribution), levels)
    assert np.array_equal(stack.words, words)


@pytest.mark.parametrize("likelihood", ["discretized-logistic", "categorical"])
def test_masses_of_all_levels_add_up_to_one(likelihood: str) -> None:
    (found,) = masses_of(inputs(likelihood)[0]).parameters
    assert found.shape == (192, 256) and found.sum(1) == pytest.approx(np.ones(192), abs=1e-6)


def test_masses_of_a_channel_of_a_mixture_add_up_to_one() -> None:
    distribution, _, levels = inputs("logistic-mixture")
    assert isinstance(distribution, LogisticMixturePixels)
    steps = MixtureSteps(distribution)
    for row in levels.reshape(3, -1):
        (found,) = steps.next(row).parameters
        assert found.sum(1) == pytest.approx(np.ones(64), abs=1e-6)
