"""The plain autoencoder."""

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives import PenalizedObjective
from vaezoo.registry import Architecture, register


@register("ae", changes=("encoder", "objective"), rate="no density", codes_follow_prior=False)
def ae(base: VAE, architecture: Architecture) -> VAE:
    r"""Minimizes the distortion alone, with a deterministic encoder.

    $$D = -\log p(x\,|\,f(x))$$

    There is no density of z and so no bound; the reported rate is $-\log p(z)$, which is not minimized. `sample` draws
    from the prior, which the codes need not follow; a learned prior, as in `ae+flow-prior-vae`, is fitted to them by a
    loss of its own, that of the player `prior`, without an effect on the codes. Use it for codes for compression,
    clustering or search, as a baseline, or before a density is fitted to the codes.

    See also: `vae`, whose rate also limits the scale of the codes; `rae-l2`, which regularizes codes and decoder.

    References: Hinton & Salakhutdinov (2006), https://doi.org/10.1126/science.1127647
    """
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=PenalizedObjective())
