"""All disentanglement scores of a model or of any function with respect to the factors of a data set.

The objective explains 37 % of the variance of such scores, seed and hyperparameters the rest (Locatello et al., 2019,
https://arxiv.org/abs/1811.12359): report several seeds.
"""

from dataclasses import asdict, dataclass
from importlib.util import find_spec

import torch

from vaezoo.core import ACTIVE_VARIANCE, VAE, whole_number, whole_seed
from vaezoo.errors import DataError
from vaezoo.evaluation.factor_prediction import DCI, LEAST, dci, sap_score
from vaezoo.evaluation.factor_scores import (
    factor_vae_score,
    gaussian_total_correlation,
    modularity,
    mutual_information_gap,
    varying,
)
from vaezoo.evaluation.representations import Encode, data_for, representation


@dataclass(frozen=True, kw_only=True)
class Disentanglement:
    """Scores of a representation on `examples` images of a set.

    `mig`, `factor_vae_score`, `modularity`, `sap` and the three of `dci` lie between 0 and 1, higher is better;
    `chance` is the FactorVAE score of guessing. `sap` and `dci` are None without scikit-learn, `modularity` for a
    single factor. The total correlations of all latents and of the `active` ones (variance above 0.01) are in nats,
    lower is better, 0 for uncorrelated latents.
    """

    data: str
    split: str
    examples: int
    seed: int
    mig: float
    factor_vae_score: float
    chance: float
    modularity: float | None
    total_correlation: float
    total_correlation_active: float
    active: int
    latents: int
    sap: float | None = None
    dci: DCI | None = None

    def as_dict(self) -> dict[str, object]:
        """Returns plain values."""
        return asdict(self)


def disentanglement(model: VAE | Encode, data: object, *, examples: int = 10_000, seed: int = 0) -> Disentanglement:
    """Computes disentanglement scores of the posterior's means with respect to the factors of a data set.

    Args:
        model: a model, or any function from x (B, *shape) to a representation, as in `representation`.
        data: a set with `factors`, such as "dsprites"; preferably held out.
        examples: number of examples, chosen by `seed`; all if the set has fewer.
        seed: seed of this choice and of the votes of the FactorVAE score.

    Raises:
        DataError: the set has no factors or too few examples.
        ShapeError: see `representation`.
    """
    whole = data_for(model, data)
    if whole.factors is None:
        raise DataError(
            f"{whole.name!r} has no ground-truth factors; expected a set with factors, such as 'dsprites'. For your "
            "own data, pass from_tensors(x, factors=Factors.of(values, names))."
        )
    examples, seed = whole_number(examples, "examples", 2, error=DataError), whole_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    chosen = whole.subset(torch.randperm(len(whole), generator=generator)[:examples])
    means = representation(model, chosen)
    active = means.var(0) > ACTIVE_VARIANCE
    factors = whole.factors if chosen.factors is None else chosen.factors
    several = len(varying(factors)) > 1
    predictors = find_spec("sklearn") is not None and len(means) >= LEAST
    return Disentanglement(
        data=whole.name,
        split=whole.split,
        examples=len(chosen),
        seed=seed,
        mig=mutual_information_gap(means, factors),
        factor_vae_score=factor_vae_score(means, factors, seed=seed),
        chance=1.0 / len(varying(factors)),
        modularity=modularity(means, factors) if several else None,
        total_correlation=gaussian_total_correlation(means),
        total_correlation_active=gaussian_total_correlation(means[:, active]),
        active=int(active.sum()),
        latents=means.shape[1],
        sap=sap_score(means, factors, seed=seed) if predictors else None,
        dci=dci(means, factors, seed=seed) if predictors else None,
    )
