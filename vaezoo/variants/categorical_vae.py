"""The VAE with categorical latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.categories import OneHots
from vaezoo.distributions import full_precision
from vaezoo.elbo import Part
from vaezoo.errors import ShapeError
from vaezoo.model import VAE
from vaezoo.parts import given
from vaezoo.registry import Architecture, register


class CategoricalEncoder(Part):
    r"""q(z|x,c): independent categories, relaxed in training at $\tau(t) = \max(\tau_{end}, \tau_0 e^{-rt})$."""

    temperature: Tensor

    def __init__(self, network: nn.Module, dims: int, start: float, end: float, rate: float) -> None:
        super().__init__()
        self.network, self.dims, self.start, self.end, self.rate = network, dims, start, end, rate
        self.register_buffer("temperature", torch.tensor(max(start, end)))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example; its draws are relaxed in train mode only."""
        logits = full_precision(self.network(*given(x, c))).squeeze(1)
        return OneHots(logits, self.dims, self.temperature.to(logits.dtype) if self.training else None)

    def after_step(self, seen: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Cools down."""
        self.temperature.copy_((self.start * (-self.rate * step).exp()).clamp(min=self.end))


class UniformCategoriesPrior(Part):
    """Equally likely categories, whatever the context."""

    zeros: Tensor

    def __init__(self, latent: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(*latent), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        return OneHots(self.zeros, self.zeros.dim())


@register(
    "categorical-vae",
    changes=("encoder", "prior"),
    year=2017,
    paper="Jang et al.",
    url="https://arxiv.org/abs/1611.01144",
    defaults={"latent": (20, 10)},
)
def categorical_vae(
    base: VAE,
    architecture: Architecture,
    *,
    temperature: Annotated[float, Meta(gt=0, le=100)] = 1.0,
    final_temperature: Annotated[float, Meta(gt=0, le=100)] = 0.5,
    cooling: Annotated[float, Meta(ge=0, le=1)] = 3e-5,
) -> VAE:
    r"""Minimises $D + R$ with latents that are categories, relaxed while training (Gumbel-softmax).

    $$z = \mathrm{softmax}\big((\log \pi(x) + g) / \tau\big), \qquad R = \sum_n \mathrm{KL}(\pi_n(x)\,\|\,1/V)$$

    Hyperparameters:
        temperature: $\tau_0$, at the start.
        final_temperature: $\tau_{end}$, never below; 0.5 in the paper.
        cooling: r per step in $\tau = \max(\tau_{end}, \tau_0 e^{-rt})$; 1e-5 to 1e-4 in the paper.

    The latent shape is (N, V): N variables of V categories. The rate is that of the categories, in closed form. In
    train mode z is relaxed, and bound and distortion are estimates with a bias that falls with $\tau$; in eval mode z
    is exactly one-hot, and the bound is one. `reconstruct` takes the likeliest categories. When to use it: for latents
    that are choices. It is confused with `vq-vae`, whose encoder chooses without a probability, and with
    `gumbel-vq-vae`, whose categories are vectors of a codebook.
    """
    latent = architecture.latent
    if latent[-1] < 2:
        raise ShapeError(
            f"Got latent = {list(latent)}; categorical-vae expected (N, V) with V of 2 or more, such as (20, 10)."
        )
    network = architecture.network().down(architecture.shape, (1, *latent), architecture.context)
    encoder = CategoricalEncoder(network, len(latent), temperature, final_temperature, cooling)
    return base.replace(encoder=encoder, prior=UniformCategoriesPrior(latent))
