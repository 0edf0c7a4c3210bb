"""Penalties of regularized autoencoders, and the objective with a gradient penalty."""

from __future__ import annotations

import torch
from torch import Tensor

from vaezoo.core import Inference, Model, sample_with_log_prob
from vaezoo.core.precision import full_precision
from vaezoo.objectives.weighted import PenalizedObjective

__all__ = ["half_square"]


def half_square(model: Model, inference: Inference) -> Tensor:
    """The penalty |z|²/2, (B,): what is finite of the rate of a point under N(0, 1), but for a constant."""
    return 0.5 * inference.z[0].flatten(1).square().sum(1)


class SmoothObjective(PenalizedObjective):
    """Has a pass in which the decoder can be differentiated by z, whatever is frozen and wherever it is called."""

    def infer(self, model: Model, x: Tensor, c: Tensor | None) -> Inference:
        """Returns the pass, with z as a variable of its own where no gradient is taken."""
        posterior = model.encoder(x, c)
        z, log_q = sample_with_log_prob(posterior, 1)
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


def decoder_weights(model: Model, inference: Inference) -> Tensor:
    """Returns the squared norm of the decoder's parameters, 0-dim."""
    return torch.stack([full_precision(each).square().sum() for each in model.decoder.parameters()]).sum()
