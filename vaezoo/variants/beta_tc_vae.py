"""The β-TCVAE: total correlation from the batch, without a critic."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.errors import ConfigError
from vaezoo.objectives import WeightedObjective
from vaezoo.objectives.penalties.aggregate import OfAggregate, dimension_wise, mutual_information, total_correlation
from vaezoo.registry import Architecture, register

Weight = Annotated[float, Meta(ge=0, le=1e6)]


@register(
    "beta-tc-vae",
    changes="objective",
    year=2018,
    paper="Chen et al.",
    url="https://arxiv.org/abs/1802.04942",
    couples_examples=True,
)
def beta_tc_vae(
    base: VAE, architecture: Architecture, *, alpha: Weight = 1.0, beta: Weight = 6.0, gamma: Weight = 1.0
) -> VAE:
    r"""Minimises $D + \alpha\,I(z;x) + \beta\,\mathrm{TC}(z) + \gamma \sum_j \mathrm{KL}(q(z_j)\,\|\,p(z_j))$.

    $$R = I(z;x) + \mathrm{KL}\big(q(z)\,\|\,\textstyle\prod_j q(z_j)\big) + \sum_j \mathrm{KL}(q(z_j)\,\|\,p(z_j))$$

    Hyperparameters:
        alpha: $\alpha \ge 0$, the weight of the mutual information.
        beta: $\beta \ge 0$, the weight of the total correlation.
        gamma: $\gamma \ge 0$, the weight of the dimension-wise KL. All three at 1 are the VAE.

    The rate is in closed form, and what a weight has beyond 1 is sampled: $D + R + (\alpha - 1) I + (\beta - 1)
    \mathrm{TC} + \dots$, where $q(z)$ is estimated from the batch by stratified weights, averaged over the order of the
    examples, on which the paper's own depend; the paper's code gives its weights to other examples. The density is
    estimated without bias, its logarithm is not: of small batches the reported total correlation is too low. It needs
    the size of the training set, and a diagonal Gaussian posterior. When to use it: for disentangled factors with less
    blur than `beta-vae`. It is confused with `factor-vae`, which asks a critic for the same total correlation; what is
    $\beta - 1$ here is $\gamma$ there.
    """
    count = architecture.examples
    if not count:
        raise ConfigError(
            "Got examples = 0; 'beta-tc-vae' expected the size of the training set, on which its estimate of q(z) "
            "depends: pass examples=N. Training by a recipe fills it in."
        )
    penalties = {
        "mutual_information": (alpha - 1.0, OfAggregate(mutual_information, count)),
        "total_correlation": (beta - 1.0, OfAggregate(total_correlation, count)),
        "dimension_wise_kl": (gamma - 1.0, OfAggregate(dimension_wise, count)),
    }
    return base.replace(objective=WeightedObjective(penalties=penalties))
