"""FactorVAE: total correlation estimated by a critic."""

import math

from vaezoo.core import VAE
from vaezoo.networks import MLP
from vaezoo.objectives import TotalCorrelationObjective
from vaezoo.registry import Architecture, Weight, Widths, register


@register("factor-vae", changes="objective", couples_examples=True, example={"critic_hidden": (32,)})
def factor_vae(
    base: VAE, architecture: Architecture, *, gamma: Weight = 10.0, critic_hidden: Widths = (1000,) * 5
) -> VAE:
    r"""Minimizes D + R and the total correlation of the latents, which a critic estimates.

    $$D + R + \gamma\,\mathrm{TC}, \qquad \mathrm{TC} = \mathrm{KL}(q(z)\,\|\,\textstyle\prod_j q(z_j)), \qquad
        \mathrm{TC} \approx \mathbb{E}_{q(z)}\Big[\log \frac{C(z)}{1 - C(z)}\Big]$$

    Hyperparameters:
        gamma: $\gamma \ge 0$, weight of the total correlation; the paper uses 10 to 40.
        critic_hidden: widths of the critic's hidden layers, five of 1000 in the paper.

    The players are `model` and `critic`. The critic's negative examples are latents shuffled over the batch, which
    couples its examples; the critic is not saved. The rate is in closed form; the total correlation is the critic's
    estimate for the drawn z. Use it for disentangled factors with sharper images than `beta-vae` at the same
    independence.

    Priors whose latents always depend on each other (hierarchies, spheres, categories) are refused; mixtures and flows
    are accepted, and the term opposes the dependence that they learn.

    See also: `beta-tc-vae`, which estimates the same total correlation from the batch, without a critic.

    References: Kim & Mnih (2018), https://arxiv.org/abs/1802.05983
    """
    width = math.prod(architecture.latent)
    return base.replace(objective=TotalCorrelationObjective(gamma, MLP((width,), (1,), 0, critic_hidden, "leaky-relu")))
