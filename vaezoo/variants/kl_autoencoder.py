"""The autoencoder of latent diffusion: a grid of latents with a small rate weight, and an optional critic."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.networks.features import PerceptualNetwork
from vaezoo.networks.patch_critic import critic_of
from vaezoo.networks.perceptron import Width
from vaezoo.objectives import PatchAdversarialObjective, Penalty
from vaezoo.objectives.penalties.perceptual import PerceptualPenalty
from vaezoo.objectives.penalties.transformations import EquivariancePenalty, NoisePenalty
from vaezoo.registry import Architecture, Weight, register

LATENTS = 4  # channels of the grid of latents


@register(
    "kl-autoencoder",
    changes="objective",
    defaults={
        "backbone": "resnet",
        "latent": lambda given: given.network().grid(given.shape, LATENTS),
        "likelihood": {"name": "laplace", "scale": 0.5},
    },
    example={"latent": 8, "beta": 1.0},
)
def kl_autoencoder(
    base: VAE,
    architecture: Architecture,
    *,
    beta: Weight = 1e-6,
    perceptual: Weight = 0.0,
    perceptual_network: PerceptualNetwork = "color64",
    critic: Weight = 0.0,
    critic_channels: Width = 64,
    critic_start: Annotated[int, Meta(ge=0, le=10**9)] = 0,
    equivariance: Weight = 0.0,
    noise: Weight = 0.0,
) -> VAE:
    r"""Minimizes the absolute error with a very small rate weight, and optionally a perceptual distance and a critic.

    $$D + \beta R + uN\,d(x, \hat x) + w \lambda G + v\,D(\tau x, \tau z) + D(x, z + \sigma\epsilon), \qquad
        D = \sum |x - \hat x| / b + \text{const}$$

    Hyperparameters:
        beta: $\beta \ge 0$.
        perceptual: $u \ge 0$, weight of the perceptual distance d for each of the N values of an image; 0: none.
        perceptual_network: the network of d: color64 (in the package) or vgg16 (weights of your own file).
        critic: $w \ge 0$, weight of the critic of patches; 0: no critic, for any data.
        critic_channels: width of its first convolution.
        critic_start: number of steps before it is trained and used.
        equivariance: $v \ge 0$, weight of the distortion of rotated and scaled images, decoded from latents that are
            rotated and scaled likewise; 0: none.
        noise: $\sigma \ge 0$, standard deviation of noise on the latents in a second distortion; 0: no such term.

    $G$ is minus the mean logit of reconstructions, and $\lambda$ the ratio of the gradients at the decoder's last layer
    of the loss without $G$ and of $G$. Pixels in [0, 1] with b = ½ have the errors of pixels in [-1, 1] with b = 1. At
    $\beta = 10^{-6}$ the prior is far from the latents: sample from a density fitted to them (`fit_sampler`), or by
    latent diffusion. The reported bound is that of D + R. Use it to compress images into a small grid. $\tau$, drawn
    for each batch, rotates by a multiple of 90 degrees and scales by ¼ to 1, which makes the grid smoother (by 180
    degrees if the grid is not square, without scales if the backbone is not `resnet`).

    See also: `beta-vae`, which is this for larger weights; `vae-gan`, whose critic measures the error.

    References:
        Rombach et al. (2022), https://arxiv.org/abs/2112.10752
        Equivariance: Kouzelis et al. (2025), https://arxiv.org/abs/2502.09509
        Adaptive weight: Esser et al. (2021), https://arxiv.org/abs/2012.09841
    """
    penalties: dict[str, tuple[float, Penalty]] = {}
    if perceptual:
        penalties["perceptual"] = (perceptual, PerceptualPenalty.of(architecture.shape, perceptual_network))
    if equivariance:
        penalties["equivariance"] = (equivariance, EquivariancePenalty.of(architecture.shape, architecture.latent))
    if noise:
        penalties["noise"] = (1.0, NoisePenalty(noise))
    network = critic_of(architecture.shape, critic_channels) if critic else None
    return base.replace(objective=PatchAdversarialObjective(beta, network, critic, critic_start, penalties))
