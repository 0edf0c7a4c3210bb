"""The importance-weighted autoencoder."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from torch import Tensor

from vaezoo.elbo import ELBO, Model, Objective, log_mean_exp
from vaezoo.model import VAE
from vaezoo.registry import Architecture, register


class ImportanceObjective(Objective):
    """Minimises the negative importance-weighted bound over K samples."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = samples

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO; its bound is the importance-weighted one, tighter than -(D + R)."""
        inference = model.infer(x, c, self.samples)
        log_likelihood = inference.log_likelihood()
        bound = log_mean_exp(inference.log_weights(log_likelihood))
        return ELBO(
            distortion=inference.distortion(log_likelihood),
            rate=inference.rate(),
            bound=self.if_density(inference, bound),
            losses={"model": -bound},
            seen=model.observe(inference),
        )


@register("iwae", changes="objective", year=2016, paper="Burda et al.", url="https://arxiv.org/abs/1509.00519")
def iwae(base: VAE, architecture: Architecture, *, samples: Annotated[int, Meta(ge=1, le=100_000)] = 50) -> VAE:
    r"""Maximises the importance-weighted bound over K samples.

    $$\mathcal{L}_K = \mathbb{E}\Big[\log \frac1K \sum_{k=1}^K \frac{p(x|z_k)\,p(z_k)}{q(z_k|x)}\Big] \le \log p(x)$$

    Hyperparameters:
        samples: $K \ge 1$; 1 is the VAE with a sampled rate. Cost grows with K.

    The reported rate is in closed form; the bound samples it. When to use it: for the best likelihood a given network
    can give. A fine-tune of a trained VAE with K = 50 gives nearly all of it. It is confused with drawing K samples in
    the plain ELBO, which lowers the noise but not the gap.
    """
    return base.replace(objective=ImportanceObjective(samples))
