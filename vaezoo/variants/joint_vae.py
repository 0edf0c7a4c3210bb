"""JointVAE: continuous and categorical latents."""

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE, require_vector_latent
from vaezoo.encoders import JointEncoder
from vaezoo.errors import ShapeError
from vaezoo.objectives import TwoCapacitiesObjective, Warmup
from vaezoo.priors import JointPrior
from vaezoo.registry import Architecture, Steps, Temperature, Weight, register


@register(
    "joint-vae",
    changes=("encoder", "prior", "objective"),
    defaults={"latent": 20},
    example={"latent": 18, "gamma": 5.0, "continuous_capacity": 8.0, "capacity_steps": 200},
)
def joint_vae(
    base: VAE,
    architecture: Architecture,
    *,
    categories: Annotated[tuple[Annotated[int, Meta(ge=2, le=65536)], ...], Meta(min_length=1, max_length=64)] = (10,),
    gamma: Weight = 30.0,
    continuous_capacity: Weight = 5.0,
    discrete_capacity: Weight = 5.0,
    capacity_steps: Steps = 25_000,
    temperature: Temperature = 0.67,
) -> VAE:
    r"""Minimizes distortion with normal and categorical latents, the rate of each held at a capacity.

    $$D + \gamma |R_z - C_z(t)| + \gamma |R_c - C_c(t)|, \qquad
        C_z(t) = C_{z,max} \min(1, t / T), \quad C_c(t) = \min\big(C_{c,max}\,t / T, C_{c,max},
        \textstyle\sum_i \log V_i\big)$$

    Hyperparameters:
        categories: $V_i \ge 2$, number of categories of each discrete latent.
        gamma: $\gamma \ge 0$, weight of the deviations from the capacities; 30 on MNIST in the paper.
        continuous_capacity: $C_{z,max} \ge 0$, nats per example; 5 on MNIST in the paper.
        discrete_capacity: $C_{c,max} \ge 0$, nats per example; 5 on MNIST in the paper. It rises towards this number,
            as in the paper's code, but not above the largest rate that the categories can have.
        capacity_steps: $T \ge 1$, steps until the capacities are reached; 25,000 in the paper.
        temperature: $\tau > 0$ of the relaxed draws in train mode; 0.67 in the paper's code.

    z is (normals, one-hot, one-hot, …) along one axis; `latent` is the total size. The rate is in closed form, with the
    terms `rate_continuous` and `rate_discrete`. In train mode categories are relaxed and the bound is an estimate. Use
    it to separate classes from styles without labels.

    See also: `m2-vae`, which uses labels of some examples; `vade`, whose clusters are in the prior.

    References: Dupont (2018), https://arxiv.org/abs/1804.00104
    """
    size = require_vector_latent(architecture.latent, "joint-vae") - sum(categories)
    if size < 1:
        raise ShapeError(
            f"Got latent = {list(architecture.latent)}; joint-vae expected more than the {sum(categories)} of "
            f"categories = {list(categories)}. Choose latent = {sum(categories) + 10}, say."
        )
    network = architecture.network().down(architecture.shape, (2 * size + sum(categories),), architecture.context)
    most = math.fsum(math.log(each) for each in categories)
    capacities = Warmup(continuous_capacity, capacity_steps), Warmup(discrete_capacity, capacity_steps, most)
    objective = TwoCapacitiesObjective(gamma, capacities)
    encoder = JointEncoder(network, size, categories, temperature)
    return base.replace(encoder=encoder, prior=JointPrior(size, categories), objective=objective)
