"""The aggregate posterior from a batch: double loops, every subset, the whole set, numerical integration."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from support.cases import Case
from torch import Tensor
from torch.distributions import Normal

from vaezoo.core import VAE, Inference, seeded
from vaezoo.distributions.normal import DiagonalNormal, StandardNormal
from vaezoo.encoders import PointEncoder
from vaezoo.errors import CompositionError, ConfigError
from vaezoo.networks import MLP
from vaezoo.objectives import PenalizedObjective, covariance, factorised, log_aggregate
from vaezoo.objectives.penalties.aggregate import log_stratified_weights
from vaezoo.registry import create

CPU = torch.device("cpu")
LOC = [[0.3, -1.0], [2.0, 0.5], [-0.7, 0.1], [1.1, 1.2], [-1.4, 0.9], [0.2, 2.2]]
LOG_SCALE = [[-0.5, 0.1], [0.2, -0.9], [-0.2, -0.3], [0.4, -0.6], [-0.8, 0.3], [0.1, -0.4]]


def drawn(rows: Sequence[int], draws: int = 1, z: Tensor | None = None) -> Inference:
    """Returns a pass over some of the six examples above."""
    index = torch.tensor(rows)
    loc, log_scale = (torch.tensor(each, dtype=torch.float64)[index] for each in (LOC, LOG_SCALE))
    posterior = DiagonalNormal(loc, log_scale)
    sampled, log_q = posterior.rsample_and_log_prob((draws,))
    prior = StandardNormal(torch.zeros(2, dtype=torch.float64), 1)
    z = sampled if z is None else z
    return Inference(x=loc, z=z, log_q=log_q, posterior=posterior, prior=prior, likelihood=prior)


def log_normal(value: float, loc: float, log_scale: float) -> float:
    return -0.5 * ((value - loc) / math.exp(log_scale)) ** 2 - log_scale - 0.5 * math.log(2 * math.pi)


def log_sum(values: list[float]) -> float:
    return max(values) + math.log(math.fsum(math.exp(each - max(values)) for each in values))


@pytest.mark.parametrize("rows", [[0, 1, 2], [5, 3, 0, 2, 4]])
@pytest.mark.parametrize("examples", [6, 1000])
def test_the_estimate_is_that_of_a_double_loop(rows: list[int], examples: int) -> None:
    inference, batch = drawn(rows, draws=2), len(rows)
    joint, each = log_aggregate(inference, examples)
    assert joint.shape == (2, batch) and each.shape == (2, batch, 2)
    for k, i in itertools.product(range(2), range(batch)):
        z = inference.z[k, i].tolist()
        weights = [1 / examples if j == i else (examples - 1) / examples / (batch - 1) for j in range(batch)]
        assert math.fsum(weights) == pytest.approx(1)
        terms = [[log_normal(z[d], LOC[n][d], LOG_SCALE[n][d]) for d in range(2)] for n in rows]
        both = [math.log(w) + math.fsum(own) for w, own in zip(weights, terms, strict=True)]
        assert float(joint[k, i]) == pytest.approx(log_sum(both))
        for d in range(2):
            alone = [math.log(w) + own[d] for w, own in zip(weights, terms, strict=True)]
            assert float(each[k, i, d]) == pytest.approx(log_sum(alone))


def test_of_the_whole_set_it_is_exact() -> None:
    inference = drawn(range(6), draws=3)
    joint, each = log_aggregate(inference, 6)
    loc, log_scale = torch.tensor(LOC).double(), torch.tensor(LOG_SCALE).double()
    density = Normal(loc, log_scale.exp()).log_prob(inference.z.unsqueeze(2)).exp()  # (K, 6, 6, 2)
    torch.testing.assert_close(joint.exp(), density.prod(-1).mean(2))
    torch.testing.assert_close(each.exp(), density.mean(2))


def test_over_all_batches_its_mean_is_exact() -> None:
    """The density itself is estimated without bias; each batch of three that holds the draw's own example."""
    z = torch.tensor([0.4, 0.1], dtype=torch.float64)
    exact = math.fsum(
        math.exp(math.fsum(log_normal(float(z[d]), LOC[n][d], LOG_SCALE[n][d]) for d in range(2))) for n in range(6)
    )
    found = []
    for others in itertools.combinations(range(1, 6), 2):
        inference = drawn([0, *others], z=z.expand(1, 3, 2))
        found.append(float(log_aggregate(inference, 6)[0][0, 0].exp()))
    assert math.fsum(found) / len(found) == pytest.approx(exact / 6)


def test_the_weights_are_the_papers_averaged_over_the_order_of_the_others() -> None:
    """Chen et al., 2018, appendix C.2: 1/N for the own, 1/M for M - 1 others, (N - M)/(N M) for the last, M = B - 1."""
    batch, examples = 5, 40
    others = batch - 1
    orders = list(itertools.permutations(range(1, batch)))
    papers = np.zeros(batch)
    for order in orders:
        papers[0] += 1 / examples
        papers[list(order[:-1])] += 1 / others
        papers[order[-1]] += (examples - others) / (examples * others)
    ours = log_stratified_weights(batch, examples, torch.zeros((), dtype=torch.float64)).exp()
    np.testing.assert_allclose(ours[0].numpy(), papers / len(orders))


def test_weights_in_the_first_column_are_biased() -> None:
    """So the weights of widely copied code lie, 1/N in the first column and not on the diagonal: of a row's own example
    the weight is then 1/M. Over all batches that hold it the mean is not the density, by far.
    """
    z, examples, batch = [0.4, 0.1], 6, 3
    density = [
        math.exp(math.fsum(log_normal(z[d], LOC[n][d], LOG_SCALE[n][d]) for d in range(2))) for n in range(examples)
    ]
    others = batch - 1
    row = [1 / examples, (examples - others) / (examples * others), 1 / others]
    found = []
    for rest in itertools.combinations(range(1, examples), others):
        order = [*rest, 0]  # the draw of the last example: column 2, of weight 1/M
        found.append(math.fsum(w * density[n] for w, n in zip(row, order, strict=True)))
    exact = math.fsum(density) / examples
    assert abs(math.fsum(found) / len(found) / exact - 1) > 0.2


@pytest.mark.parametrize(("rows", "examples"), [([2], 50), ([0, 1], 1)])
def test_without_others_a_draw_has_its_own_density(rows: list[int], examples: int) -> None:
    inference = drawn(rows)
    joint, each = log_aggregate(inference, examples)
    torch.testing.assert_close(joint, inference.log_q)
    torch.testing.assert_close(each.sum(-1), joint)


def test_the_covariance_is_numpys() -> None:
    rows = torch.randn(9, 4, dtype=torch.float64)
    np.testing.assert_allclose(covariance(rows).numpy(), np.cov(rows.numpy().T, bias=True), atol=1e-12)


def test_another_posterior_is_refused_by_name() -> None:
    encoder = PointEncoder(MLP((1, 8, 8), (1, 16), 0, [], "relu"))
    for name in ("beta-tc-vae", "dip-vae-i", "dip-vae-ii"):
        model, (x, _) = Case(name).build(), Case(name).inputs(3)
        with pytest.raises(CompositionError, match=r"type PointMass; .*DiagonalNormal.*changes the encoder"):
            model.replace(encoder=encoder)(x)
    with pytest.raises(CompositionError):
        factorised(Normal(torch.zeros(2), 1.0))


# beta-tc-vae


def decomposed(model: VAE, x: Tensor) -> tuple[dict[str, Tensor], Inference]:
    """Returns the three terms of a pass with noise 3, and the pass."""
    with seeded(3, CPU):
        elbo = model(x)
    with seeded(3, CPU):
        return dict(elbo.terms), model.infer(x)


def test_the_three_terms_add_up_to_the_sampled_rate() -> None:
    model = Case("beta-tc-vae").build(torch.float64, alpha=2.0, beta=3.0, gamma=4.0)
    x, _ = Case("beta-tc-vae").inputs(7, torch.float64)
    terms, inference = decomposed(model, x)
    assert list(terms) == ["mutual_information", "total_correlation", "dimension_wise_kl"]
    sampled = inference.log_q - inference.prior.log_prob(inference.z)
    torch.testing.assert_close(torch.stack(list(terms.values())).sum(0), sampled[0])
    with seeded(3, CPU):
        elbo = model(x)
    weighted = terms["mutual_information"] + 2 * terms["total_correlation"] + 3 * terms["dimension_wise_kl"]
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + elbo.rate + weighted)


def test_all_weights_at_one_are_the_vae() -> None:
    model = Case("beta-tc-vae").build(torch.float64, beta=1.0)
    assert isinstance(model.objective, PenalizedObjective) and not model.objective.penalties
    x, _ = Case("beta-tc-vae").inputs(4, torch.float64)
    elbo = model(x)
    assert torch.equal(elbo.losses["model"], elbo.distortion + elbo.rate)


def test_of_the_whole_set_the_total_correlation_is_the_integral() -> None:
    """KL(q(z) || q(z_1) q(z_2)) of the six Gaussians' mixture, on a grid."""
    grid = np.linspace(-8, 9, 1201)
    cell = (grid[1] - grid[0]) ** 2
    single = np.array(
        [[[math.exp(log_normal(v, LOC[n][d], LOG_SCALE[n][d])) for v in grid] for d in range(2)] for n in range(6)]
    )
    joint = np.einsum("na,nb->ab", single[:, 0], single[:, 1]) / 6
    product = np.outer(single[:, 0].mean(0), single[:, 1].mean(0))
    exact = float((joint * (np.log(joint + 1e-300) - np.log(product + 1e-300))).sum() * cell)
    inference = drawn(range(6), draws=8000)
    log_joint, each = log_aggregate(inference, 6)
    found = (log_joint - each.sum(-1)).mean(1)  # one draw of each example
    assert exact > 0.05
    assert abs(float(found.mean()) - exact) < 4 * float(found.std()) / len(found) ** 0.5


def test_the_size_of_the_training_set_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="examples = 0; 'beta-tc-vae' expected the size"):
        create("beta-tc-vae", shape=(1, 8, 8))


# dip-vae-i and dip-vae-ii


@pytest.mark.parametrize("name", ["dip-vae-i", "dip-vae-ii"])
@pytest.mark.parametrize("count", [4, 9])
def test_the_penalties_of_a_covariance_are_those_of_a_double_loop(name: str, count: int) -> None:
    model = Case(name).build(torch.float64, latent=3, lambda_od=2.0, lambda_d=5.0)
    x, _ = Case(name).inputs(count, torch.float64)
    elbo, posterior = model(x), model.encode(x)
    means, variances = posterior.mean.tolist(), posterior.variance.tolist()
    beside, on = 0.0, 0.0
    for i, j in itertools.product(range(3), repeat=2):
        centre = [math.fsum(row[d] for row in means) / count for d in (i, j)]
        entry = math.fsum((row[i] - centre[0]) * (row[j] - centre[1]) for row in means) / count
        if i == j and name == "dip-vae-ii":
            entry += math.fsum(row[i] for row in variances) / count
        if i == j:
            on += (entry - 1) ** 2
        else:
            beside += entry**2
    torch.testing.assert_close(elbo.terms["off_diagonal"], torch.full((count,), beside, dtype=torch.float64))
    torch.testing.assert_close(elbo.terms["diagonal"], torch.full((count,), on, dtype=torch.float64))
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + elbo.rate + 2.0 * beside + 5.0 * on)


def test_dip_ii_has_the_covariance_of_draws_of_the_aggregate_posterior() -> None:
    """Of the whole set: 6 x 40,000 draws and numpy, against what no draw entered."""
    from vaezoo.objectives.penalties.aggregate import of_draws

    inference = drawn(range(6), draws=40_000)
    model = Case("vae").build()
    found = of_draws(model, inference)
    sampled = np.cov(inference.z.reshape(-1, 2).numpy().T, bias=True)
    np.testing.assert_allclose(found.numpy(), sampled, atol=0.03)
    torch.manual_seed(1)
    torch.testing.assert_close(of_draws(model, drawn(range(6))), found)
