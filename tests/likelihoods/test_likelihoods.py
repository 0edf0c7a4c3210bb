"""Likelihood heads: supports, initial outputs, learned scales."""

import math

import pytest
import torch
from support.cases import LIKELIHOODS, SMALL_SHAPE, Case, head_of
from torch import Tensor
from torch.distributions import Normal

from vaezoo.core import VAE
from vaezoo.errors import SupportError
from vaezoo.likelihoods import Likelihood
from vaezoo.likelihoods.bernoulli import Bernoulli
from vaezoo.likelihoods.discretized_logistic import DiscretizedLogistic
from vaezoo.likelihoods.gaussian import Gaussian
from vaezoo.likelihoods.laplace import Laplace
from vaezoo.registry import likelihoods


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_heads_accept_any_leading_dimensions(likelihood: str) -> None:
    head, case = head_of(Case("vae", likelihood=likelihood)), Case("vae", likelihood=likelihood)
    x, _ = case.inputs(4)
    for leading in ((), (4,), (2, 4), (3, 2, 4)):
        distribution = head(torch.randn(*leading, head.outputs, *SMALL_SHAPE))
        assert distribution.batch_shape == leading and distribution.event_shape == SMALL_SHAPE
        assert distribution.log_prob(x if leading else x[0]).shape == leading
        assert distribution.mean.shape == (*leading, *SMALL_SHAPE)
        assert bool(head.contains(distribution.sample((2,)).reshape(-1, *SMALL_SHAPE)).all())
    assert list(head.parameters()) == []  # and nn.Module's own names are left alone


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_contained_values_are_accepted_and_nan_is_neither_unless_it_is_a_gap(likelihood: str) -> None:
    head = head_of(Case("vae", likelihood=likelihood))
    values = torch.tensor(
        [0.0, 1.0, 0.5, 0.1, 1 / 255, -1e-3, 1.001, -5.0, 1e9, 1e30, torch.inf, -torch.inf, torch.nan]
    )
    x = values.reshape(-1, 1, 1, 1).expand(-1, *SMALL_SHAPE)
    accepted, contained = head.accepts(x), head.contains(x)
    assert accepted.shape == contained.shape == (len(values),)
    assert bool((accepted | ~contained).all()) and bool(contained[:2].all()) and not bool(accepted[-3:-1].any())
    assert bool(accepted[-1]) == bool(contained[-1]) == head.gaps  # NaN is a gap, or invalid
    assert head.domain and head.support


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_decoder_starts_at_the_mean_of_the_data(likelihood: str) -> None:
    for backbone in ("mlp", "conv"):
        case = Case("vae", backbone=backbone, likelihood=likelihood)
        model, (x, _) = case.build(), case.inputs(64)
        x[:, 0, :2] = 0.0  # black, as borders are
        before = (model.sample(64, seed=0).mean(0) - x.mean(0)).abs().mean()
        model.initialize([(x[:32], None), (x[32:], None)])
        after = (model.sample(64, seed=0).mean(0) - x.mean(0)).abs().mean()
        if likelihood != "continuous-bernoulli":  # whose mean has no closed inverse
            assert after < before and after < 0.3
        assert torch.isfinite(model(x).distortion).all()


def test_gray_pixels_under_a_bernoulli_give_a_loss_without_a_bound() -> None:
    model = Case("vae").build()
    x = torch.rand(4, *SMALL_SHAPE)
    elbo = model(x)
    assert torch.isfinite(elbo.losses["model"]).all() and elbo.bound.tolist() == [-math.inf] * 4
    assert not model.has_density(x) and model.has_density(x.round())
    with pytest.raises(SupportError, match="binarize"):
        model.log_evidence(x)
    raw = torch.randn(4, 1, *SMALL_SHAPE)
    p = torch.sigmoid(raw[:, 0])
    cross_entropy = (x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)
    torch.testing.assert_close(Bernoulli(SMALL_SHAPE)(raw).log_prob(x), cross_entropy, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("levels", [2, 256, 65536])
def test_every_level_is_in_the_support_in_float32(levels: int) -> None:
    head = DiscretizedLogistic((levels,), levels=levels)
    values = torch.arange(levels) / (levels - 1)
    assert bool(head.contains(values[None]).all())
    between = values.clone()
    between[0] = 0.4 / (levels - 1)
    assert not bool(head.contains(between[None]).any()) and bool(head.accepts(between[None]).all())


def test_extreme_raw_outputs_give_finite_masses() -> None:
    for name in likelihoods.names():
        head = likelihoods.get(name)((3,))
        assert isinstance(head, Likelihood)
        raw = torch.tensor([-1e4, 0.0, 1e4]).expand(head.outputs, 3).clone().requires_grad_()
        log_density = head(raw).log_prob(torch.tensor([0.0, 1.0, 1.0]))
        log_density.backward()
        assert torch.isfinite(log_density) and raw.grad is not None and torch.isfinite(raw.grad).all()


@pytest.mark.parametrize(("kind", "theirs"), [(Gaussian, Normal), (Laplace, torch.distributions.Laplace)])
def test_fixed_and_learned_scales_agree_with_torch(kind: type[Gaussian | Laplace], theirs: type[Normal]) -> None:
    raw, x = torch.randn(3, 2, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    fixed, learned = kind((5,), scale=0.3), kind((5,), scale=0.3, scale_kind="learned")
    assert not fixed.state_dict()  # it is in the config
    for head, scale in ((fixed.double(), 0.3), (learned, 0.3 * raw[:, 1].exp())):
        found, wanted = head(raw[:, : head.outputs]), theirs(raw[:, 0], scale)
        torch.testing.assert_close(found.log_prob(x), wanted.log_prob(x).sum(-1))
        torch.testing.assert_close(found.variance, wanted.variance)
        drawn = found.sample((20_000,))
        torch.testing.assert_close(drawn.var(0), found.variance, rtol=0.15, atol=0.0)


def test_an_optimal_scale_of_a_laplace_is_the_mean_absolute_error() -> None:
    model = Case("vae", likelihood="laplace=scale_kind:optimal").build()
    x = torch.distributions.Laplace(0.0, 3.0).sample((64, *SMALL_SHAPE))
    seen = model(x).statistics
    model.after_step([seen], torch.tensor(0))
    head = model.decoder.likelihood
    assert isinstance(head, Laplace) and float(head.log_scale.exp()) == pytest.approx(
        float(seen["decoder.absolute_error"]), rel=1e-5
    )
    best = max((0.5, 0.8, 1.0, 1.25, 2.0), key=lambda factor: likelihood_of(head, x, factor))
    assert best == 1.0 and 2.5 < float(head.log_scale.exp()) < 3.6  # untrained means are near 0


def likelihood_of(head: Laplace, x: Tensor, factor: float) -> float:
    fixed = Laplace(SMALL_SHAPE, scale=factor * float(head.log_scale.exp()))
    return float(fixed(torch.zeros(len(x), 1, *SMALL_SHAPE)).log_prob(x).sum())


def optimal() -> tuple[VAE, Gaussian]:
    model = Case("vae", likelihood="gaussian=scale_kind:optimal").build()
    head = model.decoder.likelihood
    assert isinstance(head, Gaussian)
    return model, head


def errors(model: VAE, x: Tensor) -> tuple[dict[str, Tensor], float]:
    seen = dict(model(x).statistics)
    return seen, float(seen["decoder.squared_error"])


def test_an_optimal_scale_reaches_the_root_mean_square_error() -> None:
    model, head = optimal()
    x = 5.0 * torch.randn(32, *SMALL_SHAPE)
    first, error = errors(model, x)
    assert float(head.log_scale) == 0.0  # forward moves nothing
    model.after_step([first], torch.tensor(0))
    assert float(head.log_scale.exp()) == pytest.approx(error**0.5, rel=1e-5)
    for step in range(1, 30):
        model.after_step([errors(model, x)[0]], torch.tensor(step))
    assert float(head.log_scale.exp()) == pytest.approx(errors(model, x)[1] ** 0.5, rel=0.02)
    assert head.state_dict().keys() == {"log_scale", "updates"}


def test_an_optimal_scale_is_the_mean_over_micro_batches_and_follows_a_change() -> None:
    model, head = optimal()
    model.after_step(
        [{"decoder.squared_error": torch.tensor(1.0)}, {"decoder.squared_error": torch.tensor(7.0)}], torch.tensor(0)
    )
    assert float(head.log_scale.exp()) == pytest.approx(2.0)
    for step in range(1, 1000):
        model.after_step([{"decoder.squared_error": torch.tensor(0.01)}], torch.tensor(step))
    assert float(head.log_scale.exp()) == pytest.approx(0.1, rel=0.01)
    head.updates.zero_()  # as if there had been no other errors
    model.after_step([{"decoder.squared_error": torch.tensor(0.0)}], torch.tensor(1000))
    assert torch.isfinite(head.log_scale) and not model.eval()(torch.zeros(1, *SMALL_SHAPE)).statistics
