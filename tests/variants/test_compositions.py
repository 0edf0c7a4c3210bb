"""Composed variants: training, saving, loading, evaluation and publication without sending."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import vonmises_fisher
from support.cases import Case, contexts_of, example_of
from torch import Tensor

import vaezoo
import vaezoo.data
from vaezoo.core import VAE, seeded
from vaezoo.errors import CompositionError, ConfigError
from vaezoo.registry import resolve, variants, with_requirements

COMPOSITIONS = (
    "vamp-vae+iwae",
    "flow-prior-vae+iaf-vae",
    "s-vae+iwae",
    "hamiltonian-vae+flow-prior-vae",
    "two-layer-vae+iwae",
    "ladder-vae+iwae",
    "vade+full-covariance-vae+beta-vae",
    "beta-tc-vae+vamp-vae",
    "top-down-vae+iwae",
    "s-vae+vamp-vae",
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


REFUSED = {
    "cvae+flow-prior-vae": ("both change the prior", "flow-prior-vae", 3),
    "vade+cvae": ("both change the prior", "flow-prior-vae", 3),
    "cvae+vamp-vae": ("both change the prior", "flow-prior-vae", 3),
    "iwae+beta-vae": ("has no rate to weight", "ciwae", 0),
    "beta-vae+piwae": ("has no rate to weight", "ciwae", 0),
    "m2-vae+iwae": ("sums over the classes", "cvae+iwae", 3),
    "two-layer-vae+vamp-vae": ("the upper one would have no effect", "vamp-vae", 0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_composition_that_is_refused_names_one_that_works(name: str) -> None:
    reason, works, context = REFUSED[name]
    with pytest.raises(CompositionError, match=f"{reason}.*Use '{works.replace('+', '.')}'"):
        resolve(name)
    assert Case(works, context=context).build()


@pytest.mark.parametrize("name", ["top-down-vae", "ladder-vae"])
def test_objectives_over_all_levels_agree_with_the_rates_of_the_levels(name: str) -> None:
    """KL by closed forms of each level, and by the densities of many draws, in the mean over draws."""
    case = Case(name)
    models = {objective: case.build(torch.float64) for objective in ("", "beta-vae", "iwae", "geco-vae")}
    for objective in list(models)[1:]:
        options = (
            {"samples": 1} if objective == "iwae" else {"beta": 3.0} if objective == "beta-vae" else {"target": 9.0}
        )
        models[objective] = Case(f"{name}+{objective}").build(torch.float64, **options)
        models[objective].load_state_dict(models[""].state_dict(), strict=False)
    x = case.inputs(2, torch.float64)[0]
    rows = x.repeat(600, 1, 1, 1)
    with torch.no_grad():
        level, beta, iwae, geco = (models[each](rows) for each in models)
    noise = (level.rate.std() + beta.rate.std() + level.distortion.std() + iwae.bound.std()) / 1200**0.5
    assert abs(level.rate.mean() - beta.rate.mean()) < 4 * noise
    assert abs(iwae.bound.mean() - level.bound.mean()) < 4 * noise
    torch.testing.assert_close(beta.losses["model"], beta.distortion + 3.0 * beta.rate)
    torch.testing.assert_close(geco.losses["model"], geco.rate + geco.distortion - 9.0)


def test_an_option_of_an_objective_that_is_replaced_is_refused() -> None:
    assert Case("top-down-vae").build(free_bits=2.0).objective.free_bits == 2.0
    for name in ("top-down-vae+iwae", "iwae+top-down-vae"):
        with pytest.raises(
            ConfigError, match="'free_bits' of top-down-vae acts on the objective, which is that of iwae"
        ):
            Case(name).build(free_bits=2.0)


def test_a_mixture_of_posteriors_on_the_sphere_has_the_density_of_scipy() -> None:
    model, (x, _) = Case("s-vae+vamp-vae").build(torch.float64, latent=3), Case("s-vae").inputs(5, torch.float64)
    inference = model.infer(x)
    raw = model.encoder.network(model.prior.inputs).detach()
    directions = torch.nn.functional.normalize(raw[:, :-1], dim=-1).numpy()
    concentrations = torch.nn.functional.softplus(raw[:, -1]).numpy()
    z = inference.z[0].detach().numpy()
    components = [vonmises_fisher(*each).pdf(z) for each in zip(directions, concentrations, strict=True)]
    np.testing.assert_allclose(
        inference.prior.log_prob(inference.z[0]).detach().numpy(), np.log(np.mean(components, 0))
    )
    drawn = inference.prior.sample((7,))
    torch.testing.assert_close(drawn.square().sum(-1), torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("name", ["vq-vae+vae-gan", "vae-gan+residual-vq-vae", "vae-gan+lfq-vae"])
def test_the_critic_of_a_code_model_is_applied_to_reconstructions_alone(name: str) -> None:
    """The encoder's loss has the terms of its own variant, with their weights, beside the similarity."""
    case = Case(name)
    model, (x, _) = case.build(), case.inputs(6)
    alone = Case(name.replace("vae-gan+", "").replace("+vae-gan", "")).build()
    alone.load_state_dict(model.state_dict(), strict=False)
    with seeded(0):
        elbo = model(x)
    with seeded(0):
        other = alone(x)
    critic, similarity = model.objective.critic, elbo.terms["similarity"]
    own = other.losses["model"] - other.distortion
    torch.testing.assert_close(elbo.losses["encoder"], similarity + elbo.rate + own)
    with seeded(0):
        image = model.infer(x).likelihood.mean[0]
    half = 0.5 * (critic.features(image) - critic.features(x)).square().sum(1)
    torch.testing.assert_close(similarity, half)
    logits = critic(x).squeeze(1), critic(image).squeeze(1)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    detected = cross_entropy(logits[1], torch.zeros(6), reduction="none")
    exact = cross_entropy(logits[0], torch.ones(6), reduction="none") + detected
    torch.testing.assert_close(elbo.losses["critic"], exact)
    torch.testing.assert_close(elbo.losses["decoder"], half - detected)
