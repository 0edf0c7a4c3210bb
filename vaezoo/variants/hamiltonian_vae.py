"""The Hamiltonian VAE."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders import HamiltonianEncoder
from vaezoo.registry import Architecture, register


@register("hamiltonian-vae", changes="encoder", rate="sampled", example={"leapfrogs": 2})
def hamiltonian_vae(
    base: VAE,
    architecture: Architecture,
    *,
    leapfrogs: Annotated[int, Meta(ge=1, le=1000)] = 3,
    step_size: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05,
    beta_zero: Annotated[float, Meta(ge=1e-6, lt=1)] = 0.3,
) -> VAE:
    r"""Minimizes D + R with a posterior whose draws are moved by leapfrog steps towards high p(x, z).

    $$R = \mathbb{E}\big[\log q(z_0|x) + \log \mathcal{N}(\rho_0; 0, \beta_0^{-1}) - \tfrac n2 \log \beta_0
        - \log \mathcal{N}(\rho_K; 0, 1) - \log p(z_K)\big]$$

    Hyperparameters:
        leapfrogs: $K \ge 1$, steps; each costs a forward and backward pass of the decoder.
        step_size: initial value in (0, 0.5) of the step sizes $\epsilon_j$, learned for each latent.
        beta_zero: initial value in (0, 1) of $\beta_0$: momenta start at temperature $1/\beta_0$ and are cooled
            quadratically to 1 (the fixed tempering of the paper).

    Step sizes and $\beta_0$ are the only additional parameters. The rate is sampled and includes the momenta, so that
    it is an upper bound of the divergence of z alone. The paper replaces $\tfrac12 \rho_0^\top \beta_0 \rho_0$ by its
    mean n/2; here it is the value of the draw, so that log-weights are exact. `reconstruct` starts from the mean
    without momentum. Use it for a tighter bound where the encoder is too weak for the decoder and gradients of the
    decoder are affordable.

    See also: `iaf-vae`, whose flow has more parameters; Hamiltonian Monte Carlo, which accepts or rejects and gives no
    bound.

    References: Caterini et al. (2018), https://arxiv.org/abs/1805.11328
    """
    return base.replace(encoder=HamiltonianEncoder(base.encoder, architecture.latent, leapfrogs, step_size, beta_zero))
