"""The convolutional VAE: a backbone that people look for by this name."""

from __future__ import annotations

from vaezoo.core import VAE
from vaezoo.registry import Architecture, register


@register(
    "conv-vae",
    changes="backbone",
    year=2014,
    paper="Kingma & Welling",
    url="https://arxiv.org/abs/1312.6114",
    defaults={"backbone": "conv"},
)
def conv_vae(base: VAE, architecture: Architecture) -> VAE:
    r"""Minimises $D + R$ like `vae`, with convolutions instead of fully connected layers.

    $$\log p(x) \ge -(D + R)$$

    The rate is in closed form. When to use it: for images. It is confused with a variant of its own: any variant
    becomes convolutional by `backbone={"name": "conv", "channels": [32, 64]}`; this name composes with all others
    ("conv-vae+beta-vae").
    """
    return base
