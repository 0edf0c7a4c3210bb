"""The VAE with convolutional networks."""

from vaezoo.core import VAE
from vaezoo.registry import Architecture, register


@register("conv-vae", changes="backbone", defaults={"backbone": "conv"}, permits={"backbone": ("resnet",)})
def conv_vae(base: VAE, architecture: Architecture) -> VAE:
    r"""Minimizes D + R like `vae`, with convolutional networks.

    $$\log p(x) \ge -(D + R)$$

    The name fixes the backbone; its options are free, as in `backbone={"name": "conv", "channels": [32, 64]}`. Any
    other variant becomes convolutional by the same argument, or by composition ("conv-vae+beta-vae"). The rate is in
    closed form. Use it for images.

    See also: `vae`, which is this with any backbone.

    References: Kingma & Welling (2014), https://arxiv.org/abs/1312.6114
    """
    return base
