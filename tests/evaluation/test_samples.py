"""Samples of a learned prior over codes, judged by a classifier that was trained on MNIST alone."""

import math
import sys
from pathlib import Path

import pytest
import torch

import vaezoo
from vaezoo.data import bundled_images, load_dataset
from vaezoo.registry import create

FOLDER = str(Path(__file__).resolve().parents[2] / "benchmarks")
sys.path.insert(0, FOLDER)
try:
    from samples import accuracy, classifier, drawn, figures, sureness, under_uniform_codes
finally:
    sys.path.remove(FOLDER)


@pytest.mark.full
def test_the_classifier_is_confident_on_digits() -> None:
    training, test = load_dataset("digits", "train"), load_dataset("digits", "test")
    network = classifier(training, 12, batch=50)
    assert accuracy(network, test) > 0.9
    digits, noise = sureness(network, test.batch(torch.arange(100))), sureness(network, torch.full((100, 1, 8, 8), 0.5))
    assert digits > 0.7 and noise in (0.0, 1.0)


def test_uniform_codes_replace_learned_ones() -> None:
    options = {"shape": (1, 8, 8), "codes": 4}
    model = create("vq-vae+code-prior", prior_width=8, prior_depth=1, prior_heads=2, **options).eval()
    uniform = under_uniform_codes(model)
    assert uniform is not None and drawn(uniform, 3, 0).shape == (3, 1, 8, 8)
    assert uniform.encoder.codebook is model.encoder.codebook
    assert under_uniform_codes(create("vq-vae", **options)) is None
    assert under_uniform_codes(create("vae", shape=(1, 8, 8))) is None


def test_a_learned_prior_over_codes_has_a_lower_rate_than_uniform_codes() -> None:
    model = vaezoo.load("code-prior-mnist")
    with torch.no_grad():
        rate = model(bundled_images().batch(torch.arange(64))).rate
    assert rate.mean() <= 0.7 * 49 * math.log(512)


@pytest.mark.deep
def test_a_classifier_is_confident_on_half_of_the_samples() -> None:
    found = figures("code-prior-mnist", 1000, 3, 0)
    assert found["accuracy"] >= 0.97 and found["samples"] >= 0.5
    assert found["uniform codes"] < found["samples"] < found["test images"]
