"""Terms of the rate against closed forms, numerical integration and the objectives' own terms."""

import math

import pytest
import torch
from support.cases import Case
from support.gaussian_models import FreePosterior, Slope
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from vaezoo import evaluation
from vaezoo.core import VAE, Part, seeded
from vaezoo.data import from_tensors
from vaezoo.decoders import Decoder
from vaezoo.distributions import DiagonalNormal
from vaezoo.errors import CompositionError, ConfigError, DataError
from vaezoo.evaluation import RateDecomposition, rate_decomposition
from vaezoo.evaluation.decomposition import level_rates, log_aggregate
from vaezoo.likelihoods.gaussian import Gaussian
from vaezoo.objectives import WeightedObjective
from vaezoo.priors import StandardNormalPrior


class Linear(Part):
    """q(z|x) = N(A x, diag σ²)."""

    def __init__(self, matrix: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.matrix, self.scale = matrix, scale

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        loc = x @ self.matrix.T
        return DiagonalNormal(loc, self.scale.log().expand_as(loc))


def linear(matrix: Tensor, scale: Tensor) -> VAE:
    decoder = Decoder(Slope(1.0), Gaussian((2,)))
    prior = StandardNormalPrior((2,)).double()
    return VAE(Linear(matrix, scale), decoder, prior, WeightedObjective(), shape=(2,), latent=(2,)).double()


def check(found: RateDecomposition, wanted: tuple[float, float, float], bias: float = 0.0) -> None:
    for term, value in zip(
        (found.mutual_information, found.total_correlation, found.dimension_wise_kl), wanted, strict=True
    ):
        assert term.mean is not None and term.error is not None and term.error < 0.1
        assert term.mean == pytest.approx(value, abs=4 * term.error + bias)


def test_gaussian_aggregate_has_the_terms_of_its_covariance() -> None:
    matrix = torch.tensor([[1.0, 0.3], [0.8, -0.5]], dtype=torch.float64)
    scale = torch.tensor([0.7, 0.9], dtype=torch.float64)
    x = torch.randn(2_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))  # not that of the draws
    whole = matrix @ matrix.T + scale.square().diag()
    variances, noise = whole.diagonal(), scale.square()
    information = 0.5 * float(whole.logdet() - noise.log().sum())
    correlation = 0.5 * float(variances.log().sum() - whole.logdet())
    apart = 0.5 * float((variances - 1 - variances.log()).sum())
    found = rate_decomposition(linear(matrix, scale), x, examples=2_000)
    assert found.examples == 2_000
    check(found, (information, correlation, apart), bias=0.03)  # of N = 2,000 in place of all x


def test_mixture_of_three_has_the_terms_of_a_numerical_integral() -> None:
    matrix, scale = torch.eye(2, dtype=torch.float64), torch.tensor([0.5, 0.3], dtype=torch.float64)
    centers = torch.tensor([[-1.0, -1.0], [0.5, 1.0], [1.5, 0.0]], dtype=torch.float64)
    axis = torch.linspace(-6, 6, 601, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    area = float(axis[1] - axis[0]) ** 2
    each = torch.stack([Normal(center, scale).log_prob(grid).sum(-1).exp() for center in centers])
    q = each.mean(0)
    marginals = [q.sum(1 - place) * float(axis[1] - axis[0]) for place in range(2)]
    product = marginals[0].unsqueeze(1) * marginals[1]
    prior = Normal(0.0, 1.0).log_prob(grid).sum(-1)
    information = float((each * (each / q).log()).where(each > 0, 0.0).sum()) * area / 3
    correlation = float((q * (q / product).log()).where(q > 0, 0.0).sum()) * area
    apart = float((q * (product.log() - prior)).where(q > 0, 0.0).sum()) * area
    found = rate_decomposition(linear(matrix, scale), centers.repeat(700, 1), examples=2_100)
    check(found, (information, correlation, apart))


def test_log_density_of_the_aggregate_is_that_of_torchs_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaezoo.evaluation.decomposition.AT_ONCE", 40)  # several parts
    loc, log_scale, z = torch.randn(3, 7, 4, dtype=torch.float64)
    joint, marginals = log_aggregate(z, loc, log_scale)
    weights = Categorical(logits=torch.zeros(7, dtype=torch.float64))
    mixture = MixtureSameFamily(weights, Independent(Normal(loc, log_scale.exp()), 1))
    assert torch.allclose(joint, mixture.log_prob(z))
    weights = Categorical(logits=torch.zeros(4, 7, dtype=torch.float64))
    own = MixtureSameFamily(weights, Normal(loc.T, log_scale.exp().T))
    assert torch.allclose(marginals, own.log_prob(z).sum(-1))


def test_terms_add_up_to_the_sampled_rate_and_identical_posteriors_carry_nothing() -> None:
    model = VAE(
        FreePosterior(50, 0.5, -0.2), Decoder(Slope(1.0), Gaussian((1,))), StandardNormalPrior((1,)).double(),
        WeightedObjective(), shape=(1,), latent=(1,),
    )  # fmt: skip
    found = rate_decomposition(model, torch.zeros(50, 1, dtype=torch.float64))
    assert found.mutual_information.mean == pytest.approx(0.0, abs=1e-9)
    assert found.total_correlation.mean == pytest.approx(0.0, abs=1e-9)
    rate = 0.5 * (math.exp(-0.4) + 0.25 - 1 + 0.4)
    error = found.dimension_wise_kl.error
    assert error is not None and found.dimension_wise_kl.mean == pytest.approx(rate, abs=4 * error)


def test_invalid_arguments() -> None:
    model, x = Case("vae").build(), Case("vae").inputs(20)[0]
    with pytest.raises(DataError, match="at least 2"):
        rate_decomposition(model, x[:1])
    with pytest.raises(ConfigError, match="examples = 1"):
        rate_decomposition(model, x, examples=1)
    with pytest.raises(CompositionError, match="Got a posterior of type"):
        rate_decomposition(Case("iaf-vae").build(), x)
    conditional = Case("cvae", context=3)
    with pytest.raises(CompositionError, match="depends on the context"):
        rate_decomposition(conditional.build(), conditional.inputs(20))


def test_rates_of_levels_are_the_terms_of_the_objective() -> None:
    case = Case("ladder-vae")
    model, x = case.build().eval(), case.inputs(40)[0]
    rates = level_rates(model, from_tensors(x), seed=3)
    assert rates is not None
    with seeded(3):
        terms = model(x).terms
    assert torch.equal(rates, torch.stack([terms[f"rate_{level}"] for level in range(1, rates.shape[1] + 1)], 1))
    report = evaluation.evaluate(model, x, samples=0)
    assert report.level_rates == pytest.approx(rates.new_tensor(report.as_dict()["level_rates"]).tolist())
    assert sum(report.level_rates) == pytest.approx(report.rate.mean, abs=8 * report.rate.error)
    assert "rate of each level, top first, nats: " in repr(report)


def test_rates_of_a_bottom_up_chain_add_up_to_its_log_ratio() -> None:
    case = Case("two-layer-vae")
    model, x = case.build().eval(), case.inputs(40)[0]
    rates = level_rates(model, from_tensors(x), seed=3)
    assert rates is not None and rates.shape == (40, 2)
    with torch.no_grad(), seeded(3):
        posterior = model.encoder(x)
        z, log_q = posterior.rsample_and_log_prob((1,))
        assert torch.allclose(rates.sum(1), (log_q - model.prior().log_prob(z))[0], atol=1e-4)
        top = z[..., : posterior.upper_size]
        upper = posterior.above(z[..., posterior.upper_size :]).log_prob(top) - Normal(0.0, 1.0).log_prob(top).sum(-1)
    assert torch.allclose(rates[:, 0], upper[0], atol=1e-4)
    assert level_rates(Case("vae").build(), from_tensors(x)) is None
