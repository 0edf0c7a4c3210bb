"""Discrete codes: distributions over V codes at each of N positions, lookup, and gradients through quantization.

The posterior is a point mass on codes and has their `indices`. The encoder owns the codes; priors over them refer to
the encoder without registering it. The codes of all levels, one level after the other, are a sequence of N indices.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.kl import register_kl
from torch.nn.functional import embedding, normalize

from vaezoo.distributions import Delta, sum_event

Gradient = Literal["straight-through", "rotation", "noise"]


@runtime_checkable
class CodeSource(Protocol):
    """An encoder that owns codes, as a prior over the codes uses it.

    `codes`: V. `sections`: number of positions of each level, N in all. `latent`: the event shape of z.
    """

    codes: int
    sections: tuple[int, ...]
    latent: tuple[int, ...]

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns z (..., *latent) of the codes `indices` (..., N)."""

    def indices_of(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) of the codes of z (..., *latent)."""


@dataclass(frozen=True, slots=True)
class QuantizedLevel:
    """A quantized level: `encoded` (B, D, *grid), its `codes` (likewise) and `indices` (B, *grid).

    `codes` has a gradient if codes are parameters, and none if they are moving averages.
    """

    encoded: Tensor
    codes: Tensor
    indices: Tensor


class CodePoint(Delta):
    """A point mass on one of V codes at each of N positions, the posterior of a vector-quantized model.

    Args:
        value: (B, *latent), the chosen codes, with the gradient of `straight_through`.
        levels: the quantized levels, coarsest first.
    """

    def __init__(self, value: Tensor, levels: Sequence[QuantizedLevel]) -> None:
        self.levels = tuple(levels)
        super().__init__(value)

    @property
    def indices(self) -> Tensor:
        """The indices of the chosen codes, (B, *grid) int64; (B, N) for several levels."""
        if len(self.levels) == 1:
            return self.levels[0].indices
        return torch.cat([level.indices.reshape(self.value.shape[0], -1) for level in self.levels], 1)

    @property
    def encoded(self) -> Tensor:
        """The input of the first quantization, (B, D, *grid)."""
        return self.levels[0].encoded

    @property
    def quantized(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs of vectors and the codes in their place, (B, D, *grid) each: of each level, or with a sum of codes."""
        if self.encoded.shape == self.value.shape:
            return [(self.encoded, self.value)]
        return [(level.encoded, level.codes) for level in self.levels]

    def distance(self) -> Tensor:
        """Returns the squared distance of encoder outputs to their codes, (B,), summed over positions and levels.

        The codes are constants in its gradient.
        """
        return torch.stack([squared_distance(level.encoded, level.codes.detach()) for level in self.levels]).sum(0)

    def codebook_distance(self) -> Tensor:
        """Returns `distance`, (B,), with the encoder outputs as constants in its gradient."""
        return torch.stack([squared_distance(level.encoded.detach(), level.codes) for level in self.levels]).sum(0)


class UniformCodes(Distribution):
    """Independent positions with V equally likely codes: the prior under which a VQ-VAE is trained.

    Args:
        source: the encoder that owns the codes.
        device: device of draws.
    """

    arg_constraints = {}  # noqa: RUF012  (torch declares it as a plain class attribute)

    def __init__(self, source: CodeSource, device: torch.device) -> None:
        self.source, self.device = source, device
        super().__init__(torch.Size(), torch.Size(source.latent), validate_args=False)

    @property
    def log_mass(self) -> float:
        """The log probability of any choice of codes, -N·log V nats."""
        return -sum(self.source.sections) * math.log(self.source.codes)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns codes drawn independently at each position, (*sample, *latent)."""
        shape = (*sample_shape, sum(self.source.sections))
        return self.source.look_up(torch.randint(self.source.codes, shape, device=self.device))

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns -N·log V for each of `value` (*sample, *latent), which must consist of codes."""
        return value.new_full(value.shape[: value.dim() - len(self.event_shape)], self.log_mass)


@register_kl(CodePoint, UniformCodes)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_code_uniform(p: CodePoint, q: UniformCodes) -> Tensor:
    """Returns N·log V for each example, (B,), nats."""
    return p.value.new_full(p.value.shape[:1], -q.log_mass)


def squared_distance(one: Tensor, other: Tensor) -> Tensor:
    """Returns the squared distance of each example, (B,), of tensors (B, ...)."""
    return sum_event((one - other).square(), one.dim() - 1)


def look_up(codebook: Tensor, indices: Tensor, positions: int) -> Tensor:
    """Returns codes (..., D, *grid) from `codebook` (V, D) for `indices` (..., *grid); `positions` is len(grid)."""
    return embedding(indices, codebook).movedim(-1, indices.dim() - positions)


def nearest(codebook: Tensor, rows: Tensor) -> Tensor:
    """Returns the index of the nearest code of `codebook` (V, D) to each of `rows` (..., D), (...) int64."""
    codebook = codebook.detach().to(rows.dtype)
    flat = rows.detach().reshape(-1, codebook.shape[1])
    found = torch.addmm(codebook.square().sum(1), flat, codebook.T, alpha=-2.0).argmin(1)
    return found.view(rows.shape[:-1])


def nearest_indices(codebook: Tensor, z: Tensor, latent: Sequence[int]) -> Tensor:
    """Returns the indices (..., N) of the codes nearest to z (..., D, *grid) for `latent` = (D, *grid)."""
    found = nearest(codebook, z.movedim(-len(latent), -1))
    return found.reshape(*z.shape[: z.dim() - len(latent)], -1)


def straight_through(encoded: Tensor, codes: Tensor, gradient: Gradient = "straight-through") -> Tensor:
    r"""Returns `codes` (B, D, *grid), exactly but for "noise", with a gradient for `encoded` (B, D, *grid).

    "straight-through" passes the gradient unchanged (Bengio et al., 2013, https://arxiv.org/abs/1308.3432). "rotation"
    rotates and scales the gradient by the map from the vector to its code, which preserves the angle between gradient
    and vector (Fifty et al., 2024, https://arxiv.org/abs/2410.06424): with unit vectors $\hat e$ and $\hat q$, and
    $r = (\hat e + \hat q) / |\hat e + \hat q|$, the output is differentiated as
    $\tfrac{|q|}{|e|}(e - 2 r r^\top e + 2 \hat q \hat e^\top e)$, where all but the outer e is constant.

    "noise" returns no code: $e + |e - q|\, v / |v|$ with normal v, as far from the vector as its code but in a random
    direction, and with its exact gradient, also for codes that have one (Vali and Bäckström, 2022,
    https://doi.org/10.1109/ACCESS.2022.3158752). Call it in train mode alone.
    """
    if gradient == "noise":
        length = (encoded - codes).square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()
        return encoded + length * normalize(torch.randn_like(encoded), dim=1)
    moved, codes = encoded, codes.detach()
    if gradient == "rotation":
        constant = encoded.detach()
        e, q = normalize(constant, dim=1), normalize(codes, dim=1)
        r = normalize(e + q, dim=1)
        scale = codes.norm(dim=1, keepdim=True) / constant.norm(dim=1, keepdim=True).clamp(min=1e-6)
        moved = encoded - 2.0 * r * (r * encoded).sum(1, keepdim=True) + 2.0 * q * (e * encoded).sum(1, keepdim=True)
        moved = scale * moved
    return codes + (moved - moved.detach())  # codes + 0
