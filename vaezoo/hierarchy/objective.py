"""The objective that reports the rate of each level and gives each level free nats."""

from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import ELBO, Inference, Model
from vaezoo.errors import CompositionError
from vaezoo.hierarchy.distributions import HierarchicalPosterior
from vaezoo.hierarchy.parts import BottomDecoder, PathDecoder
from vaezoo.objectives import WeightedObjective


class LevelObjective(WeightedObjective):
    r"""The objective $D + \beta(t) \sum_l \max(R_l, \lambda)$, with free nats $\lambda$ for each level.

    The posterior is a `HierarchicalPosterior`; one top-down pass serves posterior, prior and decoder.

    Raises:
        CompositionError: in a pass, if the posterior is not hierarchical.
    """

    posterior_type = HierarchicalPosterior

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO with the terms `rate_1`, `rate_2`, …, from the top level down."""
        posterior = model.encoder(x, c)
        if not isinstance(posterior, HierarchicalPosterior):
            raise CompositionError(
                f"Got a posterior of type {type(posterior).__name__}; LevelObjective expected that of a hierarchy, as "
                "in ladder-vae. Use another objective, or keep the encoder of the hierarchy."
            )
        drawn, decoder = posterior.sample_levels((self.samples,)), model.decoder
        likelihood: Distribution
        if isinstance(decoder, PathDecoder | BottomDecoder):
            likelihood = decoder.decode_state(drawn.state, c)  # without a second top-down pass
        else:
            likelihood = decoder(drawn.z, c)
        inference = Inference(
            x=x, z=drawn.z, log_q=drawn.log_q, posterior=posterior, prior=model.prior(c), likelihood=likelihood, c=c
        )
        distortion, rates = inference.distortion(), drawn.rates.mean(0)
        rate = rates.sum(-1)
        return ELBO(
            distortion=distortion,
            rate=rate,
            bound=self.bound_of(inference, distortion, rate),
            losses={"model": distortion + self.penalty(rates, step).sum(-1)},
            terms={f"rate_{level}": each for level, each in enumerate(rates.detach().unbind(-1), 1)},
            statistics=model.observe(inference),
        )
