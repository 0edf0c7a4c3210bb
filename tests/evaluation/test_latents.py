"""Active units of every kind of posterior: the variance of the posterior mean over the set."""

from collections.abc import Callable

import pytest
import torch
from support.cases import NAMES, Case, contexts_of
from torch import Tensor, nn
from torch.distributions import Distribution

import vaezoo
from vaezoo.core import VAE, code_indices, seeded
from vaezoo.data import from_tensors, load_dataset
from vaezoo.distributions import (
    ContinuousDelta,
    DiagonalNormal,
    FlowPosterior,
    OneHotCategoricals,
    ProductDistribution,
    VonMisesFisher,
)
from vaezoo.errors import ShapeError
from vaezoo.evaluation import active_units, evaluate, representation
from vaezoo.evaluation.latents import encoded
from vaezoo.hierarchy.distributions import ChainPosterior


class Given(nn.Module):
    """An encoder whose posterior is a function of x (B, D)."""

    def __init__(self, posterior: Callable[[Tensor], Distribution]) -> None:
        super().__init__()
        self.posterior = posterior

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        return self.posterior(x)


def variances(posterior: Callable[[Tensor], Distribution], x: Tensor) -> Tensor:
    model = vaezoo.create("vae", shape=tuple(x.shape[1:]), latent=2, likelihood="gaussian")
    codes, found = encoded(model.replace(encoder=Given(posterior)).eval(), from_tensors(x))
    assert codes is None and found is not None
    return found


def normal(loc: Tensor, scale: Tensor) -> DiagonalNormal:
    return DiagonalNormal(loc, scale.log())


X = torch.rand(4_000, 2, generator=torch.Generator().manual_seed(0)) + 0.5


def test_categories_count_by_their_probabilities_not_by_the_most_likely_one() -> None:
    """Probabilities 0.5 ± 0.05 have a variance of 0.0025, while the mode jumps between 0 and 1."""
    sign = torch.tensor([-1.0, 1.0]).repeat(200)
    x = torch.stack([0.5 + 0.05 * sign, 0.5 + 0.3 * sign], 1)
    logits = [torch.stack([x, 1.0 - x], -1).log()]
    found = variances(lambda x: OneHotCategoricals(torch.stack([x, 1.0 - x], -1).log(), 2), x)
    assert logits[0].argmax(-1).double().var(0).min() > 0.2
    torch.testing.assert_close(
        found, torch.tensor([0.0025, 0.0025, 0.09, 0.09]).double() * 400 / 399, rtol=1e-4, atol=0
    )


def test_means_in_closed_form() -> None:
    product = lambda x: ProductDistribution([normal(x, x), ContinuousDelta(3.0 * x), OneHotCategoricals(x, 1)])  # noqa: E731
    wanted = torch.cat([X, 3.0 * X, X.softmax(1)], 1).double().var(0)
    torch.testing.assert_close(variances(product, X), wanted, rtol=1e-4, atol=1e-7)
    # On the sphere in three dimensions the mean is μ (coth κ - 1/κ).
    north = torch.tensor([0.0, 0.0, 1.0])
    found = variances(lambda x: VonMisesFisher(north.expand(len(x), 3), 4.0 * x[:, 0]), X)
    k = 4.0 * X[:, 0].double()
    wanted = torch.stack([0 * k, 0 * k, 1.0 / k.tanh() - 1.0 / k], 1).var(0)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-9)


def test_means_without_a_closed_form_are_estimated_without_bias() -> None:
    """z = u² with u ~ N(0, σ²(x)): the center of the posterior is 0 for every x, its mean is σ²(x)."""
    still = lambda x: normal(torch.zeros_like(x), x)  # noqa: E731
    flow = lambda u: (u.square(), u[..., 0])  # noqa: E731
    wanted = X.double().square().var(0)
    found = variances(lambda x: FlowPosterior(still(x), flow, (2,)), X)
    torch.testing.assert_close(found, wanted, rtol=0.15, atol=0)
    above = lambda low: normal(low.square(), torch.ones_like(low))  # noqa: E731
    found = variances(lambda x: ChainPosterior(still(x), above), X)
    torch.testing.assert_close(found[:2], wanted, rtol=0.15, atol=0)
    assert found[2:].abs().max() < 0.008  # unused latents with a wide posterior
    wide = variances(lambda x: FlowPosterior(normal(torch.zeros_like(x), torch.ones_like(x)), flow, (2,)), X[:30])
    assert wide.abs().max() < 0.01


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_every_variant_has_the_variance_of_the_mean_of_its_draws(name: str) -> None:
    case = Case(name, context=contexts_of(name)[-1])
    model, (x, c) = case.build().eval(), case.inputs(6)
    data = from_tensors(x if c is None else (x, c))
    with torch.no_grad(), seeded(3):
        posterior = model.encode(x, None if model.takes_unlabelled else c)
        if code_indices(posterior) is not None:
            assert encoded(model, data)[1] is None
            with pytest.raises(ShapeError, match="codes"):
                active_units(model, data)
            return
        draw = getattr(posterior, "rsample_and_log_prob", None)
        draws = draw((4_000,))[0] if draw else posterior.sample((4_000,))
    means = draws.double().mean(0).flatten(1)
    error = 4.0 * draws.double().flatten(2).std(0).amax(0) / 4_000**0.5  # of a mean
    found = encoded(model, data)[1]
    assert found is not None
    assert ((found.clamp(min=0).sqrt() - means.std(0)).abs() < 2.0 * error + 0.06).all()
    assert active_units(model, data) == evaluate(model, data, samples=0).active_units == int((found > 0.01).sum())


def test_a_model_that_infers_classes_is_measured_without_the_labels() -> None:
    model: VAE = vaezoo.create("m2-vae", shape=(1, 8, 8), latent=14, context=10).eval()
    digits = load_dataset("digits", "test")
    x, labels = digits.images.float().div(digits.scale).round(), digits.labels
    assert labels is not None
    wrong = (labels + 1) % 10
    report = evaluate(model, (x, labels), samples=3)
    assert report.values.keys() == evaluate(model, x, samples=3).values.keys()
    for other in (evaluate(model, x, samples=3), evaluate(model, (x, wrong), samples=3)):
        kept = {key: value for key, value in other.values.items() if key != "label_error"}
        assert kept == {key: value for key, value in report.values.items() if key != "label_error"}
    error = (model.reconstruct(x) - x).square().mean()
    assert report.psnr == pytest.approx(-10 * error.log10().item(), abs=1e-3)
    assert report.active_units == int((model.encode(x).mean.detach().double().var(0) > 0.01).sum())
    first = representation(model, from_tensors((x, labels)))
    assert torch.equal(first, representation(model, from_tensors((x, wrong))))
