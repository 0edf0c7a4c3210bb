"""The plain autoencoder."""

from __future__ import annotations

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives import PenalizedObjective
from vaezoo.registry import Architecture, register


@register(
    "ae",
    changes=("encoder", "objective"),
    year=2006,
    paper="Hinton & Salakhutdinov",
    url="https://doi.org/10.1126/science.1127647",
    rate="no density",
)
def ae(base: VAE, architecture: Architecture) -> VAE:
    r"""Minimises $D$ alone, with an encoder without noise.

    $$D = -\log p(x\,|\,f(x))$$

    There is no density of z and so no bound: what is reported as the rate is $-\log p(z)$, which nothing minimises.
    When to use it: for codes to compress, cluster or search by, as the baseline of all that follows, or before an
    ex-post density of the codes; `sample` draws from a prior that the codes were never asked to follow. It is confused
    with a `vae` without noise; but here nothing holds the codes' scale either.
    """
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=PenalizedObjective())
