"""The denoising autoencoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor

from vaezoo.elbo import Inference, Model, PenalizedObjective
from vaezoo.model import VAE
from vaezoo.points import PointEncoder
from vaezoo.registry import Architecture, register

Corruption = Literal["masking", "gaussian"]


class DenoisingObjective(PenalizedObjective):
    """Minimises the distortion of x from a corrupted copy; in eval mode from x itself."""

    def __init__(self, corruption: Corruption, level: float) -> None:
        super().__init__()
        self.corruption, self.level = corruption, level

    def infer(self, model: Model, x: Tensor, c: Tensor | None) -> Inference:
        """Returns the pass of the corrupted x, measured against x."""
        if not self.training:
            return model.infer(x, c)
        return replace(model.infer(self.corrupt(x), c), x=x)

    def corrupt(self, x: Tensor) -> Tensor:
        """Returns x with a share of its values at 0, or with noise added."""
        if self.corruption == "masking":
            return x * (torch.rand_like(x) >= self.level)
        return x + self.level * torch.randn_like(x)


@register(
    "dae",
    changes=("encoder", "objective"),
    year=2008,
    paper="Vincent et al.",
    url="https://doi.org/10.1145/1390156.1390294",
    rate="no density",
)
def dae(
    base: VAE,
    architecture: Architecture,
    *,
    corruption: Corruption = "masking",
    level: Annotated[float, Meta(ge=0, le=1)] = 0.25,
) -> VAE:
    r"""Minimises $D$ of x from codes of a corrupted copy $\tilde x$.

    $$D = -\log p(x\,|\,f(\tilde x)), \qquad \tilde x = x \odot m, \; m_i \sim \mathrm{Bernoulli}(1 - \nu)
        \quad \text{or} \quad \tilde x = x + \nu\,\epsilon$$

    Hyperparameters:
        corruption: "masking" sets values to 0, "gaussian" adds noise.
        level: $\nu \in [0, 1]$, the share of values that are set to 0, or the noise's standard deviation; 0 is `ae`.

    In eval mode x is not corrupted. There is no density of z and so no bound: what is reported as the rate is
    $-\log p(z)$, which nothing minimises. When to use it: for codes that do not hang on single pixels, also with more
    latents than pixels. It is confused with diffusion models, which remove noise in many steps and have no codes, and
    with the denoising criterion for VAEs, which has a density.
    """
    objective = DenoisingObjective(corruption, level)
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=objective)
