"""The VAE with two stochastic layers."""

from collections.abc import Sequence

from vaezoo.core import VAE
from vaezoo.hierarchy import BottomDecoder, ChainEncoder, MarkovPath, PathPrior, halving_sizes
from vaezoo.networks import MLP
from vaezoo.registry import Architecture, Widths, register


@register(
    "two-layer-vae",
    changes=("encoder", "decoder", "prior"),
    defaults={"latent": 150},
    rate="sampled",
    example={"latent": 9, "top_hidden": (16,)},
)
def two_layer_vae(base: VAE, architecture: Architecture, *, top_hidden: Widths = (100, 100)) -> VAE:
    r"""Minimizes D + R with two layers of latents, encoded bottom-up and decoded top-down.

    $$\log p(x) \ge \mathbb{E}_q\Big[\log p(x|h_1) + \log \frac{p(h_2)\,p(h_1|h_2)}{q(h_1|x)\,q(h_2|h_1)}\Big]$$

    Hyperparameters:
        top_hidden: widths of the tanh layers between $h_1$ and $h_2$ in each direction; two of 100 in the paper.

    z is $(h_2, h_1)$, where $h_1$ has twice as many latents as $h_2$: a latent of 150 is the paper's 50 and 100. The
    backbone is between x and $h_1$. The rate is sampled. Use it with `iwae` ("two-layer-vae+iwae"), which is the
    published two-layer model; a warm-up of the rate keeps $h_2$ active.

    See also: `ladder-vae`, whose posterior is also top-down.

    References: Burda et al. (2016), https://arxiv.org/abs/1509.00519
    """
    top, bottom = halving_sizes(architecture.latent, "two-layer-vae", 2)
    shape, context = architecture.shape, architecture.context
    network, head = architecture.network(), architecture.head()

    def between(before: int, after: int, hidden: Sequence[int]) -> MLP:
        return MLP((before,), (2, after), context, hidden, "tanh")

    encoder = ChainEncoder(network.down(shape, (2, bottom), context), between(bottom, top, top_hidden))
    path = MarkovPath((top, bottom), [between(top, bottom, top_hidden[::-1])])
    decoder = BottomDecoder(network.up((bottom,), (head.outputs, *shape), context), head, bottom)
    return base.replace(encoder=encoder, decoder=decoder, prior=PathPrior(path))
