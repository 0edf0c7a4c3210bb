"""The semi-supervised VAE in which a class is a latent that some examples tell."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.core.part import require_vector_latent
from vaezoo.decoders import LabelledDecoder
from vaezoo.encoders import LabelledEncoder
from vaezoo.errors import ShapeError
from vaezoo.objectives.labelled import LabelObjective
from vaezoo.priors import LabelledPrior
from vaezoo.registry import Architecture, register


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
    size = require_vector_latent(architecture.latent, "m2-vae") - classes
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
