"""The multiply importance-weighted autoencoder."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives.importance import GroupedObjective
from vaezoo.registry import Architecture, register


@register("miwae", changes="objective", year=2018, paper="Rainforth et al.", url="https://arxiv.org/abs/1802.05383")
def miwae(
    base: VAE,
    architecture: Architecture,
    *,
    samples: Annotated[int, Meta(ge=1, le=10_000)] = 8,
    groups: Annotated[int, Meta(ge=1, le=10_000)] = 8,
) -> VAE:
    r"""Maximises the mean of M importance-weighted bounds over K samples each.

    $$\mathcal{L}_{M,K} = \frac1M \sum_{m=1}^M \log \frac1K \sum_{k=1}^K \frac{p(x|z_{mk})\,p(z_{mk})}{q(z_{mk}|x)}$$

    Hyperparameters:
        samples: $K \ge 1$, in each group; 1 is the VAE with a sampled rate.
        groups: $M \ge 1$; 1 is the IWAE. Cost grows with $MK$, 64 in the paper.

    The reported rate is in closed form; the bound samples it. When to use it: where the IWAE's encoder learns badly:
    K tightens the bound but drowns the encoder's gradient in noise, M brings it back. It is confused with `iwae`, which
    for the same number of draws has the tighter bound, and with `gradient = "doubly-reparametrized"` there, another
    remedy for the same trouble. No relation of the MIWAE for missing data.
    """
    return base.replace(objective=GroupedObjective(samples, groups))
