"""The β-TCVAE: total correlation estimated from the batch."""

from vaezoo.core import VAE
from vaezoo.distributions import DiagonalNormal
from vaezoo.errors import ConfigError
from vaezoo.objectives import WeightedObjective
from vaezoo.objectives.penalties.aggregate import AggregatePenalty
from vaezoo.registry import Architecture, Weight, register


@register("beta-tc-vae", changes="objective", couples_examples=True, example={"beta": 2.0})
def beta_tc_vae(
    base: VAE, architecture: Architecture, *, alpha: Weight = 1.0, beta: Weight = 6.0, gamma: Weight = 1.0
) -> VAE:
    r"""Weights the three parts of the rate separately; the total correlation of the latents is one of them.

    $$D + \alpha\,I(z;x) + \beta\,\mathrm{TC}(z) + \gamma \sum_j \mathrm{KL}(q(z_j)\,\|\,p(z_j)), \qquad
        R = I(z;x) + \mathrm{KL}\big(q(z)\,\|\,\textstyle\prod_j q(z_j)\big) + \sum_j \mathrm{KL}(q(z_j)\,\|\,p(z_j))$$

    Hyperparameters:
        alpha: $\alpha \ge 0$, weight of the mutual information.
        beta: $\beta \ge 0$, weight of the total correlation.
        gamma: $\gamma \ge 0$, weight of the dimension-wise KL. With all three at 1 this is `vae`.

    The rate is in closed form and the excess of each weight over 1 is sampled: $D + R + (\alpha - 1) I + (\beta - 1)
    \mathrm{TC} + \dots$, where $q(z)$ is estimated from the batch by stratified weights, averaged over the order of the
    examples; the weights of the paper depend on that order. The estimate of the density is unbiased, that of its
    logarithm is not: in small batches the reported total correlation is too low. The variant needs the size of the
    training set and a diagonal Gaussian posterior. Use it for disentangled factors with less blur than `beta-vae`.

    See also: `factor-vae`, which estimates the same total correlation with a critic; its $\gamma$ is $\beta - 1$ here.

    References: Chen et al. (2018), https://arxiv.org/abs/1802.04942
    """
    count = architecture.examples
    if not count:
        raise ConfigError(
            "Got examples = 0; 'beta-tc-vae' expected the size of the training set, on which its estimate of q(z) "
            "depends: pass examples=N. Training by a recipe fills it in."
        )
    penalties = {
        "mutual_information": (alpha - 1.0, AggregatePenalty("mutual_information", count)),
        "total_correlation": (beta - 1.0, AggregatePenalty("total_correlation", count)),
        "dimension_wise_kl": (gamma - 1.0, AggregatePenalty("dimension_wise_kl", count)),
    }
    return base.replace(objective=WeightedObjective(penalties=penalties, posterior_type=DiagonalNormal))
