"""Composed variants: training, saving, loading, evaluation and publication without sending."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.cases import Case, contexts_of, example_of
from torch import Tensor

import vaezoo
import vaezoo.data
from vaezoo.core import VAE, seeded
from vaezoo.errors import CompositionError
from vaezoo.registry import variants, with_requirements

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
    "name", [pytest.param(name, marks=() if name in ("ae", "cvae") else pytest.mark.full) for name in variants.names()]
)
def test_in_every_pair_all_parameters_learn_or_create_refuses_it(name: str) -> None:
    for other in variants.names():
        whole = "+".join(dict.fromkeys("+".join(map(with_requirements, (name, other))).split("+")))
        for pair in dict.fromkeys((f"{name}+{other}", whole)):
            try:
                case = Case(pair, context=contexts_of(pair)[-1])
                model = case.build()
            except CompositionError:
                continue
            check_that_all_learn(model, *case.inputs(16))


def check_that_all_learn(model: VAE, x: Tensor, c: Tensor | None) -> None:
    """Takes two steps, after which every parameter has a gradient from the loss of its player."""
    players, name = model.players(), (model.config or {})["variant"]
    owned = sorted(id(parameter) for own in players.values() for parameter in own)
    assert owned == sorted(id(parameter) for parameter in model.parameters()), name
    optimizers = [torch.optim.Adam(own, 1e-3) for own in players.values()]
    for number in range(3):
        elbo = model(x, c)
        assert elbo.losses.keys() == players.keys(), name
        for player, own in players.items():
            elbo.losses[player].mean().backward(inputs=own, retain_graph=True)
        if number == 2:
            break
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        model.after_step([elbo.statistics], torch.tensor(number))
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), (name, key)
    with torch.no_grad():
        assert model.reconstruct(x, c).shape == x.shape == model.sample(len(x), c, seed=0).shape


WITHOUT_RATE = (
    ("ae", {}), ("dae", {"level": 0.5}), ("rae-l2", {}), ("rae-gp", {}), ("wae-mmd", {}), ("sliced-wae", {}),
    ("wae-gan", {}), ("aae", {}), ("aae", {"posterior": "gaussian"}), ("beta-vae", {"beta": 0.0}),
    ("info-vae", {"alpha": 1.0}), ("annealed-vae", {"gamma": 0.0}),
)  # fmt: skip


@pytest.mark.parametrize(("name", "options"), WITHOUT_RATE)
def test_without_the_rate_the_prior_is_fitted_to_the_codes_alone(name: str, options: dict[str, object]) -> None:
    """Its loss is -log p(z) by `torch.distributions`; the loss of the model is that with a fixed prior."""
    case = Case(f"{name}+cvae", context=3)
    model, (x, c) = case.build(torch.float64, **options), case.inputs(12, torch.float64)
    with torch.no_grad():
        for parameter in model.prior.parameters():
            parameter.copy_(torch.randn_like(parameter))
    (own,) = [own for player, own in model.players().items() if player == "prior"]
    assert {id(each) for each in own} == {id(each) for each in model.prior.parameters()}
    with seeded(3):
        elbo = model(x, c)
    vectors = model.check_context(c, 12)
    with seeded(3), torch.no_grad():
        clean = model.encode(x, c).mean if name == "dae" else model.infer(x, vectors).z[0]
    raw = model.prior.network(vectors)
    exact = -torch.distributions.Normal(raw[:, 0], raw[:, 1].exp()).log_prob(clean).sum(1)
    torch.testing.assert_close(elbo.losses["prior"], exact)
    others = [*model.encoder.parameters(), *model.decoder.parameters()]
    assert not any(torch.autograd.grad(elbo.losses["prior"].sum(), others, retain_graph=True, allow_unused=True))
    model.prior.requires_grad_(False)
    with seeded(3):
        fixed = model(x, c)
    assert model.players().keys() == fixed.losses.keys() == elbo.losses.keys() - {"prior"}
    assert torch.equal(fixed.losses["model"], elbo.losses["model"])


def test_a_prior_of_an_autoencoder_finds_the_moments_of_the_codes_of_each_class() -> None:
    case = Case("ae+cvae", context=3)
    model, (x, c) = case.build(torch.float64), case.inputs(60, torch.float64)
    model.encoder.requires_grad_(False)
    model.decoder.requires_grad_(False)
    optimizer = torch.optim.LBFGS(model.players()["prior"], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x, c).losses["prior"].mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    codes = model.encode(x, c).mean.numpy()
    for label in range(3):
        prior, own = model.prior(model.check_context(torch.tensor([label]), 1)), codes[c.numpy() == label]
        np.testing.assert_allclose(prior.mean[0].detach().numpy(), own.mean(0), atol=1e-3)
        np.testing.assert_allclose(prior.stddev[0].detach().numpy(), own.std(0), rtol=1e-2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *((f"{name}+vamp-vae", "PointEncoder, which has no density") for name in ("ae", "dae", "wae-mmd", "aae")),
        ("beta-tc-vae+iaf-vae", "posteriors are FlowPosterior; its objective expected DiagonalNormal"),
        ("dip-vae-i+s-vae", "posteriors are VonMisesFisher"),
        ("dip-vae-ii+ladder-vae", "posteriors are HierarchicalPosterior"),
        *(
            (f"factor-vae+{name}", "latents depend on each other")
            for name in ("ladder-vae", "s-vae", "categorical-vae")
        ),
    ],
)
def test_parts_without_a_common_meaning_are_refused_when_the_model_is_created(name: str, message: str) -> None:
    with pytest.raises(CompositionError, match=message):
        Case(name).build()


def test_gradients_without_a_score_need_diagonal_gaussians_when_the_model_is_created() -> None:
    assert Case("iwae+full-covariance-vae").build()
    with pytest.raises(CompositionError, match="posteriors are CholeskyNormal"):
        Case("iwae+full-covariance-vae").build(gradient="doubly-reparametrized")
