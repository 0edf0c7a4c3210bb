"""Health of codebooks that are made by hand, against counts and numpy's eigenvalues."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.cases import Case
from support.networks import Given

from vaezoo import pictures
from vaezoo.core import VAE
from vaezoo.errors import ShapeError
from vaezoo.evaluation import evaluate
from vaezoo.evaluation.codebooks import participation_ratio
from vaezoo.evaluation.health import remarks
from vaezoo.registry import create


def by_hand(codes: list[list[float]]) -> VAE:
    """Returns a model of two numbers with these codes."""
    model = create("vq-vae", shape=2, latent=2, backbone="mlp", codes=len(codes))
    model.encoder.network = Given(2)
    model.encoder.codebook.copy_(torch.tensor(codes))
    return model


def ratio(vectors: np.ndarray) -> float:
    if len(vectors) < 2:
        return 0.0
    values = np.linalg.eigvalsh(np.cov(vectors.T, bias=True))
    return float(values.sum() ** 2 / np.square(values).sum())


def test_figures_of_a_codebook_that_is_known() -> None:
    """Of five codes three are chosen: 2, 1 and 1 times, at distances of 0.1 and 0."""
    model = by_hand([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [9.0, 9.0], [-9.0, 9.0]])
    x = torch.tensor([[0.1, 0.0], [0.0, 0.1], [2.0, 0.0], [0.0, 1.0]])
    found = evaluate(model, x, samples=0)
    assert (found.codes, found.used_codes) == (5, 3)
    assert found.perplexity == pytest.approx(np.exp(-0.5 * np.log(0.5) - 0.5 * np.log(0.25)))
    assert found.code_dimension == pytest.approx(ratio(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])))
    assert found.quantization_error == pytest.approx(2 * 0.01 / 4 / float(x.var(0, correction=0).sum()), rel=1e-5)
    points = [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]
    line = evaluate(by_hand(points), torch.tensor(points), samples=0)
    assert line.code_dimension == pytest.approx(1.0) and line.quantization_error == 0.0
    one = evaluate(by_hand([[0.0, 0.0], [5.0, 5.0]]), torch.zeros(3, 2), samples=0)
    assert (one.used_codes, one.code_dimension, one.quantization_error) == (1, 0.0, None)


def test_the_participation_ratio_is_the_dimension_of_a_round_cloud() -> None:
    corners = torch.cat([torch.eye(6), -torch.eye(6)])
    assert participation_ratio(corners) == pytest.approx(6.0)
    cloud = torch.randn(50, 7).double() * torch.arange(1.0, 8.0)
    assert participation_ratio(cloud) == pytest.approx(ratio(cloud.numpy()))


@pytest.mark.parametrize("name", ["residual-vq-vae", "grouped-vq-vae", "vq-vae-2", "sim-vq-vae", "fsq-vae"])
@torch.no_grad()
def test_figures_of_several_codebooks_are_those_of_each(name: str) -> None:
    model, (x, _) = Case(name, backbone="conv", likelihood="gaussian").build(), Case("vae").inputs(40)
    model.initialize([(x, None)])
    found, encoder = evaluate(model, x, samples=0), model.encoder
    q = model.eval().encode(x)
    levels = q.indices.reshape(40, -1).split(encoder.sections, 1)
    assert found.used_codes == sum(len(set(level.flatten().tolist())) for level in levels)
    assert found.codes == encoder.codes * len(levels)
    if hasattr(encoder, "codebooks"):
        tables = [book.codebook for book in encoder.codebooks()]
    elif name == "fsq-vae":
        tables = [encoder.look_up(torch.arange(encoder.codes)[:, None].expand(-1, 4))[:, :, 0, 0]]
    else:
        tables = [encoder.table()]
    ratios = [ratio(table[level.unique()].double().numpy()) for table, level in zip(tables, levels, strict=True)]
    assert found.code_dimension == pytest.approx(sum(ratios) / len(ratios), rel=1e-4)
    pairs = [(level.encoded, level.codes) for level in q.levels]
    if name == "residual-vq-vae":
        pairs = [(q.levels[0].encoded, q.value)]
    rows = [[each.movedim(1, -1).flatten(0, -2) for each in pair] for pair in pairs]
    errors = sum((one - other).square().sum(1).mean() for one, other in rows)
    variances = sum(one.var(0, correction=0).sum() for one, _ in rows)
    assert found.quantization_error == pytest.approx(float(errors / variances), rel=1e-4)


def test_models_without_codes_have_no_figures_of_codes() -> None:
    found = evaluate(Case("vae").build(), Case("vae").inputs(20)[0], samples=0).as_dict()
    assert not {"codes", "used_codes", "code_dimension", "quantization_error"} & set(found)
    x = Case("vae").inputs(20)[0]
    drawn = evaluate(Case("gumbel-vq-vae", backbone="conv", likelihood="gaussian").build(), x, samples=0)
    assert drawn.quantization_error is None and drawn.used_codes >= 1  # its network gives probabilities
    stochastic = evaluate(Case("sq-vae", backbone="conv", likelihood="gaussian").build(), x, samples=0)
    assert stochastic.quantization_error > 0


def test_unused_codes_are_remarked_on() -> None:
    (found,) = remarks({"codes": 512, "used_codes": 100, "examples": 10_000})
    assert found.startswith("100 of 512 codes are in use.") and "sim-vq-vae" in found
    for values in (
        {"codes": 512, "used_codes": 300, "examples": 10_000},
        {"codes": 512, "used_codes": 30, "examples": 40},  # too few examples
        {"codes": 512, "examples": 10_000},
        {},
    ):
        assert remarks(values) == []


def test_the_picture_of_the_use_of_codes(tmp_path: Path) -> None:
    x = torch.tensor([[0.1, 0.0], [0.0, 0.1], [2.0, 0.0], [0.0, 1.0]])
    model = by_hand([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    first = pictures.code_use(model, x, tmp_path / "codes.png")
    assert first.read_bytes()[:4] == b"\x89PNG"
    again = pictures.code_use(model, x, tmp_path / "again.png")
    other = pictures.code_use(model, x[:2], tmp_path / "other.png")
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    residual = Case("residual-vq-vae", backbone="conv", likelihood="gaussian").build()
    assert pictures.code_use(residual, Case("vae").inputs(20)[0], tmp_path / "levels.png", limit=10).is_file()
    with pytest.raises(ShapeError, match="latents are no codes"):
        pictures.code_use(Case("vae").build(), Case("vae").inputs(20)[0], tmp_path / "none.png")
