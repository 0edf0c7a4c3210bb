"""The importance-weighted autoencoder."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives import GradientEstimator, ImportanceObjective
from vaezoo.registry import Architecture, register


@register("iwae", changes="objective", example={"samples": 4})
def iwae(
    base: VAE,
    architecture: Architecture,
    *,
    samples: Annotated[int, Meta(ge=1, le=100_000)] = 50,
    gradient: GradientEstimator = "plain",
) -> VAE:
    r"""Maximizes the importance-weighted bound over K samples.

    $$\mathcal{L}_K = \mathbb{E}\Big[\log \frac1K \sum_{k=1}^K \frac{p(x|z_k)\,p(z_k)}{q(z_k|x)}\Big] \le \log p(x)$$

    Hyperparameters:
        samples: $K \ge 1$; 1 is `vae` with a sampled rate. The cost is proportional to K.
        gradient: gradient of the encoder, all of the same bound. "plain" is the paper's, whose signal-to-noise ratio
            decreases with K. "doubly-reparametrized" (Tucker et al., 2018) has the same mean and less noise.
            "sticking-the-landing" (Roeder et al., 2017) omits the posterior's score; for K > 1 it is biased. The last
            two need a diagonal Gaussian posterior.

    The reported rate is in closed form; the bound is sampled. Use it for the best likelihood of given networks; a
    fine-tune of a trained `vae` with K = 50 gives nearly all of it.

    See also: `miwae`, which averages several such bounds. K samples in the plain ELBO reduce its noise but not its gap.

    References:
        Burda et al. (2016), https://arxiv.org/abs/1509.00519
        Doubly reparametrized gradients: Tucker et al. (2018), https://arxiv.org/abs/1810.04152
        Sticking the landing: Roeder et al. (2017), https://arxiv.org/abs/1703.09194
    """
    return base.replace(objective=ImportanceObjective(samples, gradient))
