"""The conditional VAE with a learned prior."""

from vaezoo.core import VAE
from vaezoo.networks import MLP
from vaezoo.priors import ConditionalNormalPrior
from vaezoo.registry import Architecture, Widths, register


@register(
    "cvae",
    changes="prior",
    context="required",
    instead={
        "flow-prior-vae": "Use 'flow-prior-vae' with context=N, which has a flow for each context.",
        "v*": "Its prior is the same for each context. Use 'flow-prior-vae' with context=N, whose prior is not.",
    },
)
def cvae(base: VAE, architecture: Architecture, *, prior_hidden: Widths = ()) -> VAE:
    r"""Minimizes D + R given a context, with a prior that is learned for each context.

    $$\log p(x|c) \ge \mathbb{E}_{q(z|x,c)}[\log p(x|z,c)] - \mathrm{KL}(q(z|x,c)\,\|\,\mathcal{N}(\mu(c),
    \sigma^2(c)))$$

    Hyperparameters:
        prior_hidden: widths of the prior network's hidden layers; without any it is a table for class labels.

    The rate is in closed form. Use it to sample a class, or to model x given side information.

    See also: `vae` and other variants with `context > 0`, which are conditional with a prior that ignores c.

    References: Sohn et al. (2015), https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html
    """
    network = MLP((architecture.context,), (2, *architecture.latent), 0, prior_hidden, "tanh")
    return base.replace(prior=ConditionalNormalPrior(network, architecture.latent))
