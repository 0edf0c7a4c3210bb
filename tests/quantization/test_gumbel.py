"""Stochastic codes: probabilities, relaxation and temperature."""

import math
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from vaezoo.core import VAE, seeded
from vaezoo.objectives import Cooling
from vaezoo.quantization import GumbelCodes
from vaezoo.registry import create

CONV = {"name": "conv", "channels": [4, 6], "dense": [8]}


def model_and_data(name: str = "gumbel-vq-vae", **options: object) -> tuple[VAE, Tensor]:
    torch.manual_seed(0)
    model = create(name, shape=(1, 8, 8), latent=(3, 2, 2), backbone=CONV, codes=5, **options).double()
    return model, torch.rand(6, 1, 8, 8, dtype=torch.float64)


def test_the_rate_is_torchs_divergence_of_categories() -> None:
    model, x = model_and_data(beta=2.0)
    logits = model.encoder.network(x)[:, 0].movedim(1, -1)
    own, uniform = Categorical(logits=logits), Categorical(logits=torch.zeros_like(logits))
    wanted = kl_divergence(own, uniform).flatten(1).sum(1)
    for training in (True, False):
        elbo = model.train(training)(x)
        torch.testing.assert_close(elbo.rate, wanted)
        torch.testing.assert_close(elbo.losses["model"], elbo.distortion + 2.0 * wanted)


@torch.no_grad()
def test_frequencies_of_exact_draws_are_their_probabilities() -> None:
    model, x = model_and_data()
    posterior = cast(GumbelCodes, model.eval().encode(x[:1]))
    z, log_q = posterior.rsample_and_log_prob((40_000,))
    indices = model.encoder.indices_of(z)[:, 0]  # (K, 4)
    torch.testing.assert_close(model.encoder.look_up(indices), z[:, 0])
    probabilities = posterior.choices.mean[0].flatten(0, 1)
    torch.testing.assert_close(log_q[:, 0], probabilities.gather(1, indices.T).log().sum(0))
    for place, p in enumerate(probabilities):
        share = torch.bincount(indices[:, place], minlength=5) / len(z)
        assert ((share - p).abs() < 4.5 * (p * (1 - p) / len(z)).sqrt()).all()
    assert torch.equal(posterior.center, model.encoder.look_up(posterior.indices.flatten(1)))
    assert torch.equal(model.encoder.indices_of(posterior.center), posterior.indices.flatten(1))


def test_the_temperature_decreases_to_its_minimum() -> None:
    cooling = Cooling(2.0, 0.5, 0.1)
    assert float(cooling(torch.tensor(0))) == 2.0 and cooling(None) == 0.5
    assert float(cooling(torch.tensor(7))) == pytest.approx(2.0 * math.exp(-0.7))
    assert float(cooling(torch.tensor(1000))) == 0.5
    model, x = model_and_data(temperature=50.0, final_temperature=0.01, cooling=1e-2)
    spread = []
    for step in (0, 300, None):
        with seeded(0):
            spread.append(model(x, step=None if step is None else torch.tensor(step)).distortion.detach())
    assert not torch.equal(spread[0], spread[1]) and not torch.equal(spread[1], spread[2])


def test_draws_are_relaxed_in_train_mode_except_in_stages_that_do_not_train_the_encoder() -> None:
    model, x = model_and_data()
    books = model.encoder.codebook.detach()

    def distance() -> float:
        z = model.infer(x).z[0].movedim(1, -1).reshape(-1, 3)
        return float(torch.cdist(z.detach(), books).amin(1).max())

    assert distance() > 1e-3
    model.requires_grad_(False)
    assert distance() > 1e-3
    model.encoder.begin_stage(False)
    assert distance() < 1e-6
    model.encoder.begin_stage(True)
    assert distance() > 1e-3
    model.eval()
    assert distance() < 1e-6


@torch.no_grad()
def test_under_a_learned_prior_the_sampled_rate_is_unbiased() -> None:
    model, x = model_and_data("gumbel-vq-vae+code-prior", prior_width=8, prior_depth=1, prior_heads=2)
    model.prior.network.weights.normal_(std=3.0)
    model.eval()
    inference = model.infer(x[:1], None, 20_000)
    every = torch.cartesian_prod(*[torch.arange(5)] * 4)
    own = inference.posterior.choices.log_probs[0].flatten(0, 1)
    log_q = own.gather(1, every.T).sum(0)
    exact = (log_q.exp() * (log_q - model.prior(None).log_mass(every))).sum()
    sampled = inference.log_q - inference.prior.log_prob(inference.z)
    assert (sampled.mean() - exact).abs() < 4 * sampled.std() / len(sampled) ** 0.5
    torch.testing.assert_close(inference.rate(), sampled.mean(0))
