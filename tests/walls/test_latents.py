"""Every variant with vector and grid latents, with and without a context, runs or is refused when it is created."""

import math

import pytest
import torch
from support.cases import NAMES, Case, contexts_of, over

from vaezoo.core import VAE
from vaezoo.errors import VaezooError

CASES = [Case(name, context=context) for name in NAMES for context in contexts_of(name)]
#: contexts take turns
DAILY = [Case(name, context=contexts_of(name)[place % len(contexts_of(name))]) for place, name in enumerate(NAMES)]
LATENTS = (1, 2, 7, 12, (1, 1), (3, 2), (1, 2, 2), (4, 2, 2))
#: variants that may refuse all of these, and a latent that they accept
OWN = {"vq-vae-2": None, "joint-vae": 12, "ladder-vae": None, "top-down-vae": None, "two-layer-vae": None}


def accepted(case: Case) -> list[VAE]:
    models = []
    for latent in LATENTS:
        try:
            models.append(case.build(latent=latent))
        except VaezooError as error:
            assert "expected" in str(error)
    return models


@over(CASES, DAILY)
def test_every_accepted_latent_trains_samples_and_reconstructs(case: Case) -> None:
    x, c = case.inputs(4)
    models = accepted(case) or [case.build(latent=OWN[case.variant])]
    for model in models:
        model.initialize([(x, model.check_context(c, 4))])
        elbo = model(x, c)
        torch.stack([loss.mean() for loss in elbo.losses.values()]).sum().backward()
        model.after_step([elbo.statistics], torch.tensor(0))
        model.eval()
        decoded = model.decode(torch.zeros(4, *model.latent), c).mean
        for images in (model.sample(4, c), model.reconstruct(x, c), decoded):
            assert images.shape == x.shape and torch.isfinite(images).all(), model.latent
        assert model(x, c).rate.shape == (4,) and torch.isfinite(model(x, c).rate).all()


@pytest.mark.parametrize("name", ["planar-vae", "iaf-vae", "hamiltonian-vae", "flow-prior-vae", "full-covariance-vae"])
@pytest.mark.parametrize("latent", [1, 2, (1, 2, 2)])
@torch.no_grad()
def test_new_models_start_near_the_prior(name: str, latent: int | tuple[int, ...]) -> None:
    """The rate of a new model is below five nats for each latent, for every seed and example."""
    x, _ = Case(name).inputs(200)
    size = latent if isinstance(latent, int) else math.prod(latent)
    for seed in range(10):
        try:
            model = Case(name).build(seed=seed, latent=latent).eval()
        except VaezooError:
            assert name == "full-covariance-vae" and not isinstance(latent, int)
            return
        rate = model.infer(x, None, 20).rate()
        assert (rate < 5.0 * size).all()
