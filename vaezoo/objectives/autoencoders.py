"""Objectives and penalties of deterministic autoencoders."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from vaezoo.core import Inference, Model, full_precision, sample_with_log_prob, traced_gradient
from vaezoo.objectives.weighted import PenalizedObjective

Corruption = Literal["masking", "gaussian"]


def half_squared_norm(model: Model, inference: Inference) -> Tensor:
    """Returns |z|²/2, (B,): up to a constant, -log p(z) under N(0, 1)."""
    return 0.5 * inference.z[0].flatten(1).square().sum(1)


def decoder_weights(model: Model, inference: Inference) -> Tensor:
    """Returns the squared norm of the decoder's parameters, 0-dim."""
    return torch.stack([full_precision(each).square().sum() for each in model.decoder.parameters()]).sum()


def decoder_jacobian(model: Model, inference: Inference) -> Tensor:
    """Returns an unbiased estimate of the squared Frobenius norm of the decoder's Jacobian J, (B,).

    It is |vᵀJ|² for random signs v: one backward pass instead of one per pixel. Needs the inference of a
    `GradientPenaltyObjective`.
    """
    if torch.compiler.is_compiling():
        signs = torch.randint_like(inference.likelihood.mean, 2) * 2.0 - 1.0
        product = traced_gradient(lambda z: (model.decoder(z, inference.c).mean * signs).sum(), inference.z)
        return product[0].flatten(1).square().sum(1)
    grad = torch.is_grad_enabled()
    with torch.enable_grad():
        image = inference.likelihood.mean
        signs = torch.randint_like(image, 2) * 2.0 - 1.0
        (product,) = torch.autograd.grad(image, inference.z, signs, create_graph=grad, retain_graph=True)
    return product[0].flatten(1).square().sum(1)


class ParameterPenaltyObjective(PenalizedObjective):
    """A `PenalizedObjective` whose penalties read parameters, such as `decoder_weights`."""

    needs_whole_parameters = True


class GradientPenaltyObjective(PenalizedObjective):
    """A `PenalizedObjective` whose decoder is differentiable with respect to z, even under `no_grad` or if frozen."""

    needs_whole_parameters = True

    def infer(self, model: Model, x: Tensor, c: Tensor | None) -> Inference:
        """Returns the inference, with a z that requires a gradient."""
        posterior = model.encoder(x, c)
        z, log_q = sample_with_log_prob(posterior, 1)
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            likelihood = model.decoder(z, c)
        return Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=model.prior(c), likelihood=likelihood, c=c)


class DenoisingObjective(PenalizedObjective):
    """The distortion of x given an encoded corrupted copy; in eval mode x itself is encoded.

    Args:
        corruption: "masking" sets elements to 0, "gaussian" adds noise.
        level: the probability of masking, or the standard deviation of the noise.
    """

    def __init__(self, corruption: Corruption, level: float) -> None:
        super().__init__()
        self.corruption, self.level = corruption, level

    def infer(self, model: Model, x: Tensor, c: Tensor | None) -> Inference:
        """Returns the inference of the corrupted x, with x as the data."""
        return replace(model.infer(self.corrupt(x), c), x=x) if self.training else model.infer(x, c)

    @torch.no_grad()
    def codes(self, model: Model, inference: Inference) -> Tensor:
        """Returns the codes of x itself."""
        return sample_with_log_prob(model.encoder(inference.x, inference.c), self.samples)[0]

    def corrupt(self, x: Tensor) -> Tensor:
        """Returns a corrupted copy of x."""
        if self.corruption == "masking":
            return x * (torch.rand_like(x) >= self.level)
        return x + self.level * torch.randn_like(x)
