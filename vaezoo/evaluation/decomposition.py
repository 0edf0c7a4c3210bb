r"""The terms of the rate: those of the aggregate posterior, and those of the levels of a hierarchy.

$$\mathbb{E}_n \mathrm{KL}(q(z|x_n)\,\|\,p(z)) = I_q(x; z) + \mathrm{KL}\Big(q(z)\,\Big\|\,\prod_j q(z_j)\Big) +
\sum_j \mathrm{KL}(q(z_j)\,\|\,p(z_j)), \qquad q(z) = \frac1N \sum_n q(z|x_n)$$

Chen et al., 2018, https://arxiv.org/abs/1802.04942, equation 2.
"""

from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import VAE, evaluating, seeded, whole_number, whole_seed
from vaezoo.data import Dataset
from vaezoo.distributions import DiagonalNormal
from vaezoo.errors import CompositionError, DataError
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.means import Estimate
from vaezoo.evaluation.test_sets import limited, test_set
from vaezoo.hierarchy.distributions import ChainPosterior, HierarchicalPosterior
from vaezoo.hierarchy.parts import PathPrior
from vaezoo.hierarchy.path import Path, run_top_down
from vaezoo.objectives.penalties.aggregate import diagonal_parameters

EXAMPLES: Final = 2_000
AT_ONCE: Final = 2**22  # numbers of a table of log densities


@dataclass(frozen=True, kw_only=True)
class RateDecomposition:
    """The three terms of the mean rate, with standard errors over the draws, nats; their sum estimates the rate.

    `examples` is N, the number of posteriors in the aggregate. The mutual information is at most log N.
    """

    mutual_information: Estimate
    total_correlation: Estimate
    dimension_wise_kl: Estimate
    examples: int


def rate_decomposition(
    model: VAE, data: object, *, examples: int = EXAMPLES, seed: int = 0, batch_size: int | None = None
) -> RateDecomposition:
    """Returns the terms of the rate against the aggregate posterior of a set, from one draw of each posterior.

    The aggregate is the exact mixture over the chosen examples, in float64, not an estimate from batches: the cost is
    N² density evaluations of each latent. The mutual information of x and z on these examples is at most log N, so that
    it is a lower bound on that of a larger set, and the dimension-wise KL an upper bound.

    Args:
        model: a model whose posteriors are diagonal normals and whose prior does not depend on a context.
        data: the examples, anything that `vaezoo.data.as_dataset` takes; binarized as in training.
        examples: N; more than these are reduced to a part, chosen with a fixed seed.
        seed: of the draws.
        batch_size: examples that are encoded at a time; None for 500, or fewer where examples are large.

    Raises:
        CompositionError: the posteriors are of another type, or the prior depends on the context.
        DataError: fewer than 2 examples.
    """
    chosen, _ = limited(test_set(model, data), whole_number(examples, "examples", 2))
    if len(chosen) < 2:
        raise DataError(f"Got {len(chosen)} example; expected at least 2 for an aggregate posterior.")
    return _decomposition(model, chosen, whole_seed(seed), batch_size)


def decomposition_of(model: VAE, data: Dataset, seed: int) -> RateDecomposition | None:
    """Returns `rate_decomposition` of a result of `test_set`; None where it raises CompositionError."""
    try:
        return _decomposition(model, limited(data, EXAMPLES)[0], seed, None) if len(data) > 1 else None
    except CompositionError:
        return None


def _decomposition(model: VAE, data: Dataset, seed: int, batch_size: int | None) -> RateDecomposition:
    pairs, c = list[tuple[Tensor, Tensor]](), None
    with torch.no_grad(), evaluating(model), seeded(seed):
        for x, c in batches(model, data, batch_size):
            pairs.append(diagonal_parameters(model.encoder(x, c)))
        prior = cast(Distribution, model.prior(c))
        if prior.batch_shape:
            raise CompositionError(
                "Got a prior that depends on the context; expected p(z). The rate of such a model is against p(z|c), "
                "which the aggregate posterior is not compared with."
            )
        loc, log_scale = (torch.cat(each).double() for each in zip(*pairs, strict=True))
        z, log_q = DiagonalNormal(loc, log_scale).rsample_and_log_prob()
        joint, marginals = log_aggregate(z, loc, log_scale)
        log_p = prior.log_prob(z.to(pairs[0][0].dtype).view(len(z), *prior.event_shape)).double()
    return RateDecomposition(
        mutual_information=Estimate.of(log_q - joint),
        total_correlation=Estimate.of(joint - marginals),
        dimension_wise_kl=Estimate.of(marginals - log_p),
        examples=len(loc),
    )


def log_aggregate(z: Tensor, loc: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns $\log q(z)$ and $\sum_j \log q(z_j)$, (M,) each, nats, of a mixture of normals with equal weights.

    Args:
        z: (M, D).
        loc: means of the components, (N, D).
        log_scale: their log standard deviations, (N, D).
    """
    each = DiagonalNormal(loc, log_scale, 0)
    joint, marginals = list[Tensor](), list[Tensor]()
    for rows in z.split(max(1, AT_ONCE // loc.numel())):
        table = each.log_prob(rows.unsqueeze(1))  # (rows, N, D)
        joint.append(table.sum(-1).logsumexp(1))
        marginals.append(table.logsumexp(1).sum(-1))
    shift = torch.tensor(len(loc), dtype=z.dtype).log().to(z.device)
    return torch.cat(joint) - shift, torch.cat(marginals) - shift * z.shape[1]


def level_rates(model: VAE, data: Dataset, seed: int = 0, batch_size: int | None = None) -> Tensor | None:
    """Returns the rate of each level of a hierarchy, (N, L), nats, the top level first; None for other models.

    Args:
        model: a model, in eval mode.
        data: a result of `test_set`.
        seed: of the draws.
        batch_size: examples at a time; see `batches`.
    """
    if not isinstance(model.prior, PathPrior):
        return None
    rows = []
    with torch.no_grad(), seeded(seed):
        for x, c in batches(model, data, batch_size):
            posterior = model.encoder(x, c)
            if isinstance(posterior, HierarchicalPosterior):
                rows.append(posterior.sample_levels((1,)).rates[0].cpu())
            elif isinstance(posterior, ChainPosterior):
                rows.append(chain_rates(posterior, model.prior.path, c).cpu())
            else:
                return None
    return torch.cat(rows)


def chain_rates(posterior: ChainPosterior, path: Path, c: Tensor | None) -> Tensor:
    """Returns one draw of log q - log p of the upper and the lower level of a bottom-up posterior, (B, 2)."""
    low, log_low = posterior.lower.rsample_and_log_prob()
    high, log_high = posterior.above(low).rsample_and_log_prob()
    levels, found = (high, low), list[Tensor]()

    def choose(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
        found.append(prior.log_prob(levels[level]))
        return levels[level]

    run_top_down(path, low.shape[:1], c, choose)
    return torch.stack([log_high - found[0], log_low - found[1]], -1)
