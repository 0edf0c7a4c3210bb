"""Figures of models against independent arithmetic."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

import vaezoo
from vaezoo.data import TEST_SEED, binarize, from_tensors, load_dataset
from vaezoo.errors import ConfigError, ContextError, DataError, ShapeError, SupportError
from vaezoo.evaluation import active_units, evaluate, evidence, perplexity
from vaezoo.evaluation.evidence import estimate


@pytest.fixture(scope="module")
def digits():
    return binarize(load_dataset("digits", "test"), "dynamic")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return vaezoo.create("vae", shape=(1, 8, 8), latent=2, backbone={"name": "mlp", "hidden": [16]}).eval()


def test_evidence_is_the_log_mean_weight_written_out(model, digits):
    few = digits.subset(range(3))
    got = evidence(model, few, samples=20_000, seed=1)
    x = few.batch(torch.arange(3))
    with torch.no_grad():
        posterior = model.encode(x)
        z = Normal(posterior.loc, posterior.log_scale.exp()).sample((20_000,))
        logits = model.decode(z).logits
        weights = Bernoulli(logits=logits).log_prob(x.expand_as(logits)).sum((2, 3, 4))
        weights += Normal(0.0, 1.0).log_prob(z).sum(-1)
        weights -= Normal(posterior.loc, posterior.log_scale.exp()).log_prob(z).sum(-1)
        expected = weights.logsumexp(0) - math.log(20_000)
    assert torch.allclose(got, expected, atol=0.05)


def test_evaluate_reports_what_it_measured(model, digits):
    heard = []
    report = evaluate(model, digits, samples=10, report=lambda done, total: heard.append((done, total)))
    assert (report.data, report.split, report.binarization) == ("digits", "test", "static")
    assert report.binarization_seed == TEST_SEED
    assert report.examples == len(digits)
    assert report.samples == 10
    assert heard[-1] == (len(digits), len(digits))
    x = digits.batch(torch.arange(len(digits)))
    mse = (model.reconstruct(x) - x).square().mean().item()
    assert report.psnr == pytest.approx(-10 * math.log10(mse), abs=1e-4)
    assert report.bound.mean == pytest.approx(-(report.distortion.mean + report.rate.mean), abs=1e-3)
    assert report.log_evidence.mean > report.bound.mean


def test_evaluate_repeats_itself(model, digits):
    assert evaluate(model, digits, samples=5) == evaluate(model, digits, samples=5)


def test_the_callers_random_state_is_left_alone(model, digits):
    before = torch.get_rng_state()
    evaluate(model, digits.subset(range(20)), samples=5)
    assert torch.equal(before, torch.get_rng_state())


def test_grey_pixels_have_no_bound_and_no_evidence(model):
    report = evaluate(model, "digits", samples=10, binarize="none")
    assert report.bound.mean is None
    assert report.log_evidence.mean is None
    assert report.samples == 0
    assert report.distortion.mean > 0
    with pytest.raises(SupportError, match="0 or 1"):
        evidence(model, load_dataset("digits", "test"), samples=2)


def test_standard_error_against_its_definition():
    values = torch.tensor([1.0, 2.0, 4.0, 9.0])
    got = estimate(values)
    assert got.mean == 4.0
    assert got.error == pytest.approx(values.double().std().item() / 2)
    assert estimate(torch.tensor([1.0, -math.inf])).mean is None


def test_active_units_counts_latents_whose_mean_moves(digits):
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=3, backbone={"name": "mlp", "hidden": []})
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
        model.encoder.network.head.weight[1, 20:44] = 1.0  # of six outputs the first three are means
    assert active_units(model, digits) == 1


def test_perplexity_of_known_histograms():
    assert perplexity(torch.arange(512)) == pytest.approx(512)
    assert perplexity(torch.zeros(100, dtype=torch.int64)) == pytest.approx(1)
    assert perplexity(torch.tensor([[0, 0], [7, 7]])) == pytest.approx(2)


def test_codes_report_perplexity_instead_of_active_units():
    model = vaezoo.create("vq-vae", shape=(1, 8, 8), codes=16)
    report = evaluate(model, "digits", samples=3)
    assert report.active_units is None
    assert 1 <= report.perplexity <= 16
    assert report.log_evidence.mean == pytest.approx(report.bound.mean, abs=1e-3)


def test_conditional_models_take_the_labels(digits):
    model = vaezoo.create("cvae", shape=(1, 8, 8), latent=2, context=10)
    assert evaluate(model, digits, samples=2).examples == len(digits)
    with pytest.raises(ContextError, match="no labels"):
        evaluate(model, torch.zeros(4, 1, 8, 8), samples=2)
    assert evaluate(model, (torch.zeros(4, 1, 8, 8), torch.arange(4)), samples=2).examples == 4


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: evaluate(m, "digits", samples=-1), ConfigError, "samples = -1"),
        (lambda m: evaluate(m, "digits", limit=0), DataError, "limit = 0"),
        (lambda m: evaluate(m, torch.zeros(4, 1, 9, 9)), ShapeError, r"\(1, 8, 8\)"),
        (lambda m: evaluate(m, from_tensors(torch.full((2, 1, 8, 8), 2.0)), samples=1), SupportError, "from 2 to 2"),
        (lambda m: evaluate(m, "digits", binarize="sometimes"), ConfigError, "sometimes"),
    ],
)
def test_bad_calls_say_what_is_wrong(model, call, error, words):
    with pytest.raises(error, match=words):
        call(model)
