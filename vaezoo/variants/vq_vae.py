"""The vector-quantised VAE."""

from __future__ import annotations

from typing import Annotated, cast

from msgspec import Meta
from torch import Tensor

from vaezoo.distributions import CodePoint, sum_event
from vaezoo.elbo import ELBO, Model, Objective
from vaezoo.model import VAE
from vaezoo.priors import UniformCodePrior
from vaezoo.quantizers import CodebookEncoder
from vaezoo.registry import Architecture, register

WIDTH = 64  # numbers in a code unless `latent` says otherwise


class CommitmentObjective(Objective):
    """Minimises D + β·commitment; the rate is a constant of the model."""

    def __init__(self, commitment: float) -> None:
        super().__init__()
        self.commitment = commitment

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO with the terms `codebook` and `commitment`, squared distances summed over positions."""
        inference = model.infer(x, c)
        posterior = cast(CodePoint, inference.posterior)
        distance = (posterior.encoded - posterior.value.detach()).square()
        commitment = sum_event(distance, distance.dim() - 1)
        distortion, rate = inference.distortion(), inference.rate()
        return ELBO(
            distortion=distortion,
            rate=rate,
            bound=self.bound_of(inference, distortion, rate),
            losses={"model": distortion + self.commitment * commitment if self.commitment else distortion},
            terms={"codebook": commitment.detach(), "commitment": commitment},
            seen=model.observe(inference),
        )


def coarsest_grid(architecture: Architecture) -> tuple[int, ...]:
    """Returns the latent (WIDTH, *grid) that the backbone reaches by itself."""
    return architecture.network().grid(architecture.shape, WIDTH)


@register(
    "vq-vae",
    changes=("encoder", "prior", "objective"),
    year=2017,
    paper="van den Oord et al.",
    url="https://arxiv.org/abs/1711.00937",
    defaults={
        "backbone": "conv",
        "latent": coarsest_grid,
        "likelihood": {"name": "gaussian", "scale": 0.1, "scale_kind": "optimal"},
    },
)
def vq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    codes: Annotated[int, Meta(ge=2, le=65536)] = 512,
    commitment: Annotated[float, Meta(ge=0, le=1e6)] = 0.25,
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.99,
    revival: Annotated[float, Meta(ge=0, lt=1)] = 0.05,
) -> VAE:
    r"""Minimises $D + \beta\,\|z_e(x) - \mathrm{sg}[e]\|^2$, with the latents replaced by the nearest of V codes.

    $$\log p(x) \ge \log p(x|e(x)) - N \log V$$

    Hyperparameters:
        codes: $V$, how many codes there are.
        commitment: $\beta \ge 0$, what it costs the encoder to stay away from its code.
        decay: of the moving averages that the codes follow.
        revival: a code chosen less often than this share of an equal share is moved to a vector of the batch.

    The latent shape is (D, *grid): D numbers at each of N positions. The rate is that of the uniform prior, N·log V
    nats in closed form, and `sample` draws from that prior. When to use it: for sharp reconstructions and discrete
    codes. It has no KL weight to tune; its commitment is confused with one.
    """
    network = architecture.network().down(architecture.shape, (1, *architecture.latent), architecture.context)
    encoder = CodebookEncoder(network, architecture.latent, codes=codes, decay=decay, revival=revival)
    prior = UniformCodePrior(architecture.latent[1:])
    return base.replace(encoder=encoder, prior=prior, objective=CommitmentObjective(commitment))
