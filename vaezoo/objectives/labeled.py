"""The objective of semi-supervised learning with a class label that may be missing."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vaezoo.core import ELBO, Inference, Model, Objective, sample_with_log_prob
from vaezoo.distributions import LabeledPosterior, OneHotCategoricals, ProductDistribution


class SemiSupervisedObjective(Objective):
    r"""The objective of M2: $D + R$ with y summed out; with a label, $D_y + R_y - \log p(y) - \alpha \log q(y|x)$.

    Kingma et al., 2014, https://arxiv.org/abs/1406.5298.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO, whose bound is on log p(x), with the terms `labelled` and `classification`.

        `labelled` is D + R - log p(y) given the label, `classification` is -log q(y|x); both are 0 without a label.
        """
        posterior, prior = cast(LabeledPosterior, model.encoder(x)), cast(ProductDistribution, model.prior())
        z, _ = posterior.components.rsample_and_log_prob()
        every = torch.arange(z.shape[0], device=z.device)[:, None].expand(z.shape[:2])
        likelihood = cast(Distribution, model.decoder(posterior.join(z, every)))
        distortions = -likelihood.log_prob(x)  # (V, B)
        rates = kl_divergence(posterior.components, prior.parts[0])
        distortion, rate = (posterior.probs.T * distortions).sum(0), kl_divergence(posterior, prior)
        c = torch.zeros_like(posterior.probs) if c is None else c
        known, log_classes = c.sum(-1), cast(OneHotCategoricals, prior.parts[1]).log_probs
        labelled = (c.T * (distortions + rates - log_classes[:, None])).sum(0)
        classification = -(c * posterior.log_probs).sum(-1)
        loss = torch.where(known > 0, labelled + self.alpha * classification, distortion + rate)
        return ELBO(
            distortion=distortion,
            rate=rate,
            bound=-(distortion + rate),
            losses={"model": loss},
            terms={"labelled": labelled.detach(), "classification": classification.detach()},
            statistics=self.statistics(model, x, c, posterior),
        )

    @torch.no_grad()
    def statistics(self, model: Model, x: Tensor, c: Tensor, posterior: LabeledPosterior) -> Mapping[str, Tensor]:
        """Returns the statistics of the parts, with one draw of y, or the label, per example."""
        posterior = LabeledPosterior(posterior.log_probs, posterior.components, c)
        z, log_q = sample_with_log_prob(posterior, 1)
        likelihood = cast(Distribution, model.decoder(z, c))
        inference = Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=model.prior(c), likelihood=likelihood)
        return model.observe(inference)
