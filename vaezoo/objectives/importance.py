r"""Importance-weighted bounds: K draws for each example, weighed by $w_k = p(x|z_k)\,p(z_k)/q(z_k|x)$.

Two gradient estimators remove the score function of the posterior, $\partial_\phi \log q_\phi(z|x)$ at a fixed z, whose
mean is 0 or made to be so, but whose noise drowns the encoder's gradient as K grows. Both give the same bound.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction, FunctionCtx
from torch.distributions import Distribution

from vaezoo.core import ELBO, Inference, Model, Objective, sample_with_log_prob
from vaezoo.distributions.normal import DiagonalNormal
from vaezoo.errors import CompositionError
from vaezoo.objectives.adversarial import players_of

__all__ = ["Gradient", "ImportanceObjective", "detach_parameters", "log_mean_exp"]

Gradient = Literal["plain", "sticking-the-landing", "doubly-reparametrized"]


@singledispatch
def detach_parameters(posterior: Distribution) -> Distribution:
    """Returns a posterior whose parameters count as constants: the gradient of its density goes through z alone.

    Raises:
        CompositionError: none is registered for this kind (`held.register`).
    """
    raise CompositionError(
        f"Got a posterior of type {type(posterior).__name__}, whose density cannot be held while its draws move; "
        'expected a diagonal Gaussian. Choose gradient = "plain".'
    )


@detach_parameters.register
def _(posterior: DiagonalNormal) -> Distribution:
    return DiagonalNormal(posterior.loc.detach(), posterior.log_scale.detach(), posterior.event_dims)


class Rescale(torch.autograd.Function):
    """Leaves z (K, B, *latent) as it is and multiplies its gradient by factors (K, B) that are known only later."""

    @staticmethod
    def forward(ctx: FunctionCtx, z: Tensor, factors: list[Tensor]) -> Tensor:
        """Returns z; `factors` is empty still, and holds the factors when the backward pass comes."""
        ctx.factors = factors  # type: ignore[attr-defined]  # a context takes what it is given
        return z.view_as(z)

    @staticmethod
    def backward(ctx: BackwardCFunction, grad: Tensor) -> tuple[Tensor, None]:
        """Returns the gradient of z times the factors."""
        (factor,) = cast("list[Tensor]", ctx.factors)  # type: ignore[attr-defined]  # see `forward`
        return grad * factor.reshape(*factor.shape, *[1] * (grad.dim() - factor.dim())), None


class ImportanceObjective(Objective):
    r"""Minimises $-\log \frac1K \sum_k w_k$ (Burda et al., 2016, https://arxiv.org/abs/1509.00519).

    Args:
        samples: $K$, draws of z per example.
        gradient: "plain"; "sticking-the-landing" leaves out the posterior's score (Roeder et al., 2017,
            https://arxiv.org/abs/1703.09194), whose mean is 0 only for K = 1; "doubly-reparametrized" turns it into a
            derivative by z, without bias (Tucker et al., 2018, https://arxiv.org/abs/1810.04152).
    """

    def __init__(self, samples: int, gradient: Gradient = "plain") -> None:
        super().__init__()
        self.samples, self.gradient = samples, gradient

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO; its bound is the importance-weighted one, tighter than -(D + R)."""
        factors: list[Tensor] = []
        inference = model.infer(x, c, self.samples) if self.gradient == "plain" else self._infer(model, x, c, factors)
        log_likelihood = inference.log_likelihood()
        log_weights = inference.log_weights(log_likelihood)
        if self.gradient == "doubly-reparametrized":
            factors.append(log_weights.detach().softmax(0))
        return ELBO(
            distortion=inference.distortion(log_likelihood),
            rate=inference.rate(),
            bound=self.if_density(inference, self.estimate(log_weights)),
            losses=self.losses_of(log_weights),
            statistics=model.observe(inference),
        )

    def estimate(self, log_weights: Tensor) -> Tensor:
        """Returns the bound that is reported, (B,), from log weights (K, B)."""
        return log_mean_exp(log_weights)

    def losses_of(self, log_weights: Tensor) -> dict[str, Tensor]:
        """Returns player -> (B,) what it minimises."""
        return {"model": -self.estimate(log_weights)}

    def _infer(self, model: Model, x: Tensor, c: Tensor | None, factors: list[Tensor]) -> Inference:
        r"""Returns a pass in whose log q(z|x) the posterior is held.

        The gradient by z_k is then $\bar w_k\,\partial_z \log w_k$ with $\bar w_k = w_k / \sum_j w_j$; times
        $\bar w_k$ once more it is the doubly reparametrised one.
        """
        posterior: Distribution = model.encoder(x, c)
        z, _ = sample_with_log_prob(posterior, self.samples)
        if self.gradient == "doubly-reparametrized":
            z = cast(Tensor, Rescale.apply(z, factors))
        return Inference(
            x=x,
            z=z,
            log_q=detach_parameters(posterior).log_prob(z),
            posterior=posterior,
            prior=model.prior(c),
            likelihood=model.decoder(z, c),
        )


def log_mean_exp(values: Tensor) -> Tensor:
    """Returns log((1/K) Σ_k exp(values_k)) over the first dimension."""
    return values.logsumexp(0) - math.log(values.shape[0])


class CombinedObjective(ImportanceObjective):
    """Minimises a convex combination of the negative ELBO and the negative importance-weighted bound."""

    def __init__(self, samples: int, beta: float) -> None:
        super().__init__(samples)
        self.beta = beta

    def losses_of(self, log_weights: Tensor) -> dict[str, Tensor]:
        """Returns the loss, (B,); both bounds are of the same draws."""
        tight = self.estimate(log_weights)
        return {"model": -tight.lerp(log_weights.mean(0), self.beta)}


class GroupedObjective(ImportanceObjective):
    """Minimises the negative mean of the importance-weighted bounds of M groups of K samples."""

    def __init__(self, samples: int, groups: int) -> None:
        super().__init__(samples * groups)
        self.groups = groups

    def estimate(self, log_weights: Tensor) -> Tensor:
        """Returns the mean over groups of the bound of each, (B,), from log weights (M·K, B)."""
        return log_mean_exp(log_weights.unflatten(0, (-1, self.groups))).mean(0)


class PartialObjective(ImportanceObjective):
    """The encoder minimises the mean of M bounds of K samples, everything else the one bound of all M·K."""

    def __init__(self, samples: int, groups: int) -> None:
        super().__init__(samples * groups)
        self.groups = groups

    def players(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Returns the encoder's parameters and all others."""
        return players_of(model, {"encoder": model.encoder}, rest="model")

    def losses_of(self, log_weights: Tensor) -> dict[str, Tensor]:
        """Returns what each player minimises, (B,)."""
        grouped = log_mean_exp(log_weights.unflatten(0, (-1, self.groups))).mean(0)
        return {"model": -self.estimate(log_weights), "encoder": -grouped}
