"""The objective that reports the rate of each level and can bound it from below."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import ELBO, Inference, Model
from vaezoo.errors import CompositionError
from vaezoo.hierarchy.distributions import HierarchicalPosterior
from vaezoo.objectives import WeightedObjective

__all__ = ["LevelObjective"]


class LevelObjective(WeightedObjective):
    r"""Minimises $D + \beta(t) \sum_l \max(R_l, \lambda)$: free nats for each level, not for all together.

    The model has a `HierarchicalPosterior`; the pass walks down once, for posterior, prior and a decoder that can read
    the state where its path ends.

    Raises:
        CompositionError: in a pass, if the posterior is none of a hierarchy.
    """

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO with the terms `rate_1`, `rate_2`, …, the top level's first."""
        posterior = model.encoder(x, c)
        if not isinstance(posterior, HierarchicalPosterior):
            raise CompositionError(
                f"Got a posterior of type {type(posterior).__name__}; the rates of levels need that of a hierarchy, "
                "such as ladder-vae's. Take another objective, or leave the encoder as it is."
            )
        walk = posterior.descend((self.samples,))
        read = getattr(model.decoder, "read", None)  # it saves a second walk
        likelihood: Distribution = model.decoder(walk.z, c) if read is None else read(walk.state, c)
        inference = Inference(
            x=x, z=walk.z, log_q=walk.log_q, posterior=posterior, prior=model.prior(c), likelihood=likelihood
        )
        distortion, rates = inference.distortion(), walk.rates.mean(0)
        rate = rates.sum(-1)
        return ELBO(
            distortion=distortion,
            rate=rate,
            bound=self.bound_of(inference, distortion, rate),
            losses={"model": distortion + self.penalty(rates, step).sum(-1)},
            terms={f"rate_{level}": each for level, each in enumerate(rates.detach().unbind(-1), 1)},
            statistics=model.observe(inference),
        )
