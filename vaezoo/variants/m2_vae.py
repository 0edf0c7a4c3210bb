"""The semi-supervised VAE in which a class is a latent that some examples tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, cast

import torch
from msgspec import Meta
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vaezoo.categories import OneHots, SideBySide
from vaezoo.elbo import ELBO, Inference, Model, Objective, draw
from vaezoo.errors import ShapeError
from vaezoo.labelled import LabelledDecoder, LabelledEncoder, LabelledPosterior, LabelledPrior
from vaezoo.model import VAE
from vaezoo.parts import width_of
from vaezoo.registry import Architecture, register


class LabelObjective(Objective):
    """Minimises D + R with y summed out; where y is known, its own D + R - log p(y) and α·(-log q(y|x))."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO, whose bound is on log p(x) with labels or without, and the terms of those that have one.

        `labelled` is D + R - log p(y), `classification` -log q(y|x), both 0 where y is not known.
        """
        posterior, prior = cast(LabelledPosterior, model.encoder(x)), cast(SideBySide, model.prior())
        z, _ = posterior.components.rsample_and_log_prob()
        every = torch.arange(len(z), device=z.device)[:, None].expand(z.shape[:2])
        likelihood = cast(Distribution, model.decoder(posterior.join(z, every)))
        distortions = -likelihood.log_prob(x)  # (V, B)
        rates = kl_divergence(posterior.components, prior.parts[0])
        distortion, rate = (posterior.probs.T * distortions).sum(0), kl_divergence(posterior, prior)
        c = torch.zeros_like(posterior.probs) if c is None else c
        known, log_classes = c.sum(-1), cast(OneHots, prior.parts[1]).log_probs
        labelled = (c.T * (distortions + rates - log_classes[:, None])).sum(0)
        classification = -(c * posterior.log_probs).sum(-1)
        loss = torch.where(known > 0, labelled + self.alpha * classification, distortion + rate)
        return ELBO(
            distortion=distortion,
            rate=rate,
            bound=-(distortion + rate),
            losses={"model": loss},
            terms={"labelled": labelled.detach(), "classification": classification.detach()},
            seen=self.seen(model, x, c, posterior),
        )

    @torch.no_grad()
    def seen(self, model: Model, x: Tensor, c: Tensor, posterior: LabelledPosterior) -> Mapping[str, Tensor]:
        """Returns what a likelihood that learns without a gradient sees: one draw of y, or the label, per example."""
        posterior = LabelledPosterior(posterior.log_probs, posterior.components, c)
        z, log_q = draw(posterior, 1)
        likelihood = cast(Distribution, model.decoder(z, c))
        seen = Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=model.prior(c), likelihood=likelihood)
        return model.observe(seen)


@register(
    "m2-vae",
    changes=("encoder", "decoder", "prior", "objective"),
    year=2014,
    paper="Kingma et al.",
    url="https://arxiv.org/abs/1406.5298",
    context="labels",
)
def m2_vae(base: VAE, architecture: Architecture, *, alpha: Annotated[float, Meta(ge=0, le=1e9)] = 100.0) -> VAE:
    r"""Minimises $D + R$ with the class y as a latent, summed out where it is unknown, and learns to tell it.

    $$\log p(x) \ge \sum_y q(y|x) \big(\log p(y) - \log q(y|x) - \mathcal{L}(x, y)\big), \qquad
        \log p(x, y) \ge \log p(y) - \mathcal{L}(x, y)$$

    Hyperparameters:
        alpha: $\alpha \ge 0$, the weight of $-\log q(y|x)$ where y is known; 0.1 times the examples in the paper.

    $\mathcal{L}(x, y)$ is the distortion and rate of z given y. The context holds labels: class indices, of which -1
    says that y is unknown, or one-hot vectors, all 0 for that. The latents are z and then y, one-hot: `latent` counts
    both. The rate is in closed form, y summed out exactly, at the cost of a pass for each class; the bound is on
    log p(x), whether y is known or not. `model.encoder.classify(x)` tells classes, `sample(n, c)` draws them.
    When to use it: with few labels and many examples (`[data] labels`). It is confused with `cvae`, which needs a label
    for each example, and with M1+M2, which does this to the latents of a VAE.
    """
    classes, shape = architecture.context, architecture.shape
    size = width_of(architecture.latent, "m2-vae") - classes
    if size < 1:
        raise ShapeError(
            f"Got latent = {list(architecture.latent)}; m2-vae expected more than the {classes} classes, which are "
            f"latents too. Choose latent = {classes + 16}, say."
        )
    network, head = architecture.network(), architecture.head()
    encoder = LabelledEncoder(network.down(shape, (classes,), 0), network.down(shape, (2, size), classes), classes)
    decoder = LabelledDecoder(network.up((size,), (head.outputs, *shape), classes), head, size)
    prior = LabelledPrior(size, classes)
    return base.replace(encoder=encoder, decoder=decoder, prior=prior, objective=LabelObjective(alpha))
