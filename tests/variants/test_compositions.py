"""Composed variants: training, saving, loading, evaluation and publication without sending."""

from pathlib import Path

import pytest
import torch
from support.cases import Case, contexts_of, example_of

import vaezoo
import vaezoo.data
from vaezoo.errors import CompositionError
from vaezoo.registry import variants

COMPOSITIONS = (
    "vamp-vae+iwae",
    "flow-prior-vae+iaf-vae",
    "s-vae+iwae",
    "hamiltonian-vae+flow-prior-vae",
    "two-layer-vae+iwae",
    "ladder-vae+iwae",
    "vade+full-covariance-vae+beta-vae",
    "beta-tc-vae+vamp-vae",
)


@pytest.mark.filterwarnings("ignore:.*latents are active")
@pytest.mark.parametrize(
    ("name", "context"),
    [
        (COMPOSITIONS[0], True),
        *(pytest.param(name, False, marks=pytest.mark.full) for name in COMPOSITIONS),
        pytest.param(COMPOSITIONS[1], True, marks=pytest.mark.full),
    ],
)
def test_a_composition_trains_saves_loads_evaluates_and_publishes(name: str, context: bool, tmp_path: Path) -> None:
    recipe = {
        "variant": name,
        "options": {key: value for key, value in example_of(name).items() if key != "latent"},
        "architecture": {"latent": 4, "backbone": {"name": "mlp", "hidden": [16]}},
        "data": {"name": "digits", "binarize": "dynamic", "context": context},
        "train": {"steps": 30, "batch_size": 32, "learning_rate": 5e-3, "average": 0.9},
    }
    run = vaezoo.train(recipe, out=tmp_path / "run", trackers=())
    loaded = vaezoo.load(tmp_path / "run")
    x, c = torch.rand(5, 1, 8, 8).round(), torch.arange(5) if context else None
    assert torch.equal(loaded.reconstruct(x, c), run.model.reconstruct(x, c))
    assert torch.equal(loaded.sample(5, c, seed=3), run.model.sample(5, c, seed=3))
    evidence = [model.log_evidence(x, c, samples=7, seed=0) for model in (loaded, run.model)]
    assert torch.equal(*evidence) and torch.isfinite(evidence[0]).all()
    digits = vaezoo.data.load_dataset("digits", "test")
    x = vaezoo.data.binarize(digits, "static").batch(torch.arange(100))
    c = digits.labels[:100] if context else None
    with torch.no_grad():
        gap = loaded.log_evidence(x, c, samples=50, seed=0) - loaded(x, c).bound
    assert gap.mean() > -4 * gap.std() / 10
    assert loaded.config is not None and loaded.config["variant"] == name
    figures = vaezoo.evaluate(loaded, "digits", samples=3, limit=20).as_dict()
    assert vaezoo.push(loaded, "them/composed", metrics=figures, dry_run=True) == "hf:them/composed"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "cvae" else pytest.mark.full) for name in variants.names()]
)
def test_every_pair_has_finite_gradients_or_is_refused(name: str) -> None:
    for other in variants.names():
        pair = f"{name}+{other}"
        try:
            case = Case(pair, context=contexts_of(pair)[0])
            model, (x, c) = case.build(), case.inputs(6)
            elbo = model(x, c)
        except CompositionError:
            continue
        for player, own in model.players().items():
            assert torch.isfinite(elbo.losses[player]).all(), pair
            found = torch.autograd.grad(elbo.losses[player].mean(), own, retain_graph=True, allow_unused=True)
            assert all(torch.isfinite(each).all() for each in found if each is not None), pair
        assert model.reconstruct(x, c).shape == x.shape == model.sample(6, c, seed=0).shape
