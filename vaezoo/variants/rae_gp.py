"""The regularised autoencoder with a gradient penalty."""

from __future__ import annotations

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from vaezoo.elbo import Inference, Model, PenalizedObjective, draw
from vaezoo.model import VAE
from vaezoo.points import PointEncoder, half_square
from vaezoo.registry import Architecture, register


class SmoothObjective(PenalizedObjective):
    """Has a pass in which the decoder can be differentiated by z, whatever is frozen and wherever it is called."""

    def infer(self, model: Model, x: Tensor, c: Tensor | None) -> Inference:
        """Returns the pass, with z as a variable of its own where no gradient is taken."""
        posterior = model.encoder(x, c)
        z, log_q = draw(posterior, 1)
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            likelihood = model.decoder(z, c)
        return Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=model.prior(c), likelihood=likelihood)


def slope(model: Model, inference: Inference) -> Tensor:
    """Returns an estimate of the squared Frobenius norm of the decoder's Jacobian, (B,), without bias.

    |vᵀJ|² has that mean for signs v: one pass backward, instead of one for each pixel.
    """
    grad = torch.is_grad_enabled()
    with torch.enable_grad():
        image = inference.likelihood.mean
        signs = torch.randint_like(image, 2) * 2.0 - 1.0
        (product,) = torch.autograd.grad(image, inference.z, signs, create_graph=grad, retain_graph=True)
    return product[0].flatten(1).square().sum(1)


@register(
    "rae-gp",
    changes=("encoder", "objective"),
    year=2020,
    paper="Ghosh et al.",
    url="https://arxiv.org/abs/1903.12436",
    rate="no density",
)
def rae_gp(
    base: VAE,
    architecture: Architecture,
    *,
    beta: Annotated[float, Meta(ge=0, le=1e6)] = 1e-2,
    weight: Annotated[float, Meta(ge=0, le=1e6)] = 1e-2,
) -> VAE:
    r"""Minimises $D + \beta\,\tfrac12 \|z\|^2 + \lambda\,\|\nabla_z \mu(z)\|^2$, with an encoder without noise.

    $$z = f(x), \qquad \mu(z) = \mathbb{E}[x|z]$$

    Hyperparameters:
        beta: $\beta \ge 0$, what codes far from 0 cost.
        weight: $\lambda \ge 0$, what a steep decoder costs. Both are searched for each data set in the paper, where D
            is the squared error: `likelihood = {name = "gaussian", scale = 0.7071}`, up to a constant.

    $\|\nabla_z \mu\|^2$ is summed over latents and pixels, from one random combination of the pixels at each step,
    whose mean it is; code in wide use takes the gradient of the pixels' sum, in which they cancel. There is no
    density of z and so no bound: what is reported as the rate is $-\log p(z)$. When to use it: for sharp images and a
    smooth latent space, with a density fitted to its codes afterwards. It is confused with the gradient penalty of
    critics, which is on their slope by x, and with `rae-l2`, which is cheaper.
    """
    penalties = {"half_square": (beta, half_square), "slope": (weight, slope)}
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=SmoothObjective(penalties))
