"""The adversarial autoencoder."""

from typing import Literal

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.networks import MLP
from vaezoo.objectives import LatentAdversarialObjective
from vaezoo.registry import Architecture, Weight, Widths, register


@register("aae", changes=("encoder", "objective"), rate="no density", example={"critic_hidden": (32,)})
def aae(
    base: VAE,
    architecture: Architecture,
    *,
    posterior: Literal["deterministic", "gaussian"] = "deterministic",
    weight: Weight = 1.0,
    critic_hidden: Widths = (1000, 1000),
) -> VAE:
    r"""Minimizes the distortion, with a critic that pushes the codes towards draws of the prior.

    $$D - \lambda \log \sigma(C(z)), \qquad
        \min_C\; -\tfrac12\,\mathbb{E}_{p(z)}[\log \sigma(C(z))] - \tfrac12\,\mathbb{E}_{q(z)}[\log(1 - \sigma(C(z)))]$$

    Hyperparameters:
        posterior: "deterministic", $z = f(x)$, as in the results of the paper, or "gaussian", its other choice.
        weight: $\lambda \ge 0$. The paper alternates steps on the two terms; here both are in one loss.
        critic_hidden: widths of the critic's hidden layers, two of 1000 in the paper.

    The players are `model` and `critic`. The term `critic_accuracy` is ½ when the codes follow the prior. A
    deterministic posterior has no density of z and so no bound; the reported rate is $-\log p(z)$. With "gaussian",
    rate (in closed form) and bound are those of `vae`, though the rate is not minimized. A context is also an input of
    the critic. Use it for codes that follow a prior from which one can sample, whatever its density.

    See also: `wae-gan`, which contains this as a special case; GANs, whose critic has images as inputs.

    References: Makhzani et al. (2016), https://arxiv.org/abs/1511.05644
    """
    critic = MLP(architecture.latent, (1,), architecture.context, critic_hidden, "relu")
    objective = LatentAdversarialObjective(critic, weight)
    if posterior == "gaussian":
        return base.replace(objective=objective)
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=objective)
