"""The aggregate posterior from a batch: double loops, the weights of the paper, numerical integration."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from support.cases import Case

from vaezoo.core import Inference, seeded
from vaezoo.distributions import DiagonalNormal, StandardNormal
from vaezoo.encoders import PointEncoder
from vaezoo.errors import CompositionError, ConfigError
from vaezoo.networks import MLP
from vaezoo.objectives.penalties.aggregate import covariance, log_aggregate_density, log_stratified_weights
from vaezoo.registry import create

LOC = [[0.3, -1.0], [2.0, 0.5], [-0.7, 0.1], [1.1, 1.2], [-1.4, 0.9], [0.2, 2.2]]
LOG_SCALE = [[-0.5, 0.1], [0.2, -0.9], [-0.2, -0.3], [0.4, -0.6], [-0.8, 0.3], [0.1, -0.4]]


def drawn(rows: Sequence[int], draws: int = 1) -> Inference:
    """Returns an inference of some of the six examples above."""
    index = torch.tensor(rows)
    loc, log_scale = (torch.tensor(each, dtype=torch.float64)[index] for each in (LOC, LOG_SCALE))
    posterior = DiagonalNormal(loc, log_scale)
    z, log_q = posterior.rsample_and_log_prob((draws,))
    prior = StandardNormal(torch.zeros(2, dtype=torch.float64), 1)
    return Inference(x=loc, z=z, log_q=log_q, posterior=posterior, prior=prior, likelihood=prior)


def log_normal(value: float, loc: float, log_scale: float) -> float:
    return -0.5 * ((value - loc) / math.exp(log_scale)) ** 2 - log_scale - 0.5 * math.log(2 * math.pi)


def log_sum(values: list[float]) -> float:
    return max(values) + math.log(math.fsum(math.exp(each - max(values)) for each in values))


@pytest.mark.parametrize(("rows", "examples"), [([0, 1, 2], 6), ([5, 3, 0, 2, 4], 1000), (range(6), 6)])
def test_the_estimate_equals_a_double_loop(rows: Sequence[int], examples: int) -> None:
    inference, batch = drawn(rows, draws=2), len(rows)
    joint, each = log_aggregate_density(inference, examples)
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


def test_the_weights_are_the_mean_of_the_papers_over_all_orders() -> None:
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


@pytest.mark.parametrize(("rows", "examples"), [([2], 50), ([0, 1], 1)])
def test_the_estimate_without_other_examples_is_the_density_of_the_own(rows: list[int], examples: int) -> None:
    inference = drawn(rows)
    joint, each = log_aggregate_density(inference, examples)
    torch.testing.assert_close(joint, inference.log_q)
    torch.testing.assert_close(each.sum(-1), joint)


def test_other_posteriors_and_unknown_training_sets_are_refused() -> None:
    encoder = PointEncoder(MLP((1, 8, 8), (1, 16), 0, [], "relu"))
    for name in ("beta-tc-vae", "dip-vae-i", "dip-vae-ii"):
        model, (x, _) = Case(name).build(), Case(name).inputs(3)
        with pytest.raises(CompositionError, match=r"type ContinuousDelta.*DiagonalNormal"):
            model.replace(encoder=encoder)(x)
    with pytest.raises(ConfigError, match="examples = 0"):
        create("beta-tc-vae", shape=(1, 8, 8))


def test_the_three_terms_add_up_to_the_sampled_rate() -> None:
    model = Case("beta-tc-vae").build(torch.float64, alpha=2.0, beta=3.0, gamma=4.0)
    x, _ = Case("beta-tc-vae").inputs(7, torch.float64)
    with seeded(3):
        elbo = model(x)
    with seeded(3):
        inference = model.infer(x)
    assert list(elbo.terms) == ["mutual_information", "total_correlation", "dimension_wise_kl"]
    terms = torch.stack(list(elbo.terms.values()))
    torch.testing.assert_close(terms.sum(0), (inference.log_q - inference.prior.log_prob(inference.z))[0])
    weighted = terms[0] + 2 * terms[1] + 3 * terms[2]
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + elbo.rate + weighted)


def test_the_total_correlation_of_the_whole_set_is_the_integral() -> None:
    """KL(q(z) || q(z_1) q(z_2)) of the mixture of six Gaussians, on a grid."""
    grid = np.linspace(-8, 9, 1201)
    cell = (grid[1] - grid[0]) ** 2
    single = np.array(
        [[[math.exp(log_normal(v, LOC[n][d], LOG_SCALE[n][d])) for v in grid] for d in range(2)] for n in range(6)]
    )
    joint = np.einsum("na,nb->ab", single[:, 0], single[:, 1]) / 6
    product = np.outer(single[:, 0].mean(0), single[:, 1].mean(0))
    exact = float((joint * (np.log(joint + 1e-300) - np.log(product + 1e-300))).sum() * cell)
    inference = drawn(range(6), draws=8000)
    log_joint, each = log_aggregate_density(inference, 6)
    found = (log_joint - each.sum(-1)).mean(1)  # one draw of each example
    assert exact > 0.05
    assert abs(float(found.mean()) - exact) < 4 * float(found.std()) / len(found) ** 0.5


@pytest.mark.parametrize("name", ["dip-vae-i", "dip-vae-ii"])
def test_the_penalties_of_a_covariance_equal_a_double_loop(name: str) -> None:
    count, case = 9, Case(name)
    model, (x, _) = case.build(torch.float64, latent=3, lambda_od=2.0, lambda_d=5.0), case.inputs(count, torch.float64)
    elbo, posterior = model(x), model.encode(x)
    means, variances = posterior.mean.tolist(), posterior.variance.tolist()
    off_diagonal, diagonal = 0.0, 0.0
    for i, j in itertools.product(range(3), repeat=2):
        center = [math.fsum(row[d] for row in means) / count for d in (i, j)]
        entry = math.fsum((row[i] - center[0]) * (row[j] - center[1]) for row in means) / count
        entry += math.fsum(row[i] for row in variances) / count if i == j and name == "dip-vae-ii" else 0.0
        diagonal += (entry - 1) ** 2 if i == j else 0.0
        off_diagonal += 0.0 if i == j else entry**2
    np.testing.assert_allclose(elbo.terms["off_diagonal"], [off_diagonal] * count)
    np.testing.assert_allclose(elbo.terms["diagonal"], [diagonal] * count)
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + elbo.rate + 2.0 * off_diagonal + 5.0 * diagonal)


def test_the_covariance_of_the_aggregate_posterior_is_that_of_its_draws() -> None:
    """For the whole set, by numpy."""
    inference = drawn(range(6), draws=40_000)
    found = covariance(inference, draws=True)
    sampled = np.cov(inference.z.reshape(-1, 2).numpy().T, bias=True)
    np.testing.assert_allclose(found.numpy(), sampled, atol=0.03)
