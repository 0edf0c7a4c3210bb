"""A learned prior over codes."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.networks import CausalTransformer
from vaezoo.quantization import CodePrior, code_source
from vaezoo.registry import Architecture, register


@register("code-prior", changes="prior", requires="codes", example={"prior_width": 16, "prior_depth": 1})
def code_prior(
    base: VAE,
    architecture: Architecture,
    *,
    prior_width: Annotated[int, Meta(ge=1, le=4096)] = 128,
    prior_depth: Annotated[int, Meta(ge=1, le=64)] = 3,
    prior_heads: Annotated[int, Meta(ge=1, le=64)] = 4,
) -> VAE:
    r"""Minimizes D + R with an autoregressive prior over the indices of the codes.

    $$R = -\log p(i), \qquad p(i) = \prod_{n=1}^N p(i_n | i_1, \dots, i_{n-1})$$

    Hyperparameters:
        prior_width: width of the transformer, a multiple of the heads.
        prior_depth: number of blocks of attention and perceptron.
        prior_heads: heads of the attention.

    It composes with variants that have codes: `vq-vae+code-prior`. The indices are ordered by level and then in raster
    order. No gradient reaches the encoder through them, so that the prior is best trained in a stage of its own (`train
    = ["prior"]`). The paper uses a PixelCNN instead of a causal transformer. The rate is in closed form if the
    posterior is a point mass. Use it to sample from a model of codes, and for its likelihood: under the uniform prior
    samples are noise and the rate is N·log V.

    See also: `vamp-vae` and `flow-prior-vae`, learned priors over continuous latents.

    References: van den Oord et al. (2017), https://arxiv.org/abs/1711.00937
    """
    source = code_source(base)
    network = CausalTransformer(
        source.codes, source.sections, architecture.context, width=prior_width, depth=prior_depth, heads=prior_heads
    )
    return base.replace(prior=CodePrior(network))
