"""JointVAE: continuous latents and categories together."""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.core.part import require_vector_latent
from vaezoo.encoders.categorical import JointEncoder
from vaezoo.errors import ShapeError
from vaezoo.objectives import TwoCapacities
from vaezoo.priors.categorical import JointPrior
from vaezoo.registry import Architecture, register


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
    size = require_vector_latent(architecture.latent, "joint-vae") - sum(categories)
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
