"""A learnt prior over codes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.networks import CausalTransformer
from vaezoo.quantization import CodePrior
from vaezoo.quantization.prior import source_of
from vaezoo.registry import Architecture, register


@register(
    "code-prior",
    changes="prior",
    year=2017,
    paper="van den Oord et al.",
    url="https://arxiv.org/abs/1711.00937",
    requires="codes",
)
def code_prior(
    base: VAE,
    architecture: Architecture,
    *,
    prior_width: Annotated[int, Meta(ge=1, le=4096)] = 128,
    prior_depth: Annotated[int, Meta(ge=1, le=64)] = 3,
    prior_heads: Annotated[int, Meta(ge=1, le=64)] = 4,
) -> VAE:
    r"""Minimises $D + R$ with an autoregressive prior over the indices of the codes, $R = -\log p(i_1, \dots, i_N)$.

    $$p(i) = \prod_{n=1}^N p(i_n | i_1, \dots, i_{n-1})$$

    Hyperparameters:
        prior_width: of the transformer, a multiple of the heads.
        prior_depth: how many blocks of attention and perceptron it has.
        prior_heads: of the attention.

    Composed with whatever has codes: `vq-vae+code-prior`. The indices are read in raster order, level after level; no
    gradient reaches the encoder through them, so that the prior is best trained in a stage of its own
    (`train = ["prior"]`). The paper takes a PixelCNN where this takes a causal transformer. The rate is in closed
    form where the posterior is a point mass. When to use it: whenever a model of codes is to be sampled from, and for
    its likelihood: under the uniform prior draws are noise and the rate is N·log V. It is confused with `vamp-vae` and
    `flow-prior-vae`, learnt priors over continuous latents.
    """
    source = source_of(base)
    network = CausalTransformer(
        source.codes, source.sections, architecture.context, width=prior_width, depth=prior_depth, heads=prior_heads
    )
    return base.replace(prior=CodePrior(network))
