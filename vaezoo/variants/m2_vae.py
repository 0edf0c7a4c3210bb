"""The semi-supervised VAE whose class is a latent."""

from vaezoo.core import VAE, require_vector_latent
from vaezoo.decoders import LabeledDecoder
from vaezoo.encoders import LabeledEncoder
from vaezoo.errors import ShapeError
from vaezoo.objectives.labeled import SemiSupervisedObjective
from vaezoo.priors import LabeledPrior
from vaezoo.registry import Architecture, LargeWeight, register


@register(
    "m2-vae",
    changes=("encoder", "decoder", "prior", "objective"),
    context="labels",
    instead={
        "*iwae": "Its objective sums over the classes and trains the classifier. Use 'cvae+iwae' if all have labels."
    },
    example={"latent": 18},
)
def m2_vae(base: VAE, architecture: Architecture, *, alpha: LargeWeight = 100.0) -> VAE:
    r"""Minimizes D + R with the class y as a latent, summed out where it is unknown, and trains a classifier.

    $$\log p(x) \ge \sum_y q(y|x) \big(\log p(y) - \log q(y|x) - \mathcal{L}(x, y)\big), \qquad
        \log p(x, y) \ge \log p(y) - \mathcal{L}(x, y)$$

    Hyperparameters:
        alpha: $\alpha \ge 0$, weight of $-\log q(y|x)$ of each example whose y is known. The paper's 0.1 N multiplies a
            mean over the L labels beside sums over the N examples: here it is 0.1 N / L, or 0.1 divided by the share of
            labels in a batch (50 for 100 labels of 50,000 examples).

    $\mathcal{L}(x, y)$ is the distortion plus the rate of z given y. The context contains labels: class indices, where
    -1 means unknown, or one-hot vectors, where zeros mean unknown. The latents are z and then y, one-hot; `latent` is
    the total size. The rate is in closed form, with y summed out exactly at the cost of a pass for each class; the
    bound is on log p(x), whether y is known or not. `model.encoder.classify(x)` returns classes, `sample(n, c)` samples
    them. Use it with few labels and many examples (`[data] labels`).

    See also: `cvae`, which needs a label for each example; M1+M2 of the paper, which applies this to the latents of a
    VAE.

    References: Kingma et al. (2014), https://arxiv.org/abs/1406.5298
    """
    classes, shape = architecture.context, architecture.shape
    size = require_vector_latent(architecture.latent, "m2-vae") - classes
    if size < 1:
        raise ShapeError(
            f"Got latent = {list(architecture.latent)}; m2-vae expected more than the {classes} classes, which are "
            f"latents too. Choose latent = {classes + 16}, say."
        )
    network, head = architecture.network(), architecture.head()
    encoder = LabeledEncoder(network.down(shape, (classes,), 0), network.down(shape, (2, size), classes), classes)
    decoder = LabeledDecoder(network.up((size,), (head.outputs, *shape), classes), head, size)
    prior = LabeledPrior(size, classes)
    return base.replace(encoder=encoder, decoder=decoder, prior=prior, objective=SemiSupervisedObjective(alpha))
