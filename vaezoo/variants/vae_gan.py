"""The VAE with a learned similarity: encoder, decoder and a critic of images."""

import math

from vaezoo.core import VAE
from vaezoo.networks.perceptron import Width
from vaezoo.objectives import FeatureCritic, SimilarityObjective
from vaezoo.quantization import CodeObjective
from vaezoo.registry import Architecture, Weight, register


@register(
    "vae-gan",
    changes="objective",
    offers="penalized",
    defaults={"likelihood": {"name": "gaussian", "scale": 0.3, "scale_kind": "optimal"}},
    example={"critic_channels": 8},
)
def vae_gan(base: VAE, architecture: Architecture, *, gamma: Weight = 1.0, critic_channels: Width = 32) -> VAE:
    r"""Minimizes rate and a distortion in the features of a critic, which separates images from reconstructions.

    $$D_l = \tfrac12 \|C_l(x) - C_l(\tilde x)\|^2, \qquad
        L = -\log \sigma(C(x)) - \log(1 - \sigma(C(\tilde x))) - \log(1 - \sigma(C(x_p)))$$

    Hyperparameters:
        gamma: $\gamma \ge 0$, weight of the similarity for the decoder.
        critic_channels: width of the critic's last hidden layer, $C_l$, at each position of the backbone's grid.

    The encoder minimizes $R + D_l$, the decoder $\gamma D_l - L$, and a critic $C$ of images $L$.
    $\tilde x$ is the mean of p(x|z) for z from q(z|x), and $x_p$ that for z from the prior. Images are compared in a
    layer of the critic, a network like the encoder's, and not in pixels. The reported $D = -\log p(x|z)$ and bound are
    not optimized; the rate is in closed form. By default the likelihood's scale follows the error. If the critic wins,
    give it a lower learning rate. Composed with `vq-vae` or a relative, the encoder's loss has the penalties of that
    variant (its commitment), and the critic is applied to reconstructions alone, since codes of a uniform prior are
    noise: the first stage of VQGAN, but for its perceptual loss. Use it for sharp images whose details may be wrong.

    See also: `aae`, whose critic has codes as inputs.

    References:
        Larsen et al. (2016), https://arxiv.org/abs/1512.09300
        VQGAN: Esser et al. (2021), https://arxiv.org/abs/2012.09841
    """
    network = architecture.network()
    grid = network.grid(architecture.shape, critic_channels)
    critic = FeatureCritic(network.down(architecture.shape, (1, *grid), architecture.context), math.prod(grid))
    old = base.objective
    if not isinstance(old, CodeObjective):
        return base.replace(objective=SimilarityObjective(gamma, critic))
    return base.replace(objective=SimilarityObjective(gamma, critic, penalties=old.penalties, with_samples=False))
