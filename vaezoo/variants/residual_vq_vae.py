"""The VAE with residual vector quantization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.codes import CodePoint, CommitmentObjective, Level, UniformCodePrior, code_defaults, through
from vaezoo.elbo import Model
from vaezoo.model import VAE
from vaezoo.quantizers import Codebooks, encoded_by
from vaezoo.registry import Architecture, register


class ResidualEncoder(Codebooks):
    """Replaces each vector by a code, what is left of it by a code of a second codebook, and so on."""

    def __init__(
        self, network: nn.Module, latent: Sequence[int], depth: int, *, codes: int, decay: float, revival: float
    ) -> None:
        super().__init__(latent[0], [latent[1:]] * depth, codes=codes, decay=decay, revival=revival)
        self.network, self.latent = network, tuple(latent)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the sums of the chosen codes; in gradients they count as the encoder's output."""
        encoded = encoded_by(self.network, x, c)
        levels = self.split(encoded)
        return CodePoint(through(encoded, torch.stack([level.codes for level in levels]).sum(0)), levels)

    def split(self, rest: Tensor) -> list[Level]:
        """Returns what each codebook was given of `rest` (B, D, *grid), and made of it."""
        levels = []
        for book in self.books():
            levels.append(book.quantize(rest))
            rest = rest - levels[-1].codes
        return levels

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns the sums (..., D, *grid) of the codes `indices` (..., N), one codebook after the other."""
        return torch.stack(self.codes_of(indices)).sum(0)

    def identify(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) that the encoder chooses for z; others may have the same sum."""
        rows = z.detach().reshape(-1, *self.latent)
        return CodePoint(rows, self.split(rows)).indices.reshape(*z.shape[: z.dim() - len(self.latent)], -1)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Puts each codebook on k-means centres of what is left for it."""
        with torch.no_grad():
            rest = torch.cat([encoded_by(self.network, x, c) for x, c in batches])
            for book in self.books():
                book.start(rest)
                rest = rest - book.quantize(rest).codes


@register(
    "residual-vq-vae",
    changes=("encoder", "prior", "objective"),
    year=2022,
    paper="Lee et al.",
    url="https://arxiv.org/abs/2203.01941",
    defaults=code_defaults(64),
    replaceable={"prior": "codes"},
)
def residual_vq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    depth: Annotated[int, Meta(ge=1, le=64)] = 4,
    codes: Annotated[int, Meta(ge=2, le=65536)] = 256,
    commitment: Annotated[float, Meta(ge=0, le=1e6)] = 0.25,
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.99,
    revival: Annotated[float, Meta(ge=0, lt=1)] = 0.05,
) -> VAE:
    r"""Minimises $D + \beta \sum_{d=1}^M \|z_e(x) - \mathrm{sg}[e_1 + \dots + e_d]\|^2$, each latent a sum of M codes.

    Hyperparameters:
        depth: $M$, how many codebooks; each has a code for what the ones before it left.
        codes: $V$, codes of each.
        commitment, decay, revival: $\beta$ and the others as in `vq-vae`.

    The latent shape is (D, *grid), as in `vq-vae`. The rate is that of the uniform prior, N·M·log V nats in closed
    form; `code-prior` learns another, and reads the indices codebook after codebook. Each codebook is of its own, as in
    SoundStream (Zeghidour et al., 2021, https://arxiv.org/abs/2107.03312); Lee et al. share one. When to use it: where
    one code for each position is too coarse and many more codes would not be used. It is confused with `vq-vae-2`,
    whose levels lie on different grids.
    """
    encoder = ResidualEncoder(
        architecture.down(1), architecture.latent, depth, codes=codes, decay=decay, revival=revival
    )
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CommitmentObjective(commitment))
