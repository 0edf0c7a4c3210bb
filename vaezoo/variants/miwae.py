"""The multiply importance-weighted autoencoder."""

from vaezoo.core import VAE
from vaezoo.objectives.importance import GroupedObjective
from vaezoo.registry import Architecture, Count, register


@register("miwae", changes="objective", example={"samples": 2, "groups": 3})
def miwae(base: VAE, architecture: Architecture, *, samples: Count = 8, groups: Count = 8) -> VAE:
    r"""Maximizes the mean of M importance-weighted bounds over K samples each.

    $$\mathcal{L}_{M,K} = \frac1M \sum_{m=1}^M \log \frac1K \sum_{k=1}^K \frac{p(x|z_{mk})\,p(z_{mk})}{q(z_{mk}|x)}$$

    Hyperparameters:
        samples: $K \ge 1$, samples in each group; 1 is `vae` with a sampled rate.
        groups: $M \ge 1$; 1 is `iwae`. The cost is proportional to $MK$, 64 in the paper.

    The reported rate is in closed form; the bound is sampled. Use it where the encoder of `iwae` learns badly: K
    tightens the bound but reduces the signal-to-noise ratio of the encoder's gradient, which M restores.

    See also: `iwae`, which has the tighter bound for the same number of draws, and whose `gradient =
    "doubly-reparametrized"` is another remedy. The MIWAE for missing data is unrelated.

    References: Rainforth et al. (2018), https://arxiv.org/abs/1802.05383
    """
    return base.replace(objective=GroupedObjective(samples, groups))
