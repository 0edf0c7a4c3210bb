"""The adversarial autoencoder."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.networks import MLP
from vaezoo.networks.perceptron import Width
from vaezoo.objectives import PriorGame
from vaezoo.registry import Architecture, register


@register(
    "aae",
    changes=("encoder", "objective"),
    year=2016,
    paper="Makhzani et al.",
    url="https://arxiv.org/abs/1511.05644",
    rate="no density",
)
def aae(
    base: VAE,
    architecture: Architecture,
    *,
    posterior: Literal["deterministic", "gaussian"] = "deterministic",
    weight: Annotated[float, Meta(ge=0, le=1e6)] = 1.0,
    critic_hidden: Annotated[tuple[Width, ...], Meta(max_length=16)] = (1000, 1000),
) -> VAE:
    r"""Minimises $D - \lambda \log \sigma(C(z))$ against a critic $C$ that tells draws of p(z) from codes.

    $$\min_C\; -\tfrac12\,\mathbb{E}_{p(z)}[\log \sigma(C(z))] - \tfrac12\,\mathbb{E}_{q(z)}[\log(1 - \sigma(C(z)))]$$

    Hyperparameters:
        posterior: "deterministic", $z = f(x)$, which the paper's results are of, or "gaussian", its other choice.
        weight: $\lambda \ge 0$. The paper takes a step on either term in turn; here both are in one loss.
        critic_hidden: widths of the critic's hidden layers, two of 1000 in the paper.

    A game of two players, `model` and `critic`; `critic_accuracy` says how often the critic is right: ½ when the codes
    fill the prior. A deterministic posterior has no density of z and so no bound: what is reported as the rate is
    $-\log p(z)$. With "gaussian" rate (in closed form) and bound are those of `vae`, though nothing minimises the rate.
    When to use it: for codes that follow a prior of which one can draw, whatever its density. A context is shown to the
    critic too. It is confused with `wae-gan`, of which it is a special case, and with GANs, which judge images.
    """
    game = PriorGame(MLP(architecture.latent, (1,), architecture.context, critic_hidden, "relu"), weight)
    if posterior == "gaussian":
        return base.replace(objective=game)
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=game)
