"""The partially importance-weighted autoencoder: a bound of its own for the encoder."""

from vaezoo.core import VAE
from vaezoo.objectives.importance import PartialObjective
from vaezoo.registry import Architecture, Count, register


@register("piwae", changes="objective", example={"samples": 2, "groups": 3})
def piwae(base: VAE, architecture: Architecture, *, samples: Count = 8, groups: Count = 8) -> VAE:
    r"""Maximizes the bound over all samples for decoder and prior, and a mean of looser bounds for the encoder.

    $$\mathcal{L}_{M,K} = \frac1M \sum_{m=1}^M \log \frac1K \sum_{k=1}^K \frac{p(x|z_{mk})\,p(z_{mk})}{q(z_{mk}|x)}$$

    Hyperparameters:
        samples: $K \ge 1$, samples in each group of the encoder's bound.
        groups: $M \ge 1$; 1 is `iwae` with K samples. The cost is proportional to $MK$, 64 in the paper.

    The encoder maximizes $\mathcal{L}_{M,K}$, decoder and prior $\mathcal{L}_{1,MK}$.
    The players `model` and `encoder` use the same draws. The reported rate is in closed form; the bound,
    $\mathcal{L}_{1,MK}$, is sampled. Use it for the tight bound of `iwae` with an encoder that still learns.

    See also: `miwae`, which uses the looser bound for all parts; `ciwae`, which mixes two bounds.

    References: Rainforth et al. (2018), https://arxiv.org/abs/1802.05383
    """
    return base.replace(objective=PartialObjective(samples, groups))
