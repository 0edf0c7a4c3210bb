"""Gaussian and Laplace likelihoods of the observed elements alone."""

from dataclasses import replace

import pytest
import scipy.stats
import torch
from torch import Tensor

from vaezoo.core import Inference
from vaezoo.distributions import DiagonalNormal
from vaezoo.errors import SupportError
from vaezoo.likelihoods import ScaledLikelihood
from vaezoo.registry import create, likelihoods

EXACT = {"gaussian": scipy.stats.norm, "laplace": scipy.stats.laplace}


def head_of(name: str, shape: tuple[int, ...] = (2, 5), **options: object) -> ScaledLikelihood:
    head = likelihoods.get(name)(shape, gaps=True, **options)
    assert isinstance(head, ScaledLikelihood)
    return head


def with_gaps(*shape: int) -> Tensor:
    x = torch.randn(*shape).double()
    x[0, :, 3:], x[1, 1, 0] = torch.nan, torch.nan
    return x


@pytest.mark.parametrize("kind", ["fixed", "learned", "optimal"])
@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_log_density_is_the_sum_over_observed_elements(name: str, kind: str) -> None:
    head, x = head_of(name, scale=0.7, scale_kind=kind), with_gaps(3, 2, 5)
    raw = torch.randn(4, 3, head.outputs, 2, 5).double().requires_grad_()
    p = head(raw)
    scale = 0.7 * raw[:, :, 1].exp() if kind == "learned" else torch.full_like(raw[:, :, 0], 0.7)
    terms = torch.from_numpy(EXACT[name].logpdf(x.numpy(), raw[:, :, 0].detach().numpy(), scale.detach().numpy()))
    torch.testing.assert_close(p.log_prob(x), terms.nansum((-2, -1)), rtol=1e-5, atol=1e-6)
    (slope,) = torch.autograd.grad(p.log_prob(x).sum(), raw)
    gap = x.isnan().expand(4, 3, 2, 5).unsqueeze(2).expand_as(slope)
    assert bool((slope[gap] == 0).all()) and bool((slope[~gap] != 0).all())
    assert p.sample((2,)).shape == (2, 4, 3, 2, 5) and bool(p.sample().isfinite().all())
    assert p.batch_shape == (4, 3) and p.event_shape == (2, 5)
    torch.testing.assert_close(p.variance.sqrt(), scale * (2**0.5 if name == "laplace" else 1.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("name", "power"), [("gaussian", 2), ("laplace", 1)])
def test_an_optimal_scale_is_the_error_of_observed_elements(name: str, power: int) -> None:
    head, x = head_of(name, scale_kind="optimal"), with_gaps(3, 2, 5)
    mean = torch.randn(1, 3, 2, 5).double()
    normal = DiagonalNormal(torch.zeros(3, 4), torch.zeros(3, 4))
    whole = Inference(
        x=x, z=torch.zeros(1, 3, 4), log_q=torch.zeros(1, 3), posterior=normal, prior=normal,
        likelihood=head(mean.unsqueeze(2)),
    )  # fmt: skip
    parts = [
        replace(whole, x=x[rows], likelihood=head(mean[:, rows].unsqueeze(2))) for rows in (slice(0, 1), slice(1, 2))
    ]
    for given, rows in (([whole], slice(0, 3)), (parts, slice(0, 2))):
        head.updates.zero_()
        head.after_step([head.observe(each) for each in given], torch.tensor(0))
        error = (mean[0, rows] - x[rows])[~x[rows].isnan()].abs().pow(power).mean() ** (1 / power)
        assert float(head.log_scale.exp()) == pytest.approx(float(error), rel=1e-5)
    head.updates.zero_()
    head.after_step([head.observe(replace(whole, weights=torch.ones(1, 3)))], torch.tensor(0))
    error = (mean[0] - x)[~x.isnan()].abs().pow(power).mean() ** (1 / power)
    assert float(head.log_scale.exp()) == pytest.approx(float(error), rel=1e-5)


def test_nan_is_accepted_only_as_a_declared_gap() -> None:
    x = with_gaps(3, 2, 5).float()
    for gaps in (False, True):
        model = create("vae", shape=(2, 5), latent=3, likelihood={"name": "gaussian", "gaps": gaps})
        if gaps:
            assert bool(model(x).losses["model"].isfinite().all()) and model.has_density(x)
            with pytest.raises(SupportError, match="infinite"):
                model(torch.where(x.isnan(), torch.inf, x))
        else:
            with pytest.raises(SupportError, match="NaN"):
                model(x)
