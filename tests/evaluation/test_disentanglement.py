"""MIG, FactorVAE score, total correlation and clustering accuracy against closed forms and other implementations."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

import vaezoo
from vaezoo.data import Factors, from_tensors, load_dataset
from vaezoo.errors import ConfigError, DataError, ShapeError
from vaezoo.evaluation import (
    cluster,
    clustering_accuracy,
    disentanglement,
    factor_vae_score,
    gaussian_total_correlation,
    mutual_information_gap,
    paired_difference,
    representation,
)

SHAPE, SIZES = (1, 8, 8), (3, 4, 5)
EVERY = torch.cartesian_prod(*(torch.arange(size) for size in SIZES)).repeat(60, 1)  # (3600, 3), uniform
FACTORS = Factors.of(EVERY, ["a", "b", "c"])
TABLE = from_tensors(EVERY / 10.0, "table", factors=FACTORS, split="test")


def rotated(angle: float) -> torch.Tensor:
    """Returns the factors, of variance 1 each, with the first two rotated into each other."""
    z = (EVERY - EVERY.double().mean(0)) / EVERY.double().std(0)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    return torch.cat([z[:, :2] @ turn.T, z[:, 2:]], 1)


class TestMutualInformationGap:
    def test_known_values(self) -> None:
        for order in ([0, 1, 2], [2, 0, 1]):
            assert mutual_information_gap(-3.0 * EVERY[:, order], FACTORS) == pytest.approx(1, abs=1e-9)
        twice = torch.cat([EVERY, EVERY[:, :1]], 1)  # two latents with the same information
        assert mutual_information_gap(twice, FACTORS) == pytest.approx(2 / 3, abs=1e-9)
        assert mutual_information_gap(torch.randn(len(EVERY), 3), FACTORS) < 0.005
        assert mutual_information_gap(torch.ones(len(EVERY), 3), FACTORS) == 0
        constant = torch.cat([EVERY, torch.zeros(len(EVERY), 1, dtype=torch.int64)], 1)
        assert mutual_information_gap(EVERY, Factors.of(constant, "abcd")) == pytest.approx(1)
        values = torch.arange(40).repeat(10)[:, None]  # more values than intervals
        score = mutual_information_gap(values.double(), Factors.of(values, ["turn"]))
        assert score == pytest.approx(math.log(20) / math.log(40), abs=1e-9)
        assert mutual_information_gap(values.double(), Factors.of(values, ["turn"]), bins=40) == pytest.approx(1)

    def test_rotated_latents_lose_the_share_of_their_factors_as_by_scikit_learn(self) -> None:
        scores = [mutual_information_gap(rotated(angle), FACTORS) for angle in (0.0, 0.1, math.pi / 4)]
        assert scores[0] == pytest.approx(1) and 0.5 < scores[1] < 0.8
        assert scores[2] == pytest.approx(1 / 3)  # both latents have the information of both factors
        # That of scikit-learn's mutual information:
        z = EVERY.double() @ torch.tensor([[1.0, 0.2, 0.0], [0.3, 1.0, 0.4], [0.0, 0.1, 1.0]]).double()
        z += 0.5 * torch.randn_like(z)
        gaps = []
        for k in range(3):
            informations = []
            for column in z.T.numpy():
                edges = np.linspace(column.min(), column.max(), 13)
                informations.append(mutual_info_score(EVERY[:, k], np.digitize(column, edges[1:-1])))
            informations.sort()
            gaps.append((informations[-1] - informations[-2]) / math.log(SIZES[k]))
        assert mutual_information_gap(z, FACTORS, bins=12) == pytest.approx(np.mean(gaps), abs=1e-9)


class TestFactorVAEScore:
    def test_known_values(self) -> None:
        assert factor_vae_score(EVERY[:, [1, 2, 0]], FACTORS) == 1
        assert factor_vae_score(torch.cat([EVERY, torch.randn(len(EVERY), 4)], 1), FACTORS) == 1
        assert factor_vae_score(torch.randn(len(EVERY), 10), FACTORS, votes=5000) == pytest.approx(1 / 3, abs=0.04)
        collapsed = torch.cat([EVERY, 0.1 * torch.randn(len(EVERY), 5)], 1)
        assert factor_vae_score(collapsed, FACTORS) == 1
        assert factor_vae_score(0.01 * torch.randn(len(EVERY), 5), FACTORS) == pytest.approx(1 / 3)

    def test_rotated_latents_and_factors_without_a_latent_lower_the_score(self) -> None:
        mixed = rotated(0.0) @ torch.linalg.qr(torch.randn(3, 3).double()).Q
        assert factor_vae_score(mixed, FACTORS) < 0.9
        # "a" is always found. With "b" or "c" fixed neither latent varies less, so that noise has about half the votes.
        z = torch.cat([EVERY[:, :1].double(), torch.randn(len(EVERY), 1).double()], 1)
        scores = [factor_vae_score(z, FACTORS, votes=4000, seed=seed) for seed in range(3)]
        assert min(scores) > 0.4 and max(scores) < 0.67

    @pytest.mark.full
    def test_it_equals_a_loop_over_votes(self) -> None:
        """Votes counted one by one in plain Python agree up to the noise of the draws."""
        z = (EVERY + 1.5 * torch.randn(len(EVERY), 3)).double()
        variance, generator = z.var(0).numpy(), np.random.default_rng(0)
        tallies, right = Counter[tuple[int, int]](), 0
        for number in range(4000):
            k = int(generator.integers(3))
            value = int(generator.integers(SIZES[k]))
            rows = generator.choice(np.flatnonzero(EVERY[:, k].numpy() == value), 64)
            vote = int((z[rows].numpy().var(0, ddof=1) / variance).argmin())
            if number < 2000:
                tallies[vote, k] += 1
            else:
                right += max(range(3), key=lambda each: tallies[vote, each]) == k
        assert factor_vae_score(z, FACTORS, votes=2000) == pytest.approx(right / 2000, abs=0.05)


class TestTotalCorrelation:
    @pytest.mark.parametrize("rho", [0.0, 0.5, -0.9])
    def test_two_latents_against_the_formula_and_four_against_the_divergence(self, rho: float) -> None:
        white = torch.randn(500, 2).double()
        white -= white.mean(0)
        white = white @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(white.T))).T  # covariance exactly 1
        z = torch.stack([white[:, 0], rho * white[:, 0] + math.sqrt(1 - rho**2) * white[:, 1]], 1)
        expected = -0.5 * math.log(1 - rho**2)
        assert gaussian_total_correlation(z) == pytest.approx(expected, abs=1e-9)
        assert gaussian_total_correlation(z * torch.tensor([100.0, -0.01]) + 3) == pytest.approx(expected, abs=1e-9)
        constant = torch.cat([z, torch.full((500, 1), 0.5)], 1)
        assert gaussian_total_correlation(constant) == pytest.approx(expected, abs=1e-9)
        assert gaussian_total_correlation(torch.cat([z, z[:, :1]], 1)) > 10
        assert gaussian_total_correlation(z[:, :1]) == 0
        z = torch.randn(4000, 4).double() @ torch.randn(4, 4).double()
        covariance, zeros = torch.cov(z.T), torch.zeros(4).double()
        joint = torch.distributions.MultivariateNormal(zeros, covariance)
        product = torch.distributions.MultivariateNormal(zeros, torch.diag(covariance.diag()))
        expected = torch.distributions.kl_divergence(joint, product).item()
        assert gaussian_total_correlation(z) == pytest.approx(expected, abs=1e-8)


class TestDisentanglement:
    def test_functions_to_tensors_or_distributions(self) -> None:
        found = disentanglement(lambda x: x * 10, TABLE, examples=3000)
        assert (found.data, found.split, found.examples, found.latents) == ("table", "test", 3000, 3)
        assert found.mig == pytest.approx(1, abs=0.01) and found.factor_vae_score == 1
        assert found.total_correlation == found.total_correlation_active < 0.01
        assert found.chance == pytest.approx(1 / 3) and found.active == 3
        assert found == disentanglement(lambda x: torch.distributions.Normal(x * 10, 1.0), TABLE, examples=3000)

    def test_models_by_the_centers_of_their_posteriors(self) -> None:
        model = vaezoo.create("vae", shape=(3,), latent=2, likelihood="gaussian").eval()
        with torch.no_grad():
            expected = model.encode(EVERY[:700].float() / 10).mean.double()
        assert torch.allclose(representation(model, TABLE.subset(range(700))), expected, atol=1e-6)
        assert disentanglement(model, TABLE).examples == len(EVERY)

    @pytest.mark.parametrize(
        ("call", "error", "words"),
        [
            (lambda: disentanglement(lambda x: x, load_dataset("digits")), DataError, "no ground-truth factors"),
            (lambda: disentanglement(lambda x: x, TABLE, examples=1), DataError, "at least 2"),
            (lambda: disentanglement(lambda x: x[:3], TABLE), ShapeError, "row for each"),
            (lambda: disentanglement(lambda x: "z", TABLE), ShapeError, "str"),
            (lambda: disentanglement(lambda x: x / 0, TABLE), DataError, "NaN"),
            (lambda: disentanglement(lambda x: x, TABLE.subset([0, 0])), DataError, "do not vary"),
            (lambda: mutual_information_gap(EVERY[:5], FACTORS), ShapeError, "3600"),
            (lambda: mutual_information_gap(EVERY * math.nan, FACTORS), DataError, "NaN"),
            (lambda: mutual_information_gap(EVERY, FACTORS, bins=1), ConfigError, "bins = 1"),
            (lambda: factor_vae_score(EVERY, FACTORS, group=1), ConfigError, "group = 1"),
            (lambda: factor_vae_score(torch.randn(5, 2), Factors.of(torch.arange(5)[:, None], "x")), DataError, "'x'"),
            (lambda: gaussian_total_correlation(torch.zeros(4)), ShapeError, "(N, D)"),
            (lambda: representation(vaezoo.create("vq-vae", shape=SHAPE), load_dataset("digits")), ShapeError, "codes"),
        ],
    )
    def test_invalid_calls(self, call, error, words) -> None:
        with pytest.raises(error, match=words):
            call()


class TestClusters:
    def test_the_assignment_is_the_best_of_all(self) -> None:
        for seed in range(8):
            generator = torch.Generator().manual_seed(seed)
            labels = torch.randint(4, (60,), generator=generator)
            clusters = torch.where(torch.rand(60, generator=generator) < 0.5, (labels * 3 + 1) % 5, labels % 2)
            best = max(
                sum((labels == label)[clusters == name].sum().item() for name, label in enumerate(names) if label < 4)
                for names in itertools.permutations(range(5))
            )
            assert clustering_accuracy(clusters, labels) == pytest.approx(best / 60)
        labels = torch.randint(10, (500,))
        assert clustering_accuracy(torch.randperm(1000)[:10][labels], labels) == 1
        assert clustering_accuracy(torch.arange(500), labels) == 10 / 500  # at most one class for each cluster
        for pair in ((torch.rand(3), torch.arange(3)), (torch.arange(3), torch.arange(4)), (torch.arange(0),) * 2):
            with pytest.raises(ShapeError, match="whole numbers"):
                clustering_accuracy(*pair)

    def test_clusters_of_a_mixture_prior(self) -> None:
        data = load_dataset("digits", "test")
        with pytest.raises(ConfigError, match="mixture"):
            cluster(vaezoo.create("vae", shape=(1, 8, 8), latent=2), data)
        model = vaezoo.create("vade", shape=(1, 8, 8), latent=2).eval()
        x = data.batch(torch.arange(len(data)))
        with torch.no_grad():
            model.encoder.network.head.bias[2:] = -5.0  # log σ: samples are close to the means
            model.initialize([(x, None)], ["prior"])
            z, prior = model.encode(x).mean, model.prior()
            parts = prior.components
            square = ((z[:, None] - parts.loc) / parts.stddev).square() / 2 + parts.log_scale
            expected = (prior.log_weights - square.sum(2)).argmax(1)
        assert torch.equal(cluster(model, data), expected)
        assert len(expected.unique()) > 5
        report = vaezoo.evaluate(model, data, samples=0)
        assert report.clustering_accuracy == clustering_accuracy(expected, data.labels) > 0.2
        assert report.as_dict()["clustering_accuracy"] == report.clustering_accuracy
        unlabeled = replace(data, labels=torch.full_like(data.labels, -1))
        assert "clustering_accuracy" not in vaezoo.evaluate(model, unlabeled, samples=0).as_dict()


def test_a_paired_difference_has_its_own_standard_error() -> None:
    first, second = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.0, 2.0, 1.0])
    got = paired_difference(first, second)
    assert got.mean == pytest.approx(2.0)
    assert got.error == pytest.approx(math.sqrt(((1 - 2) ** 2 + (0 - 2) ** 2 + (5 - 2) ** 2) / 2 / 3))
    with pytest.raises(ShapeError, match="same examples"):
        paired_difference(torch.zeros(3), torch.zeros(4))
