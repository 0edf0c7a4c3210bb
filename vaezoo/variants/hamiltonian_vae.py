"""The Hamiltonian VAE."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders.hamiltonian import HamiltonianEncoder
from vaezoo.registry import Architecture, register


@register(
    "hamiltonian-vae",
    changes="encoder",
    year=2018,
    paper="Caterini et al.",
    url="https://arxiv.org/abs/1805.11328",
    rate="sampled",
)
def hamiltonian_vae(
    base: VAE,
    architecture: Architecture,
    *,
    leapfrogs: Annotated[int, Meta(ge=1, le=1000)] = 3,
    step_size: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05,
    beta_zero: Annotated[float, Meta(gt=0, lt=1)] = 0.3,
) -> VAE:
    r"""Minimises $D + R$ with a posterior that leapfrog steps move towards high $p(x, z)$.

    $$R = \mathbb{E}\big[\log q(z_0|x) + \log \mathcal{N}(\rho_0; 0, \beta_0^{-1}) - \tfrac n2 \log \beta_0
        - \log \mathcal{N}(\rho_K; 0, 1) - \log p(z_K)\big]$$

    Hyperparameters:
        leapfrogs: $K \ge 1$, steps; each costs a pass forward and backward through the decoder.
        step_size: where the step sizes $\epsilon_j \in (0, 0.5)$ start, learnt one for each latent.
        beta_zero: where $\beta_0 \in (0, 1)$ starts: momenta begin at temperature $1/\beta_0$ and cool quadratically
            to 1 (the paper's fixed tempering).

    Step sizes and $\beta_0$ are all that is added to the VAE's parameters. The rate is sampled and holds the momenta:
    it bounds the divergence of z alone from above. The paper replaces $\tfrac12 \rho_0^\top \beta_0 \rho_0$ by its mean
    n/2; here it is that of the draw, so that the log-weights are exact. `reconstruct` starts from the mean without
    momentum. When to use it: for a tighter bound where the encoder is too weak for the decoder, and gradients of the
    decoder are affordable. It is confused with Hamiltonian Monte Carlo, which accepts and rejects and gives no bound.
    """
    return base.replace(encoder=HamiltonianEncoder(base.encoder, architecture.latent, leapfrogs, step_size, beta_zero))
