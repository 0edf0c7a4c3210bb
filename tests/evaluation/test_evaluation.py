"""`evaluate`, its metrics and their registry, against independent arithmetic."""

import inspect
import math
from functools import partial

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

import vaezoo
from vaezoo import evaluation
from vaezoo.data import TEST_SEED, Factors, binarize, from_tensors, load_dataset
from vaezoo.errors import ConfigError, ContextError, DataError, ShapeError, SupportError
from vaezoo.evaluation import Estimate, Measurement, Metric, active_units, evaluate, evidence, perplexity
from vaezoo.evaluation.metric import metrics
from vaezoo.evaluation.report import measured
from vaezoo.evaluation.test_sets import limited
from vaezoo.evaluation.test_sets import test_set as set_for
from vaezoo.storage.model_card import figures_table, model_card
from vaezoo.workflows import comparison, listing


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


def test_report_of_a_model(model, digits):
    progress, state = [], torch.get_rng_state()
    report = evaluate(model, digits, samples=10, report=lambda done, total: progress.append((done, total)))
    assert torch.equal(state, torch.get_rng_state())
    assert report == evaluate(model, digits, samples=10)
    assert (report.data, report.split, report.binarization) == ("digits", "test", "static")
    assert (report.binarization_seed, report.examples, report.samples) == (TEST_SEED, len(digits), 10)
    done, totals = zip(*progress, strict=True)
    assert {*totals} == {10 * len(digits)} and done[-1] == 10 * len(digits)
    assert list(done) == sorted(done) and len({*done}) > 20  # the decoder is called more often than for each batch
    x = digits.batch(torch.arange(len(digits)))
    mse = (model.reconstruct(x) - x).square().mean().item()
    assert report.psnr == pytest.approx(-10 * math.log10(mse), abs=1e-4)
    assert report.bound.mean == pytest.approx(-(report.distortion.mean + report.rate.mean), abs=1e-3)
    assert report.log_evidence.mean > report.bound.mean
    assert report.active_units == active_units(model, digits)
    lines = repr(report).splitlines()
    assert f"  bound, nats: {report.bound.mean:.2f} ± {report.bound.error:.2f}" in lines and len(lines) < 15
    assert f"<td>bound, nats</td><td>{report.bound.mean:.2f} ± {report.bound.error:.2f}</td>" in report._repr_html_()
    stored = report.as_dict()
    assert set(stored) == {  # the keys of metrics.json
        "data", "split", "binarization", "binarization_seed", "examples", "samples", "seed", "latents", "bound",
        "distortion", "rate", "log_evidence", "psnr", "active_units", "perplexity", "parameters", "measure", "weights",
        "bits_per_dimension", "effective_samples", "mean_psnr",
    }  # fmt: skip
    assert stored["bound"] == {"mean": report.bound.mean, "error": report.bound.error} and stored["perplexity"] is None
    with pytest.raises(AttributeError, match="'fid'"):
        _ = report.fid


def test_a_part_of_a_sorted_set_is_a_fixed_random_one(model):
    """Of 4,000 examples, sorted by class, 400 have both classes in the share of the whole, within 4 standard errors."""
    labels = torch.arange(4_000) // 3_000
    images = (torch.arange(4_000)[:, None] % torch.tensor([251, 256])).to(torch.uint8)
    whole = from_tensors((images, labels), name="sorted")
    part, seed = limited(whole, 400)
    deviation = math.sqrt(0.25 * 0.75 / 400 * (1 - 400 / 4_000))  # of a draw without replacement
    assert seed == 0 and abs(part.labels.double().mean().item() - 0.25) < 4 * deviation
    places = {tuple(row.tolist()): place for place, row in enumerate(whole.images)}
    chosen = [tuple(row.tolist()) for row in part.images]
    assert len(places) == 4_000 and len(set(chosen)) == 400  # each at most once
    assert torch.equal(limited(whole, 100)[0].images, part.images[:100])
    again, other = (limited(from_tensors((images.flip(0), labels)), 400, seed)[0] for seed in (0, 1))
    assert torch.equal(again.images, whole.images.flip(0)[[places[row] for row in chosen]])  # the same places
    assert not torch.equal(other.images, again.images)
    assert limited(whole, None) == limited(whole, 4_000) == limited(whole, 9_999) == (whole, None)


def test_a_report_on_a_part_states_its_seed_and_keeps_the_bits_of_each_image(model, digits):
    report = evaluate(model, "digits", samples=0, limit=20, binarize="dynamic")
    chosen, seed = limited(digits, 20)  # binarized as a whole
    x = chosen.batch(torch.arange(20))
    assert report.examples == 20 and report.subset_seed == seed == report.as_dict()["subset_seed"] == 0
    error = (model.reconstruct(x) - x).square().mean().item()
    assert report.psnr == pytest.approx(-10 * math.log10(error), abs=1e-4)
    assert f"Measured on 20 test images of digits, chosen with seed {seed}, binarized" in figures_table(
        report.as_dict()
    )
    assert evaluate(model, "digits", samples=0).subset_seed is None


def test_estimates_have_standard_errors_and_gray_pixels_have_no_bound_and_no_evidence(model):
    values = torch.tensor([1.0, 2.0, 4.0, 9.0])
    assert Estimate.of(values) == Estimate(mean=4.0, error=pytest.approx(values.double().std().item() / 2))
    assert Estimate.of(torch.tensor([1.0, -math.inf])).mean is None
    report = evaluate(model, "digits", samples=10, binarize="none")
    assert report.bound.mean is None and report.log_evidence.mean is None
    assert report.samples == 0 and report.distortion.mean > 0 and report.measure == "loss"
    lines = figures_table(report.as_dict()).splitlines()
    assert "| log-evidence, nats | – |" in lines and "K = 0" not in "".join(lines)
    assert lines[-1].startswith(
        "No bound and no log-evidence: the Bernoulli likelihood gives no probability to 360 of 360"
    )
    with pytest.raises(SupportError, match="0 or 1"):
        evidence(model, load_dataset("digits", "test"), samples=2)


@pytest.mark.parametrize(
    ("likelihood", "measure"),
    [
        ("bernoulli", "mass"),
        ("discretized-logistic", "mass"),
        ("gaussian", "density"),
        ("continuous-bernoulli", "density"),
    ],
)
def test_bits_per_dimension_of_masses_alone(likelihood, measure):
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=2, likelihood=likelihood)
    binary = likelihood == "bernoulli"
    x = torch.randint(2 if binary else 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    report = evaluate(model, from_tensors(x if not binary else x.float()), samples=3)
    assert (report.measure, report.reason) == (measure, "")
    if measure == "density":
        assert report.bits_per_dimension is None and "bits_per_dimension" not in report.as_dict()
        return
    assert report.bits_per_dimension.mean == pytest.approx(-report.bound.mean / 64 / math.log(2), rel=1e-5)
    assert report.bits_per_dimension.error == pytest.approx(report.bound.error / 64 / math.log(2), rel=1e-4)
    levels = 2 if binary else 256  # the probabilities of all values of a single pixel add up to 1
    pixel = vaezoo.create("vae", shape=(1, 1, 1), latent=2, likelihood=likelihood).decode(torch.zeros(1, 2))
    values = (torch.arange(levels) / (levels - 1)).reshape(levels, 1, 1, 1)
    assert pixel.log_prob(values).exp().sum().item() == pytest.approx(1.0, abs=1e-4)


def test_effective_samples_are_those_of_the_weights(model, digits):
    few = digits.subset(range(20))
    report = evaluate(model, few, samples=50, seed=3)
    x = few.batch(torch.arange(20))
    torch.manual_seed(3)
    with torch.no_grad():
        weights = torch.cat([model.infer(each, None, 50).log_weights() for each in x.split(10)], 1).double().softmax(0)
    assert report.effective_samples == pytest.approx((1 / weights.square().sum(0)).mean().item() / 50, rel=1e-4)
    assert "| effective samples (of K = 50) |" in figures_table(report.as_dict())
    codes = vaezoo.create("vq-vae", shape=(1, 8, 8), codes=16)
    assert evaluate(codes, "digits", samples=7).effective_samples == 1.0  # all draws are equal: the evidence is exact
    assert evaluate(model, few, samples=0).effective_samples is None


def test_reasons_for_missing_figures(model, digits):
    assert evaluate(model, digits, samples=0).reason == "No log-evidence: it was left out (samples = 0)."
    point = vaezoo.create("ae", shape=(1, 8, 8), latent=2)
    found = evaluate(point, digits, samples=2)
    assert found.measure == "mass" and "point mass" in found.reason
    rounded = from_tensors(torch.arange(256).reshape(4, 1, 8, 8).float().div(255).bfloat16())
    logistic = vaezoo.create("vae", shape=(1, 8, 8), latent=2, likelihood="discretized-logistic")
    assert "multiples of 1/255" in evaluate(logistic, rounded, samples=2).reason
    own = vaezoo.create("vae", shape=(1, 8, 8), latent=2)
    own.decoder = WithoutLikelihood(own.decoder)
    assert evaluate(own, digits, samples=2).measure == "mass"  # by the support of the distribution


def test_half_precision_under_a_probability_mass_warns():
    model = vaezoo.create("vae", shape=(1, 2, 2), latent=2, likelihood="discretized-logistic")
    x = torch.tensor([1, 77, 128, 255]).reshape(1, 1, 2, 2) / 255
    for dtype in (torch.bfloat16, torch.float16):
        with pytest.warns(UserWarning, match="multiples of 1/255.*float32"):
            assert torch.isneginf(model(x.to(dtype)).bound).all()
    assert torch.isfinite(model(x).bound).all()


class WithoutLikelihood(torch.nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.decoders = torch.nn.ModuleList([decoder])

    def forward(self, z, c=None):
        pixels = self.decoders[0](z, c)
        return Independent(Bernoulli(logits=pixels.logits, validate_args=False), 3, validate_args=False)


def test_active_units_counts_latents_whose_mean_varies(digits):
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=3, backbone={"name": "mlp", "hidden": []})
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
        model.encoder.network.head.weight[1, 20:44] = 1.0  # the first three of six outputs are means
    assert active_units(model, digits) == 1


def test_perplexity_of_known_histograms_and_of_codes():
    assert perplexity(torch.arange(512)) == pytest.approx(512)
    assert perplexity(torch.zeros(100, dtype=torch.int64)) == pytest.approx(1)
    assert perplexity(torch.tensor([[0, 0], [7, 7]])) == pytest.approx(2)
    report = evaluate(vaezoo.create("vq-vae", shape=(1, 8, 8), codes=16), "digits", samples=3)
    assert report.active_units is None and 1 <= report.perplexity <= 16
    assert report.log_evidence.mean == pytest.approx(report.bound.mean, abs=1e-3)


def test_conditional_models_get_the_labels(digits):
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
        (lambda m: limited(load_dataset("digits", "test"), 5, seed=-1), DataError, "seed = -1"),
        (lambda m: evaluate(m, torch.zeros(4, 1, 9, 9)), ShapeError, r"\(1, 8, 8\)"),
        (lambda m: evaluate(m, from_tensors(torch.full((2, 1, 8, 8), 2.0)), samples=1), SupportError, "from 2 to 2"),
        (lambda m: evaluate(m, "digits", binarize="sometimes"), ConfigError, "sometimes"),
    ],
)
def test_invalid_calls(model, call, error, words):
    with pytest.raises(error, match=words):
        call(model)


def test_every_public_function_restores_the_mode_of_each_module(digits):
    few = digits.subset(range(12))
    factors = from_tensors(few.batch(torch.arange(12)), factors=Factors.of(torch.arange(12)[:, None] % 2, ["a"]))
    calls = {
        name: [few]
        for name in (
            "anomaly_scores",
            "evaluate",
            "active_units",
            "cluster",
            "embed",
            "fit_scale",
            "label_error",
            "latent_report",
            "path_lengths",
            "probe_accuracy",
            "rate_decomposition",
            "representation",
            "sample_quality",
        )
    } | {
        "disentanglement": [factors],
        "evidence": [few, 2],
        "frechet_distance": [few],
    }
    public = {name: getattr(evaluation, name) for name in evaluation.__all__}
    functions = {name: inspect.signature(each).parameters for name, each in public.items() if inspect.isfunction(each)}
    assert calls.keys() == {name for name, parameters in functions.items() if {"model", "source"} & parameters.keys()}
    for training in (True, False):
        model = vaezoo.create("vade", shape=(1, 8, 8), latent=2, likelihood="gaussian").train(training)
        model.decoder.train(not training)  # the mode of each module, not of the whole
        before = [module.training for module in model.modules()]
        for name, arguments in calls.items():
            public[name](model, *arguments, **({"samples": 2} if name == "evaluate" else {}))
            assert [module.training for module in model.modules()] == before, name


def test_a_registered_metric_appears_in_report_card_and_tables(digits, monkeypatch):
    @partial(Metric, label="ink", unit="%", digits=1, listed=True)
    def ink(measurement: Measurement) -> float | None:
        if measurement.model.context:
            return None
        return 100 * measurement.data.batch(torch.arange(len(measurement.data))).mean().item()

    with monkeypatch.context() as patched:
        for name in ("_entries", "_owners"):
            patched.setattr(metrics, name, {**getattr(metrics, name)})
        metrics.register("ink-share", ink)
        models = [vaezoo.create("vae", shape=(1, 8, 8), latent=2), vaezoo.create("cvae", shape=(1, 8, 8), context=10)]
        reports = [evaluate(model, digits, samples=0) for model in models]
        assert reports[0].ink_share == ink.compute(Measurement(model=models[0], data=digits, samples=0))
        assert reports[1].ink_share is None and "ink_share" not in reports[1].as_dict()
        text = f"{reports[0].ink_share:.1f}"
        stored = reports[0].as_dict()
        assert f"| ink, % | {text} |" in figures_table(stored)
        assert "ink" not in figures_table(reports[1].as_dict())
        assert "name: ink (%)" in model_card("mine", {**models[0].config, "data": None}, stored)
        facts = {"seeds": 1, "spread": None, "images_per_second": 1.0, "evidences": None, "statistics": ""}
        pairs = zip(reports, models, strict=True)
        rows = [comparison.Row(name="model", report=report, model=model, **facts) for report, model in pairs]
        assert comparison.table_of(rows).column("ink") == [text, "–"]
        assert "ink" not in comparison.table_of(rows[1:]).headings
        architecture = {"shape": [1, 8, 8], "context": 0}
        index = {"mine": {"variant": "vae", "architecture": architecture, "metrics": stored, "files": {}}}
        monkeypatch.setattr(listing, "read_index", lambda: index)
        monkeypatch.setattr(listing, "list_models", lambda *_: list(index))
        (table,) = listing.models()
        assert table.column("ink") == [text]
    assert "ink_share" not in evaluate(models[0], digits, samples=0).values


def test_small_shares_keep_a_digit_and_few_effective_draws_are_noted():
    shown = metrics.get("effective-samples").text
    assert [shown(each) for each in (1 / 5000, 0.00049, 0.0312, 0.5, 1.0, 0.0)] == [
        "0.02 %", "0.05 %", "3.1 %", "50.0 %", "100.0 %", "0.0 %"
    ]  # fmt: skip
    facts = {"data": "digits", "split": "test", "examples": 10, "samples": 5000, "bound": {"mean": -2.0}}
    facts["log_evidence"] = {"mean": -1.0, "error": 0.5}
    few = figures_table({**facts, "effective_samples": 1.3 / 5000}).splitlines()
    assert "| effective samples (of K = 5000) | 0.03 % |" in few
    assert few[-1].startswith("On average 1.3 of the 5,000 draws decide the log-evidence")
    assert "decide" not in figures_table({**facts, "effective_samples": 2.1 / 5000})


def test_rows_of_a_table_have_no_psnr_and_metrics_that_do_not_apply_are_left_out():
    torch.manual_seed(0)
    rows = vaezoo.create("vae", shape=(6,), latent=2, likelihood="gaussian", backbone={"name": "mlp", "hidden": [4]})
    report = evaluate(rows, from_tensors(torch.randn(20, 6)), samples=2)
    assert report.psnr is None and report.as_dict()["psnr"] is None
    text = repr(report)
    assert "active units" in text and not any(word in text for word in ("PSNR", "perplexity", "–"))


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_models_without_a_bound_are_compared_by_their_reconstructions_at_80_columns(binarize):
    torch.manual_seed(0)
    network = {"backbone": {"name": "mlp", "hidden": [4]}}
    pair = [vaezoo.create(name, shape=(1, 8, 8), latent=2, **network) for name in ("ae", "vae")]
    data = limited(set_for(pair[0], "digits", binarize=binarize), 20)[0]
    facts = {"seeds": 1, "spread": None, "images_per_second": 1.0, "statistics": ""}
    found = {}
    for name, each in zip(("ae-mnist", "vae-mnist"), pair, strict=True):
        report, evidences = measured(each, data, 3)
        found[name] = comparison.Row(name=name, report=report, model=each, evidences=evidences, **facts)
    table = comparison.table_of([*found.values()])
    shown = table.fitted(80)[0]
    assert shown.headings[:2] == ("model", "bound") if binarize == "dynamic" else shown.headings[1] == "distortion"
    for name, row in found.items():
        (line,) = [line for line in shown.rows if line[0] == name]
        assert f"{row.report.psnr:.2f}" in line and f"{row.report.distortion.mean:.2f}" in " ".join(line)
    assert sum(map(shown.least_width, shown.headings)) + 2 * (len(shown.headings) - 1) <= 80
    assert ("Binarizing the same images again" in " ".join(table.notes)) == (binarize == "dynamic")


def test_codebooks_that_no_gradient_trains_are_counted_beside_the_parameters(digits):
    torch.manual_seed(0)
    codes = vaezoo.create("vq-vae", shape=(1, 8, 8), latent=(3, 2, 2), codes=7)
    headline = repr(codes).splitlines()[0]
    parameters = sum(each.numel() for each in codes.parameters())
    assert headline.endswith(f"{parameters:,} parameters and 21 numbers in codebooks")  # 7 codes of 3 numbers
    report = evaluate(codes, digits.subset(range(4)), samples=0)
    assert (report.parameters, report.codebook_numbers) == (parameters, 21)
    assert "| numbers in codebooks | 21 |" in figures_table(report.as_dict())
    plain = vaezoo.create("vae", shape=(1, 8, 8), latent=2)
    assert repr(plain).splitlines()[0].endswith(" parameters")
    assert "codebook_numbers" not in evaluate(plain, digits.subset(range(4)), samples=0).as_dict()


def test_training_images_that_are_sampled_anew_in_training_are_sampled_once() -> None:
    torch.manual_seed(0)
    model = vaezoo.create("vae", shape=(1, 4, 4), latent=2).eval()
    model.config["data"] = {"name": "mine", "binarize": "dynamic"}
    gray = vaezoo.data.from_tensors(torch.rand(9, 1, 4, 4), "mine", split="train")
    found = vaezoo.evaluate(model, gray, samples=3)
    assert found.bound.mean is not None and found.binarization == "static"
    assert found.bound == vaezoo.evaluate(model, gray, samples=3).bound
    once = vaezoo.data.binarize(gray, "static")
    assert found.bound == vaezoo.evaluate(model, once, samples=3).bound
