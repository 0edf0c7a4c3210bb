"""The partially importance-weighted autoencoder: a bound of its own for the encoder."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives.importance import PartialObjective
from vaezoo.registry import Architecture, register


@register("piwae", changes="objective", year=2018, paper="Rainforth et al.", url="https://arxiv.org/abs/1802.05383")
def piwae(
    base: VAE,
    architecture: Architecture,
    *,
    samples: Annotated[int, Meta(ge=1, le=10_000)] = 8,
    groups: Annotated[int, Meta(ge=1, le=10_000)] = 8,
) -> VAE:
    r"""Maximises $\mathcal{L}_{1,MK}$ with decoder and prior, but $\mathcal{L}_{M,K}$ with the encoder.

    $$\mathcal{L}_{M,K} = \frac1M \sum_{m=1}^M \log \frac1K \sum_{k=1}^K \frac{p(x|z_{mk})\,p(z_{mk})}{q(z_{mk}|x)}$$

    Hyperparameters:
        samples: $K \ge 1$, in each group of the encoder's bound.
        groups: $M \ge 1$; 1 is the IWAE with K samples. Cost grows with $MK$, 64 in the paper.

    A game of two players, `model` and `encoder`, over the same draws. The reported rate is in closed form; the bound,
    $\mathcal{L}_{1,MK}$, samples it. When to use it: for the tight bound of `iwae` with an encoder that still learns.
    It is confused with `miwae`, which gives both players the looser bound, and with `ciwae`, which mixes two bounds.
    """
    return base.replace(objective=PartialObjective(samples, groups))
