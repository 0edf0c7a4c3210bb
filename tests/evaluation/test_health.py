"""Sentences on the health of a model, and bootstrap intervals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap
from support.cases import Case

import vaezoo
from vaezoo.cli import main
from vaezoo.errors import ConfigError, ShapeError, SupportError
from vaezoo.evaluation import bootstrap_interval, evaluate, evidence, findings


def test_an_interval_is_that_of_scipy() -> None:
    values = torch.randn(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 - 80
    low, high = bootstrap_interval(values)
    other = bootstrap((values.numpy(),), np.mean, method="percentile", n_resamples=2_000, rng=0).confidence_interval
    error = float(values.std()) / 300**0.5
    assert low == pytest.approx(other.low, abs=0.1 * error) and high == pytest.approx(other.high, abs=0.1 * error)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.06)  # of a normal mean
    assert bootstrap_interval(values, seed=1) != (low, high) == bootstrap_interval(values)
    inner = bootstrap_interval(values, level=0.5)
    assert low < inner[0] < inner[1] < high


def test_intervals_of_equal_values_and_invalid_ones() -> None:
    assert bootstrap_interval(torch.full((9,), 2.5)) == (2.5, 2.5)
    for values, error in (
        (torch.zeros(1), ShapeError),
        (torch.zeros(3, 2), ShapeError),
        (torch.tensor([1.0, torch.nan]), SupportError),
    ):
        with pytest.raises(error):
            bootstrap_interval(values)
    for options in ({"level": 1.0}, {"level": "a"}, {"resamples": 5}):
        with pytest.raises(ConfigError):
            bootstrap_interval(torch.randn(9), **options)


def test_a_report_has_the_interval_of_its_evidences() -> None:
    case = Case("vae")
    model, x = case.build(), case.inputs(50)[0]
    report = evaluate(model, x, samples=4, thorough=True, batch_size=50)
    assert report.evidence_interval == bootstrap_interval(evidence(model, x, 4, batch_size=50))
    assert report.as_dict()["evidence_interval"] == [*report.evidence_interval]
    low, high = report.evidence_interval
    assert low < report.log_evidence.mean < high
    assert f"log-evidence, 95 % interval, nats: {low:.2f}, {high:.2f}" in repr(report)


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"active_units": 0, "latents": 32}, "Posterior collapse: 0 of 32 latents are active"),
        ({"active_units": 8, "latents": 32}, "8 of 32 latents are active"),
        ({"effective_samples": 0.01, "samples": 100}, "On average 1.0 of the 100 draws"),
        ({"codes": 512, "used_codes": 100, "examples": 10_000}, "100 of 512 codes are in use"),
        ({"dead_channels": 3, "active_units": 9, "latents": 12}, "3 channels of the latents carry nothing"),
        ({"dead_channels": 1, "active_units": 9, "latents": 12}, "1 channel of the latents carries nothing"),
        ({"level_rates": [5.0, 0.01, 7.0]}, "Level 2 of 3 (1 is the top) has a rate of 0.01 nats"),
        ({"scale_at_floor": 0.25}, "25 % of the elements of x have a likelihood whose scale is at its lower limit"),
    ],
)
def test_each_problem_has_a_sentence_with_what_to_try(values: dict[str, object], start: str) -> None:
    (found,) = findings(values)
    assert found.startswith(start) and ("may help" in found or "." in found[:-1])


def test_healthy_figures_have_no_sentence() -> None:
    assert findings({}) == []
    assert findings(
        {"active_units": 16, "latents": 32, "effective_samples": 0.5, "samples": 100, "dead_channels": 0,
         "level_rates": [1.0, 2.0], "codes": 8, "used_codes": 8, "examples": 100}
    ) == []  # fmt: skip


def test_a_collapsed_model_and_a_scale_at_its_limit_are_found() -> None:
    case = Case("vae")
    model, x = case.build(), case.inputs(50)[0]
    with torch.no_grad():
        model.encoder.network.head.weight.zero_()
    (found,) = [each for each in evaluate(model, x, samples=0).health if "collapse" in each]
    assert "free_bits" in found
    constant = Case("vae", likelihood="gaussian=scale_kind:optimal")
    narrow = constant.build()
    with torch.no_grad():
        narrow.decoder.likelihood.log_scale.fill_(-13.8155)
    report = evaluate(narrow, torch.zeros(20, 1, 8, 8), samples=0)
    assert report.scale_at_floor == 1.0 and any("lower limit" in each for each in report.health)
    assert evaluate(constant.build(), torch.zeros(20, 1, 8, 8), samples=0).scale_at_floor is None


def test_channels_of_a_grid_without_signal_are_counted() -> None:
    case = Case("vae", backbone="conv")
    model, x = case.build(latent=[3, 2, 2]), case.inputs(30)[0]
    dead = evaluate(model, x, samples=0).dead_channels
    assert dead is not None and 0 <= dead <= model.latent[0]
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    assert evaluate(model, x, samples=0).dead_channels == model.latent[0]


def test_the_command_prints_the_health(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Case("vae").build(latent=2)
    with torch.no_grad():
        model.encoder.network.head.weight.mul_(20.0)  # both latents are active
    folder = str(vaezoo.save(model, tmp_path / "mine"))
    command = ["evaluate", folder, "--data", "digits", "--limit", "30", "--samples", "0", "--binarize", "static"]
    assert main(command) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Health: no problem found." in text and "path length" not in text
    assert main([*command, "--thorough", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["health"] == [] and record["path_length"]["mean"] > 0
    assert 0 <= record["linear_accuracy"] <= 1
