"""Composed variants from recipe to repository: trained, saved, loaded, measured, published (without sending)."""

import re
from pathlib import Path

import pytest
import torch
from support.cases import Case, contexts_of

import vaezoo
import vaezoo.data
from vaezoo.errors import CompositionError
from vaezoo.registry import variants

OPTIONS: dict[str, dict[str, object]] = {
    "vamp-vae+iwae": {"pseudo_inputs": 6, "samples": 4},
    "flow-prior-vae+iaf-vae": {"transforms": 2, "hidden": [8], "iaf_hidden": [8]},
    "s-vae+iwae": {"samples": 4},
    "hamiltonian-vae+flow-prior-vae": {"transforms": 2, "hidden": [8], "leapfrogs": 2},
    "two-layer-vae+iwae": {"top_hidden": [8], "samples": 4},
    "ladder-vae+iwae": {"widths": [8, 6], "samples": 4},
    "vade+full-covariance-vae+beta-vae": {"clusters": 3, "beta": 0.5},
    "beta-tc-vae+vamp-vae": {"pseudo_inputs": 6, "beta": 3.0},
}


@pytest.mark.filterwarnings("ignore:.*latents are active")
@pytest.mark.parametrize(
    ("name", "context"), [*((name, False) for name in OPTIONS), *((name, True) for name in list(OPTIONS)[:2])]
)
def test_a_composition_goes_all_the_way(name: str, context: bool, tmp_path: Path) -> None:
    recipe = {
        "variant": name,
        "options": OPTIONS[name],
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


@pytest.mark.parametrize("name", variants.names())
def test_every_pair_learns_or_is_refused(name: str) -> None:
    """With whatever changes other parts; a refusal is one clear error, at the latest when the model first sees data."""
    for other in variants.names():
        pair = f"{name}+{other}"
        try:
            case = Case(pair, context=contexts_of(pair)[0])
            model, (x, c) = case.build(), case.inputs(6)
            elbo = model(x, c)
        except CompositionError as error:
            assert re.search(r"cannot be composed|twice|needs|expected", str(error)), error
            continue
        for player, own in model.players().items():
            assert torch.isfinite(elbo.losses[player]).all(), pair
            found = torch.autograd.grad(elbo.losses[player].mean(), own, retain_graph=True, allow_unused=True)
            assert all(torch.isfinite(each).all() for each in found if each is not None), pair
        assert model.reconstruct(x, c).shape == x.shape == model.sample(6, c, seed=0).shape
