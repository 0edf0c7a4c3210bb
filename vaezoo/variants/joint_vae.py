"""JointVAE: continuous latents and categories together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.capacities import TwoCapacities
from vaezoo.categories import OneHots, SideBySide
from vaezoo.distributions import StandardNormal, full_precision, normal_from
from vaezoo.elbo import Part
from vaezoo.errors import ShapeError
from vaezoo.model import VAE
from vaezoo.parts import given, width_of
from vaezoo.registry import Architecture, register


class JointEncoder(Part):
    """q(z|x,c): a normal over the first latents, and categories, relaxed in train mode."""

    def __init__(self, network: nn.Module, size: int, categories: Sequence[int], temperature: float) -> None:
        super().__init__()
        self.network, self.sizes, self.temperature = network, [2 * size, *categories], temperature

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        raw, *logits = full_precision(self.network(*given(x, c))).split(self.sizes, -1)
        temperature, normal = self.temperature if self.training else None, normal_from(raw.unflatten(-1, (2, -1)), 1)
        return SideBySide([normal, *(OneHots(each, 1, temperature) for each in logits)])


class JointPrior(Part):
    """A standard normal and equally likely categories, whatever the context."""

    zeros: Tensor

    def __init__(self, size: int, categories: Sequence[int]) -> None:
        super().__init__()
        self.sizes = [size, *categories]
        self.register_buffer("zeros", torch.zeros(sum(self.sizes)), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        zeros, *logits = self.zeros.split(self.sizes)
        return SideBySide([StandardNormal(zeros, 1), *(OneHots(each, 1) for each in logits)])


@register(
    "joint-vae",
    changes=("encoder", "prior", "objective"),
    year=2018,
    paper="Dupont",
    url="https://arxiv.org/abs/1804.00104",
    defaults={"latent": 20},
)
def joint_vae(
    base: VAE,
    architecture: Architecture,
    *,
    categories: Annotated[tuple[Annotated[int, Meta(ge=2, le=65536)], ...], Meta(min_length=1, max_length=64)] = (10,),
    gamma: Annotated[float, Meta(ge=0, le=1e6)] = 30.0,
    continuous_capacity: Annotated[float, Meta(ge=0, le=1e6)] = 5.0,
    discrete_capacity: Annotated[float, Meta(ge=0, le=1e6)] = 5.0,
    capacity_steps: Annotated[int, Meta(ge=1, le=10**9)] = 25_000,
    temperature: Annotated[float, Meta(gt=0, le=100)] = 0.67,
) -> VAE:
    r"""Minimises $D + \gamma |R_z - C_z(t)| + \gamma |R_c - C_c(t)|$: normals and categories, each with a capacity.

    $$C(t) = C_{max} \min(1, t / T), \qquad C_{c,max} \le \textstyle\sum_i \log V_i$$

    Hyperparameters:
        categories: $V_i$, how many categories each discrete latent has.
        gamma: $\gamma \ge 0$, how hard the rates are held; 30 on MNIST in the paper.
        continuous_capacity: $C_{z,max}$ in nats per example; 5 on MNIST in the paper.
        discrete_capacity: $C_{c,max}$ likewise.
        capacity_steps: $T$, in how many steps; 25,000 in the paper.
        temperature: $\tau$ of the relaxed draws in train mode; 0.67 in the paper's code.

    z is (normals, one-hot, one-hot, …) along one axis: `latent` counts all. The rate is in closed form, of two
    terms, `rate_continuous` and `rate_discrete`. In train mode categories are relaxed and the bound is an estimate.
    When to use it: to find classes and styles apart without labels. It is confused with `m2-vae`, which is told some
    of the labels, and with `vade`, whose clusters are in the prior.
    """
    size = width_of(architecture.latent, "joint-vae") - sum(categories)
    if size < 1:
        raise ShapeError(
            f"Got latent = {list(architecture.latent)}; joint-vae expected more than the {sum(categories)} of "
            f"categories = {list(categories)}. Choose latent = {sum(categories) + 10}, say."
        )
    network = architecture.network().down(architecture.shape, (2 * size + sum(categories),), architecture.context)
    most = min(discrete_capacity, math.fsum(math.log(each) for each in categories))
    objective = TwoCapacities(gamma, (continuous_capacity, most), capacity_steps)
    encoder = JointEncoder(network, size, categories, temperature)
    return base.replace(encoder=encoder, prior=JointPrior(size, categories), objective=objective)
