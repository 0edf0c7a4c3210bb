"""Scores of unusual examples by hand, and the separation of two sets as by scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

import vaezoo
from vaezoo.core import VAE, seeded
from vaezoo.data import from_tensors
from vaezoo.errors import ConfigError, DataError, ShapeError
from vaezoo.evaluation import anomaly_scores, detection, threshold_of
from vaezoo.evaluation.estimates import evidence

SHAPE = (1, 8, 8)
X = (torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(0)) > 0.5).float()


def model_of(variant: str, **options: object) -> VAE:
    torch.manual_seed(0)
    return vaezoo.create(variant, shape=SHAPE, **options).eval()


def test_terms_are_means_over_draws_in_nats() -> None:
    model = model_of("vae", latent=3)
    posterior = model.encode(X)
    rate = 0.5 * (posterior.mean.square() + posterior.stddev.square() - 1 - 2 * posterior.stddev.log()).sum(1)
    torch.testing.assert_close(anomaly_scores(model, X, "rate"), rate.double(), rtol=1e-5, atol=1e-6)
    with seeded(5), torch.no_grad():
        wanted = torch.stack([model(X).distortion for _ in range(4)]).double().mean(0)
    found = anomaly_scores(model, X, "distortion", samples=4, seed=5)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    bound = anomaly_scores(model, X, samples=4, seed=5)
    torch.testing.assert_close(bound, wanted + rate.double(), rtol=1e-5, atol=1e-5)
    assert torch.equal(anomaly_scores(model, X, "evidence", samples=9, seed=2), -evidence(model, X, 9, seed=2).double())


def test_typicality_is_the_distance_from_the_mean_of_the_reference() -> None:
    model, other = model_of("vae", latent=3), X.flip(2)
    found = anomaly_scores(model, X, "typicality", reference=other, samples=3)
    usual = anomaly_scores(model, other, samples=3).mean()
    torch.testing.assert_close(found, (anomaly_scores(model, X, samples=3) - usual).abs())


def test_training_images_that_are_drawn_in_each_epoch_are_drawn_once() -> None:
    model = model_of("vae", latent=3)
    model.config["data"] = {"name": "mine", "binarize": "dynamic"}
    gray = from_tensors(torch.rand(9, *SHAPE), "mine", split="train")
    found = anomaly_scores(model, X, "typicality", reference=gray)
    assert bool(found.isfinite().all())
    assert bool(anomaly_scores(model, gray, "evidence", samples=3).isfinite().all())


@pytest.mark.parametrize("variant", ["ladder-vae", "top-down-vae"])
def test_likelihood_ratios_are_differences_of_two_bounds(variant: str) -> None:
    """A loop over levels draws those that are left out from the prior."""
    model = model_of(variant)
    posterior = model.encoder(X, None)
    path, count = posterior.path, len(posterior.path.sizes)
    found = anomaly_scores(model, X, "likelihood-ratio", samples=3, levels=1, seed=4)
    bounds = []
    with seeded(4), torch.no_grad():
        for left_out in (0, 1):
            total = torch.zeros(len(X))
            for _ in range(3):
                state, rate = path.start(len(X), None), torch.zeros(len(X))
                for level in range(count):
                    prior, state = path.prior(level, state, None)
                    q = prior if level == count - 1 and left_out else posterior.propose(level, state, prior)
                    z = q.rsample()
                    ratio = torch.distributions.kl_divergence(q, prior)
                    rate, state = rate + ratio, path.update(level, state, z, None)
                total += model.decoder.decode_state(state.unsqueeze(0), None).log_prob(X).squeeze(0) - rate
            bounds.append(total / 3)
    torch.testing.assert_close(found.float(), bounds[0] - bounds[1], rtol=1e-4, atol=1e-3)
    assert bool((found.abs() > 1e-4).any())


@pytest.mark.parametrize(
    ("variant", "options", "words"),
    [
        ("vae", {"score": "surprise"}, "expected one of bound, evidence"),
        ("vae", {"score": "typicality"}, "without a reference"),
        ("vae", {"score": "rate", "reference": X}, "with a reference"),
        ("vae", {"score": "likelihood-ratio"}, "no levels"),
        ("ladder-vae", {"score": "likelihood-ratio", "levels": 9}, "fewer levels"),
        ("vae", {"samples": 0}, "samples"),
    ],
)
def test_wrong_scores_are_refused(variant: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        anomaly_scores(model_of(variant), X, **options)  # type: ignore[arg-type]  # by name


def test_data_without_a_density_are_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        anomaly_scores(model_of("vae", latent=2), 0.5 * X)


@pytest.mark.parametrize("ties", [False, True])
def test_separation_equals_that_of_scikit_learn(ties: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    usual, unusual = torch.randn(200, generator=generator), torch.randn(80, generator=generator) + 1
    if ties:
        usual, unusual = usual.round(), unusual.round()
    found = detection(usual, unusual)
    labels, scores = np.r_[np.zeros(200), np.ones(80)], torch.cat([usual, unusual]).numpy()
    assert found.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert found.aupr == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert found.fpr95 == pytest.approx(false[true >= 0.95][0], abs=1e-9)


def test_separation_of_equal_and_of_apart_scores() -> None:
    apart = detection(torch.zeros(5), torch.ones(3))
    assert (apart.auroc, apart.aupr, apart.fpr95) == (1.0, 1.0, 0.0)
    equal = detection(torch.ones(6), torch.ones(2))
    assert (equal.auroc, equal.aupr, equal.fpr95) == (0.5, 0.25, 1.0)
    assert detection(torch.ones(5), torch.zeros(3)).auroc == 0


def test_invalid_scores_are_refused() -> None:
    with pytest.raises(ShapeError, match="two vectors"):
        detection(torch.zeros(2, 2), torch.zeros(3))
    with pytest.raises(DataError, match="NaN"):
        detection(torch.tensor([torch.nan]), torch.zeros(3))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        threshold_of(torch.zeros(3), 5.0)
    with pytest.raises(ShapeError, match="vector"):
        threshold_of(torch.zeros(0))


def test_the_threshold_leaves_a_share_of_usual_examples_above_it() -> None:
    scores = torch.arange(200.0)
    limit = threshold_of(scores, 0.05)
    assert int((scores > limit).sum()) in (9, 10)
