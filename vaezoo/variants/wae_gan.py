"""The Wasserstein autoencoder with a critic."""

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.networks import MLP
from vaezoo.objectives import LatentAdversarialObjective
from vaezoo.registry import Architecture, LargeWeight, Widths, register


@register(
    "wae-gan", changes=("encoder", "objective"), rate="no density", example={"critic_hidden": (32,), "weight": 2.0}
)
def wae_gan(
    base: VAE,
    architecture: Architecture,
    *,
    weight: LargeWeight = 10.0,
    known_prior: bool = False,
    critic_hidden: Widths = (512,) * 4,
) -> VAE:
    r"""Minimizes the distortion with a deterministic encoder, whose codes a critic compares with the prior.

    $$D - \lambda \log \sigma(C(z)), \qquad C(z) \to \log p(z) - \log q(z)$$

    Hyperparameters:
        weight: $\lambda \ge 0$; 10 in the paper on MNIST, where D is the squared error: `likelihood = {name =
            "gaussian", scale = 0.7071}`, up to a constant.
        known_prior: whether the critic contains log p(z), $C(z) = \log p(z) + h(z)$, so that its network $h$ learns the
            density of codes alone; a choice of the authors' code (after Mescheder et al., 2017). On MNIST samples were
            far worse with it.
        critic_hidden: widths of the critic's hidden layers, four of 512 as in the authors' code for MNIST.

    The players are `model` and `critic`, whose loss is that of `aae`. There is no density of z and so no bound; the
    reported rate is $-\log p(z)$. With a learned prior for each class (`cvae+wae-gan`) a narrow critic fails: on 8 x 8
    digits 16 % of the samples were of the given class with 32 units, 100 % with two layers of 128. Use it where
    `wae-mmd` leaves the distribution of codes too far from the prior.

    See also: `aae`, which is this with $\lambda = 1$; the Wasserstein GAN, whose critic has images as inputs.

    References:
        Tolstikhin et al. (2018), https://arxiv.org/abs/1711.01558
        Known prior: Mescheder et al. (2017), https://arxiv.org/abs/1701.04722
    """
    critic = MLP(architecture.latent, (1,), architecture.context, critic_hidden, "relu")
    objective = LatentAdversarialObjective(critic, weight, known_prior=known_prior)
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=objective)
