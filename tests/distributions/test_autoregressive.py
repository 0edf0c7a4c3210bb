"""Bernoulli pixels that depend on their neighbors, against sums over all images."""

import itertools

import pytest
import torch
from torch import Tensor

from vaezoo.distributions import AutoregressiveBernoulliPixels, BernoulliPixels, preceding
from vaezoo.errors import ShapeError
from vaezoo.likelihoods.autoregressive_bernoulli import AutoregressiveBernoulli


def every_image(*shape: int) -> Tensor:
    size = torch.Size(shape).numel()
    return torch.tensor([*itertools.product([0.0, 1.0], repeat=size)]).view(-1, *shape)


def pixels(*shape: int, window: int = 2) -> AutoregressiveBernoulliPixels:
    head = AutoregressiveBernoulli(shape, window=window)
    found = head(2.0 * torch.randn(head.outputs, *shape))
    assert isinstance(found, AutoregressiveBernoulliPixels)
    return found


def test_neighbors_precede_a_pixel_in_the_order_of_reading() -> None:
    assert preceding(1, 3, 3) == [(-1, -1), (-1, 0), (-1, 1), (0, -1)]
    assert len(preceding(2, 28, 28)) == 12 and len(preceding(8, 28, 28)) == 8 * 17 + 8
    assert preceding(3, 1, 3) == [(0, -2), (0, -1)] and preceding(2, 3, 1) == [(-2, 0), (-1, 0)]
    assert preceding(1, 1, 1) == []


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 2, 2), (1, 4, 1), (7,), (2, 5)])
def test_masses_of_all_images_add_up_to_one_and_draws_follow_them(shape: tuple[int, ...]) -> None:
    found, images = pixels(*shape), every_image(*shape)
    masses = found.log_prob(images).exp()
    assert float(masses.sum()) == pytest.approx(1.0, abs=1e-5)
    drawn = found.sample((20_000,)).flatten(1)
    index = (drawn * 2.0 ** torch.arange(drawn.shape[1] - 1, -1, -1)).sum(1).long()
    shares = torch.bincount(index, minlength=len(images)) / 20_000
    assert float((shares - masses).abs().max()) < 0.015
    assert float((shares - masses).abs().sum()) < 6.0 * (len(images) / 20_000) ** 0.5  # of a multinomial


def test_a_pixel_depends_on_the_neighbors_of_the_window_alone() -> None:
    found, x = pixels(1, 6, 6, window=1), torch.rand(1, 6, 6).round()
    changed = x.clone()
    changed[0, 2, 2] = 1 - changed[0, 2, 2]
    logits, others = logits_of(found, x), logits_of(found, changed)
    assert (logits != others).nonzero().tolist() == [[0, 2, 3], [0, 3, 1], [0, 3, 2], [0, 3, 3]]
    torch.testing.assert_close(BernoulliPixels(logits, 3).log_prob(x), found.log_prob(x))


def logits_of(found: AutoregressiveBernoulliPixels, x: Tensor) -> Tensor:
    steps, waves = found.steps(), found.split(x)
    return found.join([next(steps), *(steps.send(wave) for wave in waves[:-1])])


@pytest.mark.parametrize("width", [2, 4, 9])
def test_the_logits_of_other_sizes_are_those_of_their_own_neighbors(width: int) -> None:
    """Offsets of a wide image on a narrow one, as when a grid of latents is smaller than in training."""
    offsets = preceding(3, 12, 12)
    found = AutoregressiveBernoulliPixels(
        torch.randn(2, 1, 5, width), torch.randn(2, len(offsets), 1, 5, width), offsets, (1, 5, width)
    )
    x = found.sample()
    assert torch.equal(found.join(found.split(x)), x)
    torch.testing.assert_close(BernoulliPixels(logits_of(found, x), 3).log_prob(x), found.log_prob(x))


def test_without_weights_they_are_independent_bernoullis() -> None:
    logits, x = torch.randn(5, 1, 4, 4), torch.rand(5, 1, 4, 4)
    offsets = preceding(2, 4, 4)
    found = AutoregressiveBernoulliPixels(logits, torch.zeros(5, len(offsets), 1, 4, 4), offsets, (1, 4, 4))
    plain = BernoulliPixels(logits, 3)
    torch.testing.assert_close(found.log_prob(x), plain.log_prob(x))
    torch.testing.assert_close(found.mean, plain.mean)
    assert torch.equal(found.mode, plain.mode)


def test_the_mean_of_a_pixel_is_that_given_the_means_of_its_neighbors() -> None:
    weights = torch.full((1, 1, 1, 4), 6.0)
    found = AutoregressiveBernoulliPixels(torch.full((1, 1, 4), 0.5), weights, [(0, -1)], (1, 1, 4))
    expected = [torch.tensor(0.5).sigmoid()]
    for _ in range(3):
        expected.append((0.5 + 6.0 * (expected[-1] - 0.5)).sigmoid())
    torch.testing.assert_close(found.mean.flatten(), torch.stack(expected))
    images = every_image(1, 1, 4)
    exact = (found.log_prob(images).exp().view(-1, 1, 1, 1) * images).sum(0)
    assert float(found.mean[0, 0, 0]) == pytest.approx(float(exact[0, 0, 0]))  # the other ones are approximate
    torch.testing.assert_close(found.sample((20_000,)).mean(0), exact, rtol=0.0, atol=0.015)


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(4, 1, 2, 8\); expected \(…, 1, 4, 4\)"):
        pixels(1, 4, 4).log_prob(torch.zeros(4, 1, 2, 8))


def test_the_mode_has_the_likelier_value_of_each_pixel_given_those_before() -> None:
    found = pixels(1, 2, 2)
    x = found.mode
    for place in range(4):
        changed = x.flatten().clone()
        changed[place] = 1 - changed[place]
        before = every_image(3 - place) if place < 3 else torch.zeros(1, 0)
        kept, other = (
            torch.cat([each.flatten()[: place + 1].expand(len(before), -1), before], 1).view(-1, 1, 2, 2)
            for each in (x, changed)
        )
        assert float(found.log_prob(kept).logsumexp(0)) >= float(found.log_prob(other).logsumexp(0))


def test_means_have_gradients() -> None:
    head = AutoregressiveBernoulli((1, 4, 4))
    raw = torch.randn(3, head.outputs, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: head(each).mean, raw)
    assert torch.autograd.gradcheck(lambda each: head(each).log_prob(torch.ones(1, 4, 4).double()), raw)
