"""The VQGAN's critic of patches for models with discrete codes."""

from typing import Annotated, cast

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.networks.features import PerceptualNetwork
from vaezoo.networks.patch_critic import critic_of
from vaezoo.networks.perceptron import Width
from vaezoo.objectives import PatchAdversarialObjective, PenalizedObjective
from vaezoo.objectives.penalties.perceptual import PerceptualPenalty
from vaezoo.registry import Architecture, Weight, register


@register("vq-gan", changes="objective", requires="penalized", couples_examples=True, example={"critic_channels": 4})
def vq_gan(
    base: VAE,
    architecture: Architecture,
    *,
    critic: Weight = 1.0,
    critic_channels: Width = 64,
    critic_start: Annotated[int, Meta(ge=0, le=10**9)] = 0,
    perceptual: Weight = 0.0,
    perceptual_network: PerceptualNetwork = "color64",
) -> VAE:
    r"""Minimizes the loss of a model with codes plus a perceptual distance and the logits of a critic of patches.

    $$D + R + \sum_i w_i T_i + uN\,d(x, \hat x) + w \lambda G$$

    Hyperparameters:
        critic: $w \ge 0$, weight of the critic of patches; 0: no critic.
        critic_channels: width of its first convolution.
        critic_start: number of steps before it is trained and used.
        perceptual: $u \ge 0$, weight of the perceptual distance d for each of the N values of an image; 0: none.
        perceptual_network: the network of d: color64 (in the package) or vgg16 (weights of your own file).

    It is composed with a variant that has codes: `vq-vae+vq-gan`. $G$ is minus the mean logit of reconstructions, and
    $\lambda$ the ratio of the gradients, at the decoder's last layer, of the loss without $G$ and of $G$; the penalties
    $T_i$ are those of that variant (its commitment). Use it for sharp images from few codes; a `code-prior` gives
    samples.

    See also: `vae-gan`, whose critic networks whole images and measures the error in its features.

    References: Esser et al. (2021), https://arxiv.org/abs/2012.09841
    """
    penalties = dict(cast(PenalizedObjective, base.objective).penalties)
    if perceptual:
        penalties["perceptual"] = (perceptual, PerceptualPenalty.of(architecture.shape, perceptual_network))
    network = critic_of(architecture.shape, critic_channels) if critic else None
    return base.replace(objective=PatchAdversarialObjective(1.0, network, critic, critic_start, penalties))
