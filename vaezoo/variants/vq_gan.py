"""The VQGAN's critic of patches for models with discrete codes."""

from typing import Annotated, cast

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.networks.patch_critic import critic_of
from vaezoo.networks.perceptron import Width
from vaezoo.objectives import PatchAdversarialObjective, PenalizedObjective
from vaezoo.registry import Architecture, Weight, register


@register("vq-gan", changes="objective", requires="penalized", couples_examples=True, example={"critic_channels": 4})
def vq_gan(
    base: VAE,
    architecture: Architecture,
    *,
    critic: Weight = 1.0,
    critic_channels: Width = 64,
    critic_start: Annotated[int, Meta(ge=0, le=10**9)] = 0,
) -> VAE:
    r"""Minimizes the loss of a model with codes plus the logits of a critic of patches.

    $$D + R + \sum_i w_i T_i + w \lambda G$$

    Hyperparameters:
        critic: $w \ge 0$, weight of the critic of patches.
        critic_channels: width of its first convolution.
        critic_start: number of steps before it is trained and used.

    It is composed with a variant that has codes: `vq-vae+vq-gan`. $G$ is minus the mean logit of reconstructions, and
    $\lambda$ the ratio of the gradients of $D$ and $G$ over the batch at the decoder's last layer; the penalties $T_i$
    are those of that variant (its commitment). The perceptual distance of the paper is no part of it. Use it for sharp
    images from few codes; a `code-prior` gives samples.

    See also: `vae-gan`, whose critic judges whole images and measures the error in its features.

    References: Esser et al. (2021), https://arxiv.org/abs/2012.09841
    """
    penalties = cast(PenalizedObjective, base.objective).penalties
    judge = critic_of(architecture.shape, critic_channels)
    return base.replace(
        objective=PatchAdversarialObjective(1.0, judge, critic, start=critic_start, penalties=penalties)
    )
