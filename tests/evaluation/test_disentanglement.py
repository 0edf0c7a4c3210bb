"""MIG, FactorVAE score, total correlation and clustering accuracy against closed forms and other implementations."""

import itertools
import math
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

SIZES = (3, 4, 5)
EVERY = torch.cartesian_prod(*(torch.arange(size) for size in SIZES)).repeat(60, 1)  # (3600, 3), each as often
FACTORS = Factors.of(EVERY, ["a", "b", "c"])


def rotated(angle: float) -> torch.Tensor:
    """Returns the factors, of variance 1 each, with the first two turned into each other."""
    z = (EVERY - EVERY.double().mean(0)) / EVERY.double().std(0)
    first, second = z[:, 0].clone(), z[:, 1].clone()
    z[:, 0] = math.cos(angle) * first - math.sin(angle) * second
    z[:, 1] = math.sin(angle) * first + math.cos(angle) * second
    return z


class TestGap:
    def test_latents_that_are_the_factors_score_one(self) -> None:
        for order in ([0, 1, 2], [2, 0, 1]):
            assert mutual_information_gap(-3.0 * EVERY[:, order], FACTORS) == pytest.approx(1, abs=1e-9)

    def test_a_factor_that_two_latents_tell_counts_nothing(self) -> None:
        twice = torch.cat([EVERY, EVERY[:, :1]], 1)
        assert mutual_information_gap(twice, FACTORS) == pytest.approx(2 / 3, abs=1e-9)

    def test_latents_of_chance_score_nothing(self) -> None:
        assert mutual_information_gap(torch.randn(len(EVERY), 3), FACTORS) < 0.005
        assert mutual_information_gap(torch.ones(len(EVERY), 3), FACTORS) == 0

    def test_turning_two_latents_into_each_other_costs_their_share(self) -> None:
        scores = [mutual_information_gap(rotated(angle), FACTORS) for angle in (0.0, 0.1, math.pi / 4)]
        assert scores[0] == pytest.approx(1) and 0.5 < scores[1] < 0.8
        assert scores[2] == pytest.approx(1 / 3)  # both latents tell both factors: the third alone counts

    def test_it_is_what_scikit_learn_makes_of_the_histograms(self) -> None:
        z = EVERY.double() @ torch.tensor([[1.0, 0.2, 0.0], [0.3, 1.0, 0.4], [0.0, 0.1, 1.0]]).double()
        z += 0.5 * torch.randn_like(z)
        gaps = []
        for k in range(3):
            told = []
            for column in z.T.numpy():
                edges = np.linspace(column.min(), column.max(), 13)
                told.append(mutual_info_score(EVERY[:, k], np.digitize(column, edges[1:-1])))
            told.sort()
            gaps.append((told[-1] - told[-2]) / math.log(SIZES[k]))
        assert mutual_information_gap(z, FACTORS, bins=12) == pytest.approx(np.mean(gaps), abs=1e-9)

    def test_more_values_than_intervals_cannot_be_told(self) -> None:
        values = torch.arange(40).repeat(10)[:, None]
        score = mutual_information_gap(values.double(), Factors.of(values, ["turn"]))
        assert score == pytest.approx(math.log(20) / math.log(40), abs=1e-9)
        assert mutual_information_gap(values.double(), Factors.of(values, ["turn"]), bins=40) == pytest.approx(1)

    def test_a_factor_of_one_value_is_left_out(self) -> None:
        values = torch.cat([EVERY, torch.zeros(len(EVERY), 1, dtype=torch.int64)], 1)
        assert mutual_information_gap(EVERY, Factors.of(values, "abcd")) == pytest.approx(1)


class TestScore:
    def test_latents_that_are_the_factors_score_one(self) -> None:
        assert factor_vae_score(EVERY[:, [1, 2, 0]], FACTORS) == 1
        assert factor_vae_score(torch.cat([EVERY, torch.randn(len(EVERY), 4)], 1), FACTORS) == 1

    def test_latents_of_chance_score_as_guessing(self) -> None:
        score = factor_vae_score(torch.randn(len(EVERY), 10), FACTORS, votes=5000)
        assert score == pytest.approx(1 / 3, abs=0.04)

    def test_a_factor_without_a_latent_is_guessed(self) -> None:
        # Held "a" is always found. Held "b" or "c": neither latent varies less, and the noise has the smaller relative
        # variance in about half of the groups; it then stands for one of the two.
        z = torch.cat([EVERY[:, :1].double(), torch.randn(len(EVERY), 1).double()], 1)
        score = factor_vae_score(z, FACTORS, votes=4000)
        share = [factor_vae_score(z, FACTORS, votes=4000, seed=seed) for seed in (1, 2)]
        assert min(score, *share) > 0.4 and max(score, *share) < 0.67

    def test_turning_all_latents_into_each_other_costs_much(self) -> None:
        mixed = rotated(0.0) @ torch.linalg.qr(torch.randn(3, 3).double()).Q
        assert factor_vae_score(mixed, FACTORS) < 0.9

    def test_collapsed_latents_have_no_vote(self) -> None:
        asleep = torch.cat([EVERY, 0.1 * torch.randn(len(EVERY), 5)], 1)
        assert factor_vae_score(asleep, FACTORS) == 1
        assert factor_vae_score(0.01 * torch.randn(len(EVERY), 5), FACTORS) == pytest.approx(1 / 3)

    def test_it_is_what_loops_over_votes_make_of_it(self) -> None:
        """Votes counted one by one in plain Python agree to the noise of the draws."""
        z = (EVERY + 1.5 * torch.randn(len(EVERY), 3)).double()
        variance, generator = z.var(0).numpy(), np.random.default_rng(0)
        tallies: dict[int, dict[int, int]] = {}
        right = 0
        for number in range(4000):
            k = int(generator.integers(3))
            value = int(generator.integers(SIZES[k]))
            rows = generator.choice(np.flatnonzero(EVERY[:, k].numpy() == value), 64)
            vote = int((z[rows].numpy().var(0, ddof=1) / variance).argmin())
            if number < 2000:
                tallies.setdefault(vote, {}).setdefault(k, 0)
                tallies[vote][k] += 1
            else:
                known = tallies.get(vote, {0: 1})
                right += max(known, key=known.__getitem__) == k
        assert factor_vae_score(z, FACTORS, votes=2000) == pytest.approx(right / 2000, abs=0.05)

    def test_no_two_alike_is_an_error(self) -> None:
        values = torch.arange(5)[:, None]
        with pytest.raises(DataError, match="'turn'"):
            factor_vae_score(torch.randn(5, 2), Factors.of(values, ["turn"]))


class TestCorrelation:
    @pytest.mark.parametrize("rho", [0.0, 0.5, -0.9])
    def test_two_latents_against_the_formula(self, rho: float) -> None:
        white = torch.randn(500, 2).double()
        white -= white.mean(0)
        white = white @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(white.T))).T  # of covariance 1 exactly
        z = torch.stack([white[:, 0], rho * white[:, 0] + math.sqrt(1 - rho**2) * white[:, 1]], 1)
        expected = -0.5 * math.log(1 - rho**2)
        assert gaussian_total_correlation(z) == pytest.approx(expected, abs=1e-9)
        assert gaussian_total_correlation(z * torch.tensor([100.0, -0.01]) + 3) == pytest.approx(expected, abs=1e-9)

    def test_it_is_the_divergence_of_the_gaussian_from_its_marginals(self) -> None:
        z = torch.randn(4000, 4).double() @ torch.randn(4, 4).double()
        covariance = torch.cov(z.T)
        zeros = torch.zeros(4).double()
        joint = torch.distributions.MultivariateNormal(zeros, covariance)
        product = torch.distributions.MultivariateNormal(zeros, torch.diag(covariance.diag()))
        expected = torch.distributions.kl_divergence(joint, product).item()
        assert gaussian_total_correlation(z) == pytest.approx(expected, abs=1e-8)

    def test_latents_that_are_still_say_nothing_and_copies_all(self) -> None:
        z = torch.randn(300, 2).double()
        alone = gaussian_total_correlation(z)
        assert gaussian_total_correlation(torch.cat([z, torch.full((300, 2), 0.5)], 1)) == pytest.approx(alone)
        assert gaussian_total_correlation(torch.cat([z, z[:, :1]], 1)) > 10
        assert gaussian_total_correlation(z[:, :1]) == 0


class TestOfSets:
    def data(self):
        return from_tensors(EVERY / 10.0, "table", factors=FACTORS, split="test")

    def test_any_function_can_be_measured(self) -> None:
        found = disentanglement(lambda x: x * 10, self.data(), examples=3000)
        assert (found.data, found.split, found.examples, found.latents) == ("table", "test", 3000, 3)
        assert found.mig == pytest.approx(1, abs=0.01) and found.factor_vae_score == 1
        assert found.total_correlation == found.total_correlation_active < 0.01
        assert found.chance == pytest.approx(1 / 3) and found.active == 3
        assert found == disentanglement(lambda x: x * 10, self.data(), examples=3000)
        normal = disentanglement(lambda x: torch.distributions.Normal(x * 10, 1.0), self.data(), examples=3000)
        assert normal == found

    def test_a_model_is_measured_by_its_posteriors_centres(self) -> None:
        model = vaezoo.create("vae", shape=(3,), latent=2, likelihood="gaussian").eval()
        with torch.no_grad():
            expected = model.encode(EVERY[:700].float() / 10).mean.double()
        got = representation(model, self.data().subset(range(700)))
        assert torch.allclose(got, expected, atol=1e-6)
        assert disentanglement(model, self.data()).examples == len(EVERY)

    @pytest.mark.parametrize(
        ("call", "error", "words"),
        [
            (lambda d: disentanglement(lambda x: x, load_dataset("digits")), DataError, "no ground-truth factors"),
            (lambda d: disentanglement(lambda x: x, d, examples=1), DataError, "at least 2"),
            (lambda d: disentanglement(lambda x: x[:3], d), ShapeError, "row for each"),
            (lambda d: disentanglement(lambda x: "z", d), ShapeError, "str"),
            (lambda d: disentanglement(lambda x: x / 0, d), DataError, "NaN"),
            (lambda d: disentanglement(lambda x: x, d.subset([0, 0])), DataError, "do not vary"),
            (lambda d: mutual_information_gap(EVERY[:5], FACTORS), ShapeError, "3600"),
            (lambda d: mutual_information_gap(EVERY * math.nan, FACTORS), DataError, "NaN"),
            (lambda d: mutual_information_gap(EVERY, FACTORS, bins=1), ConfigError, "bins = 1"),
            (lambda d: factor_vae_score(EVERY, FACTORS, group=1), ConfigError, "group = 1"),
            (lambda d: gaussian_total_correlation(torch.zeros(4)), ShapeError, "(N, D)"),
            (
                lambda d: disentanglement(
                    vaezoo.create("vq-vae", shape=(1, 8, 8), codes=4),
                    from_tensors(torch.rand(4, 1, 8, 8), factors=Factors.of(torch.tensor([[0], [0], [1], [1]]), "a")),
                ),
                ShapeError,
                "discrete codes",
            ),
        ],
    )
    def test_bad_calls_say_what_is_wrong(self, call, error, words) -> None:
        with pytest.raises(error, match=words):
            call(self.data())


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

    def test_names_do_not_matter(self) -> None:
        labels = torch.randint(10, (500,))
        names = torch.randperm(1000)[:10]
        assert clustering_accuracy(names[labels], labels) == 1
        assert clustering_accuracy(torch.zeros_like(labels), labels) == labels.bincount().max() / 500
        assert clustering_accuracy(torch.arange(500), labels) == 10 / 500  # each cluster for one class at most

    @pytest.mark.parametrize(
        "pair", [(torch.rand(3), torch.arange(3)), (torch.arange(3), torch.arange(4)), (torch.arange(0),) * 2]
    )
    def test_other_tensors_are_refused(self, pair) -> None:
        with pytest.raises(ShapeError, match="whole numbers"):
            clustering_accuracy(*pair)

    def test_a_mixture_prior_says_the_clusters(self) -> None:
        data = load_dataset("digits", "test")
        with pytest.raises(ConfigError, match="mixture"):
            cluster(vaezoo.create("vae", shape=(1, 8, 8), latent=2), data)
        model = vaezoo.create("vade", shape=(1, 8, 8), latent=2).eval()
        x = data.batch(torch.arange(len(data)))
        with torch.no_grad():
            model.encoder.network.head.bias[2:] = -5.0  # log σ: what it draws is where it is
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
        unlabelled = replace(data, labels=torch.full_like(data.labels, -1))
        assert "clustering_accuracy" not in vaezoo.evaluate(model, unlabelled, samples=0).as_dict()


class TestPairs:
    def test_the_difference_has_its_own_standard_error(self) -> None:
        first, second = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.0, 2.0, 1.0])
        got = paired_difference(first, second)
        assert got.mean == pytest.approx(2.0)
        assert got.error == pytest.approx(math.sqrt(((1 - 2) ** 2 + (0 - 2) ** 2 + (5 - 2) ** 2) / 2 / 3))

    def test_what_both_find_hard_cancels(self) -> None:
        hard = 30 * torch.randn(2000)
        got = paired_difference(hard + 1 + torch.randn(2000), hard)
        assert got.mean == pytest.approx(1, abs=0.1)
        assert got.error == pytest.approx(1 / math.sqrt(2000), rel=0.1)

    def test_only_figures_of_the_same_images(self) -> None:
        with pytest.raises(ShapeError, match="same examples"):
            paired_difference(torch.zeros(3), torch.zeros(4))
