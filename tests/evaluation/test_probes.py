"""Classifiers of latents against scikit-learn, and path lengths against closed forms."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from support.cases import Case
from support.gaussian_models import linear_gaussian
from torch import Tensor, nn

from vaezoo.core import exact_mean
from vaezoo.errors import ConfigError, DataError, ShapeError
from vaezoo.evaluation import evaluate, linear_classes, neighbor_classes, path_lengths, probe_accuracy

FLAT = nn.Flatten()


@pytest.fixture(scope="module")
def labeled() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three overlapping classes in four dimensions of different scales, in two halves."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (400,), generator=generator)
    means = torch.randn(3, 4, generator=generator)
    latents = (means[labels] + torch.randn(400, 4, generator=generator)) * torch.tensor([1.0, 10.0, 0.1, 1.0]) + 3.0
    return latents[:200], labels[:200], latents[200:], labels[200:]


@pytest.mark.parametrize("penalty", [1.0, 30.0])
def test_linear_classes_are_those_of_scikit_learn(
    labeled: tuple[Tensor, Tensor, Tensor, Tensor], penalty: float
) -> None:
    train, labels, others, truth = labeled
    scaler = StandardScaler().fit(train.double().numpy())
    peer = LogisticRegression(C=1.0 / penalty, tol=1e-10, max_iter=5_000)
    peer.fit(scaler.transform(train.double().numpy()), labels.numpy())
    wanted = torch.from_numpy(peer.predict(scaler.transform(others.double().numpy())))
    found = linear_classes(train, labels, others, penalty=penalty)
    assert torch.equal(found, wanted) and 0.5 < float((found == truth).double().mean()) < 1.0


@pytest.mark.parametrize("k", [1, 4, 5])
def test_neighbors_are_those_of_scikit_learn(labeled: tuple[Tensor, Tensor, Tensor, Tensor], k: int) -> None:
    train, labels, others, _ = labeled
    peer = KNeighborsClassifier(k).fit(train.double().numpy(), labels.numpy())
    assert torch.equal(
        neighbor_classes(train, labels, others, k=k), torch.from_numpy(peer.predict(others.double().numpy()))
    )


def test_accuracies_of_a_representation() -> None:
    labels = torch.arange(200) % 2
    x = labels.float().unsqueeze(1) * 5 + torch.randn(200, 3)
    found = probe_accuracy(lambda rows: rows, (x, labels))
    assert found.linear == found.neighbors == 1.0 and found.majority == pytest.approx(0.5, abs=0.1)
    noise = probe_accuracy(lambda rows: torch.randn(len(rows), 3), (x, labels))
    assert noise.linear == pytest.approx(0.5, abs=0.2) and noise.neighbors == pytest.approx(0.5, abs=0.2)
    case = Case("vae")
    report = evaluate(case.build(), (case.inputs(60)[0], torch.arange(60) % 3), samples=0, thorough=True)
    assert 0 <= report.linear_accuracy <= 1 and 0 <= report.neighbor_accuracy <= 1
    assert evaluate(case.build(), case.inputs(60)[0], samples=0, thorough=True).linear_accuracy is None


def test_invalid_probes() -> None:
    x, labels = torch.randn(20, 3), torch.arange(20) % 2
    with pytest.raises(DataError, match="no labels"):
        probe_accuracy(lambda rows: rows, x)
    with pytest.raises(DataError, match="20 labeled examples of 1 classes"):
        probe_accuracy(lambda rows: rows, (x, labels * 0))
    with pytest.raises(ShapeError, match="labels"):
        linear_classes(x, labels[:5], x)
    with pytest.raises(ConfigError, match="penalty"):
        linear_classes(x, labels, x, penalty=0.0)
    with pytest.raises(ConfigError, match="k = 21"):
        neighbor_classes(x, labels, x, k=21)
    codes = Case("vq-vae", backbone="conv", likelihood="gaussian")
    with pytest.raises(ShapeError, match="codes"):
        probe_accuracy(codes.build(), (codes.inputs(20)[0], labels))
    with pytest.raises(ShapeError, match="codes"):
        path_lengths(codes.build(), codes.inputs(20)[0], features=FLAT)


@pytest.mark.parametrize("step", [1e-3, 0.5])
def test_paths_of_a_linear_decoder_have_the_length_of_their_chord(step: float) -> None:
    """The velocity of W z_t is W (z_2 - z_1) at all times, whatever the step."""
    model, x, _ = linear_gaussian(orthogonal=True)
    found = path_lengths(model, x, features=FLAT, step=step)
    with torch.no_grad():
        z = exact_mean(model.encoder(x))
        chords = (model.decoder(z[::2]).mean - model.decoder(z[1::2]).mean).square().sum(1)
    assert found.shape == (20,) and torch.allclose(found, chords, rtol=1e-6)


def test_path_lengths_of_curves_and_invalid_ones() -> None:
    model, x, _ = linear_gaussian(orthogonal=True)
    bent = path_lengths(model, x, features=lambda rows: rows.flatten(1).square())
    assert (bent > 0).all() and not torch.allclose(bent, path_lengths(model, x, features=FLAT))
    assert len(path_lengths(model, x, pairs=3, features=FLAT)) == 3
    for options, message in (({"step": 0.9}, "step = 0.9"), ({"pairs": 0}, "pairs = 0")):
        with pytest.raises(ConfigError, match=message):
            path_lengths(model, x, features=FLAT, **options)
    with pytest.raises(DataError, match="at least 2"):
        path_lengths(model, x[:1], features=FLAT)
    with pytest.raises(ShapeError, match="expected images"):
        path_lengths(model, x)
