"""SSIM and perceptual distance of reconstructions."""

import math

import numpy as np
import pytest
import torch

import vaezoo
from vaezoo.errors import ShapeError
from vaezoo.evaluation import evaluate
from vaezoo.evaluation.similarity import structural_similarity
from vaezoo.networks.features import PerceptualDistance


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the SSIM of two planes by weighted moments about the weighted mean, window by window."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = (each[row : row + 11, column : column + 11] for each in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variances = (window * (a - mean_a) ** 2).sum() + (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
                / ((mean_a**2 + mean_b**2 + 1e-4) * (variances + 9e-4))
            )  # fmt: skip
    return float(np.mean(values))


def test_similarity_equals_the_formula_window_by_window() -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 3, 14, 17, dtype=torch.float64)
    y = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    planes = [[by_hand(x[i, j].numpy(), y[i, j].numpy()) for j in range(3)] for i in range(3)]
    wanted = torch.tensor(planes, dtype=torch.float64).mean(1)
    torch.testing.assert_close(structural_similarity(x, y), wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(structural_similarity(x.float(), y.float()), wanted.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(structural_similarity(x, x), torch.ones(3, dtype=torch.float64))


def test_small_images_and_tables_are_refused() -> None:
    for shape in ((2, 1, 10, 20), (2, 30)):
        with pytest.raises(ShapeError, match="at least 11 pixels"):
            structural_similarity(torch.rand(shape), torch.rand(shape))


def test_evaluate_has_the_means_over_the_test_images() -> None:
    torch.manual_seed(0)
    model = vaezoo.create(
        "kl-autoencoder", shape=(3, 16, 16), latent=(4, 8, 8), backbone={"name": "resnet", "channels": [8, 8]}
    ).eval()
    x = torch.rand(7, 3, 16, 16)
    report, made = evaluate(model, x, samples=0), model.reconstruct(x)
    errors = (x - made).square().mean((1, 2, 3)).tolist()
    assert report.psnr == pytest.approx(-10 * math.log10(sum(errors) / 7), rel=1e-5)
    assert report.mean_psnr == pytest.approx(sum(-10 * math.log10(each) for each in errors) / 7, rel=1e-5)
    assert report.ssim == pytest.approx(float(structural_similarity(x, made).mean()), rel=1e-4)
    assert report.perceptual_distance == pytest.approx(
        float(PerceptualDistance()(x, made.clamp(0, 1)).mean()), rel=1e-4
    )
    assert math.isfinite(report.ssim) and "SSIM" in str(report) and "perceptual distance" in str(report)


def test_gray_images_have_no_perceptual_distance_and_tables_no_similarity() -> None:
    gray = vaezoo.create("vae", shape=(1, 12, 12), latent=2).eval()
    report = evaluate(gray, torch.rand(5, 1, 12, 12).round(), samples=0)
    assert report.perceptual_distance is None and -1 <= report.ssim <= 1
    table = vaezoo.create("vae", shape=(6,), latent=2, likelihood="gaussian").eval()
    report = evaluate(table, torch.rand(5, 6), samples=0)
    assert report.ssim is None and report.mean_psnr is None
