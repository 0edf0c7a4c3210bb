"""Codes that are drawn from probabilities, relaxed while training (Gumbel-softmax)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.kl import register_kl

from vaezoo.core import Part
from vaezoo.core.precision import full_precision
from vaezoo.distributions import OneHotCategoricals
from vaezoo.distributions.joint_sampling import JointlyDrawn
from vaezoo.networks.initialization import check_weights, normal_init
from vaezoo.quantization.codes import UniformCodes, look_up, nearest_indices

__all__ = ["GumbelCodes", "GumbelEncoder"]


class GumbelCodes(JointlyDrawn):
    """A code at each position, drawn from `choices` (OneHots over (*grid, V)); relaxed draws are weighted means."""

    def __init__(self, choices: OneHotCategoricals, codebook: Tensor) -> None:
        self.choices, self.codebook = choices, codebook
        super().__init__(choices.batch_shape, (codebook.shape[1], *choices.event_shape[:-1]))

    @property
    def indices(self) -> Tensor:
        """The likeliest codes, (B, *grid) int64."""
        return self.choices.log_probs.argmax(-1)

    @property
    def center(self) -> Tensor:
        """The likeliest codes, (B, D, *grid)."""
        return look_up(self.codebook, self.indices, len(self.event_shape) - 1)

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns codes (*sample, B, D, *grid) and their log probability (*sample, B), nats."""
        drawn, log_q = self.choices.rsample_and_log_prob(sample_shape)
        return (drawn @ self.codebook.to(drawn.dtype)).movedim(-1, -len(self.event_shape)), log_q


@register_kl(GumbelCodes, UniformCodes)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_gumbel_uniform(p: GumbelCodes, q: UniformCodes) -> Tensor:
    """Returns N·log V less the entropy of the choices, (B,), nats."""
    return -q.log_mass - p.choices.entropy()


class GumbelEncoder(Part):
    r"""Probabilities of V codes at each position; draws are relaxed where a gradient is wanted, by Gumbel-softmax."""

    knows_density = False

    def __init__(self, network: nn.Module, latent: Sequence[int], codes: int, temperature: float) -> None:
        super().__init__()
        check_weights("codebook", [codes * latent[0]])
        self.network, self.latent = network, tuple(latent)
        self.codes, self.sections = codes, (math.prod(latent[1:]),)
        self.temperature = temperature
        self.codebook = nn.Parameter(normal_init(codes, latent[0], scale=latent[0] ** -0.5))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example; in eval mode, or frozen, its draws are exactly codes."""
        logits = full_precision(self.network(x, c)).squeeze(1).movedim(1, -1)
        temperature = self.temperature if self.training and logits.requires_grad else None
        return GumbelCodes(OneHotCategoricals(logits, len(self.latent), temperature), full_precision(self.codebook))

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns the codes (..., D, *grid) of `indices` (..., N)."""
        grid = self.latent[1:]
        return look_up(full_precision(self.codebook), indices.reshape(*indices.shape[:-1], *grid), len(grid))

    def indices_of(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) of the codes nearest to z (..., D, *grid)."""
        return nearest_indices(full_precision(self.codebook), z, self.latent)
