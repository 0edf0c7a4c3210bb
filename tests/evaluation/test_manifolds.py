"""Precision, recall, density and coverage against loops over pairs."""

import pytest
import torch
from support.cases import Case
from torch import Tensor, nn

from vaezoo.data import from_tensors
from vaezoo.errors import ConfigError, ShapeError, SupportError
from vaezoo.evaluation import evaluate, neighborhoods, sample_quality
from vaezoo.evaluation.manifolds import neighborhoods_of

FLAT = nn.Flatten()


def by_loops(images: Tensor, made: Tensor, k: int) -> tuple[float, float, float, float]:
    """The definitions of the papers, pair by pair."""

    def radius(rows: Tensor, place: int) -> float:
        others = [float((rows[place] - other).norm()) for at, other in enumerate(rows) if at != place]
        return sorted(others)[k - 1]

    radii, own = ([radius(rows, place) for place in range(len(rows))] for rows in (images, made))
    apart = [[float((x - y).norm()) for y in made] for x in images]
    inside = [[apart[i][j] <= radii[i] for j in range(len(made))] for i in range(len(images))]
    precision = sum(any(inside[i][j] for i in range(len(images))) for j in range(len(made))) / len(made)
    covered = sum(any(row) for row in inside) / len(images)
    density = sum(map(sum, inside)) / k / len(made)
    recall = sum(any(apart[i][j] <= own[j] for j in range(len(made))) for i in range(len(images))) / len(images)
    return precision, recall, density, covered


@pytest.mark.parametrize(("k", "shift"), [(1, 0.0), (3, 0.5), (5, 2.0)])
def test_figures_are_those_of_the_definitions(k: int, shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaezoo.evaluation.manifolds.AT_ONCE", 300)  # several parts
    images = torch.randn(60, 3, dtype=torch.float64)
    made = shift + 0.7 * torch.randn(45, 3, dtype=torch.float64)
    found = neighborhoods(images, made, k)
    wanted = by_loops(images, made, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(wanted)
    assert 0 < found.coverage < 1


def test_known_cases() -> None:
    images = torch.randn(200, 4)
    same, far = neighborhoods(images, images.clone()), neighborhoods(images, images + 100.0)
    assert (same.precision, same.recall, same.coverage) == (1.0, 1.0, 1.0)
    assert (far.precision, far.recall, far.density, far.coverage) == (0.0, 0.0, 0.0, 0.0)
    dropped = neighborhoods(images, images[:1] + 1e-3 * torch.randn(200, 4))  # one mode: precise, nothing recalled
    assert dropped.precision == 1.0 and dropped.recall < 0.05 and dropped.coverage < 0.2


def test_samples_of_a_model_and_given_images() -> None:
    case = Case("vae", shape=(1, 28, 28))
    model, x = case.build(), case.inputs(40)[0]
    first = sample_quality(model, x, features=FLAT, k=3)
    assert (
        first
        == sample_quality(model, x, features=FLAT, k=3)
        == neighborhoods(x.flatten(1), model.sample(40, seed=0).flatten(1), 3)
    )
    assert sample_quality(x, x).coverage == 1.0
    assert neighborhoods_of(Case("vae", shape=(30,)).build(), from_tensors(torch.rand(9, 30)), 0) is None
    report = evaluate(model, x, samples=0, thorough=True)
    assert 0 <= report.sample_recall <= 1 and report.sample_precision is not None
    assert evaluate(model, x, samples=0).sample_recall is None


def test_invalid_arguments() -> None:
    rows = torch.randn(8, 3)
    with pytest.raises(ShapeError, match=r"Got features \(8, 3\) and \(8, 2\)"):
        neighborhoods(rows, rows[:, :2])
    with pytest.raises(ConfigError, match="k = 8 with 8 images"):
        neighborhoods(rows, rows, 8)
    with pytest.raises(ConfigError, match="k = 0"):
        neighborhoods(rows, rows, 0)
    with pytest.raises(SupportError, match="NaN"):
        neighborhoods(rows, rows / 0.0)
