"""What a user calls: random state, decoding, contexts, precision, models put together by hand."""

import copy

import pytest
import torch
from support.cases import Case
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaezoo.core import VAE, seeded
from vaezoo.errors import ShapeError
from vaezoo.objectives import WeightedObjective


def test_seeded_puts_the_random_state_back_even_after_an_error() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    with pytest.raises(ZeroDivisionError), seeded(1, torch.device("cpu")):
        torch.rand(5)
        raise ZeroDivisionError
    assert torch.equal(torch.rand(2), wanted)
    with seeded(None, torch.device("cpu")):
        moved = torch.rand(2)
    assert not torch.equal(moved, wanted)


def test_without_a_seed_the_callers_state_is_drawn_from() -> None:
    model, (x, _) = Case("vae").build(), Case("vae").inputs(3)
    for call in (lambda: model.sample(2), lambda: model.log_evidence(x, samples=2), lambda: model(x).bound):
        torch.manual_seed(7)
        one, two = call(), call()
        torch.manual_seed(7)
        assert torch.equal(call(), one) and not torch.equal(one, two)


def test_nothing_that_only_measures_builds_a_graph() -> None:
    model, (x, _) = Case("vae").build(), Case("vae").inputs(3)
    for figure in (model.reconstruct(x), model.sample(2), model.log_evidence(x, samples=2)):
        assert not figure.requires_grad
    assert model.encode(x).mean.requires_grad and model.decode(torch.zeros(2, 16)).mean.requires_grad


@pytest.mark.parametrize("context", [0, 3])
def test_decode_takes_any_leading_dimensions(context: int) -> None:
    model = Case("vae", context=context).build()
    z = torch.randn(2, 3, 5, 16)
    c = torch.randint(3, (5,)) if context else None
    whole = model.decode(z, c).mean
    assert whole.shape == (2, 3, 5, 1, 8, 8)
    torch.testing.assert_close(whole[0, 1], model.decode(z[0, 1], c).mean)
    torch.testing.assert_close(whole[0, 1, 2], model.decode(z[0, 1, 2], None if c is None else c[2:3]).mean)


def test_the_evidence_of_an_example_does_not_depend_on_its_place() -> None:
    model, (x, _) = Case("vae").build(torch.float64), Case("vae").inputs(30, torch.float64)
    whole, single = model.log_evidence(x, samples=3000, seed=0), model.log_evidence(x[13:14], samples=3000, seed=0)
    assert abs(whole[13] - single[0]) < 0.5


def test_a_context_is_used() -> None:
    for name in ("vae", "cvae", "iwae", "conv-vae", "vq-vae"):
        model, (x, _) = Case(name, context=3).build(), Case(name).inputs(4)
        zero, one = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
        assert not torch.equal(model.reconstruct(x, zero), model.reconstruct(x, one))
        assert not torch.equal(model.sample(4, zero, seed=0), model.sample(4, one, seed=0))


class PlainEncoder(nn.Module):
    """An encoder of torch's own parts: neither a Part nor one of our distributions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        loc, log_scale = self.layer(x).chunk(2, -1)
        return Independent(Normal(loc, log_scale.exp()), 1)


class PlainDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 6)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(self.layer(z), 1.0), 1)


class PlainPrior(nn.Module):
    def forward(self, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(2), 1.0), 1)


def test_a_model_of_plain_modules_and_torchs_distributions_works() -> None:
    model = VAE(PlainEncoder(), PlainDecoder(), PlainPrior(), WeightedObjective())
    x = torch.randn(5, 6)
    elbo = model(x)
    elbo.losses["model"].mean().backward()
    assert elbo.bound.shape == (5,) and model.config is None and not elbo.statistics
    assert model.sample(3, seed=1).shape == (3, 6) and model.reconstruct(x).shape == (5, 6)
    assert torch.isfinite(model.log_evidence(x, samples=10)).all()
    assert (model.log_evidence(x, samples=500) >= elbo.bound.detach() - 5).all()
    assert copy.deepcopy(model)(x).bound.shape == (5,)
    assert model.decode(torch.zeros(4, 2)).mean.shape == (4, 6)
    with pytest.raises(ShapeError, match=r"empty batch"):
        model(x[:0])


def test_a_model_on_another_device_says_how_to_get_there() -> None:
    model = Case("vae").build()
    with pytest.raises(ShapeError, match=r"Use x\.to\('cpu'\) or model\.to\('meta'\)"):
        model(torch.zeros(2, 1, 8, 8, device="meta"))
