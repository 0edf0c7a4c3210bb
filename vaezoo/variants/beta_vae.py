"""The β-VAE."""

from vaezoo.core import VAE
from vaezoo.objectives import WeightedObjective
from vaezoo.registry import Architecture, Weight, register


@register(
    "beta-vae",
    changes="objective",
    instead={
        "*iwae": "The importance-weighted bound has no rate to weight. Use 'ciwae', whose beta mixes it with the ELBO."
    },
    example={"beta": 0.5},
)
def beta_vae(base: VAE, architecture: Architecture, *, beta: Weight = 4.0) -> VAE:
    r"""Minimizes the distortion plus a weighted rate.

    $$D + \beta R$$

    Hyperparameters:
        beta: $\beta \ge 0$. Above 1: fewer nats in the latents, smoother and more disentangled codes, blurrier images.
            Below 1: sharper reconstructions, worse samples. 1 is `vae`.

    The reported bound is that of the unweighted ELBO; the rate is in closed form. $\beta$ multiplies sums over pixels
    and latents; papers that average over either use another scale ($\beta_{norm} = \beta\, \dim z / \dim x$). Use it to
    choose a point on the rate-distortion curve, or for disentangled factors.

    See also: `annealed-vae`, which sets the rate by a capacity; `beta-tc-vae`, which weights a part of the rate.

    References: Higgins et al. (2017), https://openreview.net/forum?id=Sy2fzU9gl
    """
    return base.replace(objective=WeightedObjective(rate=beta))
