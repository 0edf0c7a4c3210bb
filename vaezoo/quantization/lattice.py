r"""Quantization to fixed lattices: each element of the encoder's output is rounded independently.

$$z_j = (d_j - o_j) / s_j, \qquad d_j \in \{0, \dots, L_j - 1\}, \qquad i = \sum_j d_j \prod_{k<j} L_k$$
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import normalize

from vaezoo.core import Part, full_precision
from vaezoo.errors import ConfigError, ShapeError
from vaezoo.quantization.codes import CodePoint, QuantizedLevel, straight_through
from vaezoo.quantization.table import encoder_output

EPSILON = 1e-3  # relative margin of the hyperbolic tangent beyond the last value
MAX_BITS = 24
MAX_CODES = 2**MAX_BITS  # integers that float32 represents exactly


class LatticeEncoder(Part):
    """Base of encoders that round each of D elements to one of L_j values; the codes are all combinations.

    The index of a code is the number whose digits are d_j, the first digit the lowest.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, D, *grid).
        latent: (D, *grid).
        levels: (L_1, …, L_D), whose product is V.
        name: name of the variant, for messages.
    """

    knows_density = False
    levels: Tensor

    def __init__(self, network: nn.Module, latent: Sequence[int], levels: Sequence[int], name: str) -> None:
        super().__init__()
        if len(levels) != latent[0]:
            raise ShapeError(
                f"Got latent = {list(latent)}; {name} with {len(levels)} levels expected {len(levels)} numbers at each "
                f"position: latent = {[len(levels), *latent[1:]]}."
            )
        if math.prod(levels) > MAX_CODES:
            raise ConfigError(f"Got {math.prod(levels):,} codes of {name}; expected at most {MAX_CODES:,}.")
        self.network, self.latent = network, tuple(latent)
        self.codes, self.sections, self.index_shape = math.prod(levels), (math.prod(latent[1:]),), self.latent[1:]
        # Not saved: it is an option.
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)

    def bound(self, encoded: Tensor) -> Tensor:
        """Returns the values to round, (B, D, *grid), for the output of the network."""
        raise NotImplementedError

    def lattice(self) -> tuple[Tensor, Tensor]:
        """Returns origin o and scale s, (D,) each."""
        raise NotImplementedError

    def digits(self, z: Tensor) -> Tensor:
        """Returns the digits (..., D, *grid) nearest to z (..., D, *grid), as floats."""
        origin, scale = (self._along(each) for each in self.lattice())
        return torch.minimum((z * scale + origin).round().clamp(min=0.0), self._along(self.levels) - 1.0)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the point mass on the nearest codes, with the gradient of `straight_through`."""
        bounded = self.bound(encoder_output(self.network, x, c))
        origin, scale = (self._along(each) for each in self.lattice())
        digits = self.digits(bounded.detach())
        codes = (digits - origin) / scale
        return CodePoint(straight_through(bounded, codes), [QuantizedLevel(bounded, codes, self._number(digits))])

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns the codes (..., D, *grid) of `indices` (..., N)."""
        whole = indices.reshape(*indices.shape[:-1], 1, *self.latent[1:]).to(full_precision(self.levels).dtype)
        digits = (whole / self._basis()).floor().remainder(self._along(self.levels))
        origin, scale = (self._along(each) for each in self.lattice())
        return (digits - origin) / scale

    def indices_of(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) of the codes nearest to z (..., D, *grid)."""
        number = self._number(self.digits(z.detach()))
        return number.reshape(*number.shape[: number.dim() - len(self.latent) + 1], *self.sections)

    def _along(self, values: Tensor) -> Tensor:
        """Returns values (D,) in a shape that broadcasts with (..., D, *grid)."""
        return full_precision(values).view(-1, *[1] * (len(self.latent) - 1))

    def _basis(self) -> Tensor:
        levels = full_precision(self.levels)
        return self._along(levels.cumprod(0) / levels)

    def _number(self, digits: Tensor) -> Tensor:
        """Returns the indices (..., *grid) of digits (..., D, *grid)."""
        return (digits * self._basis()).sum(-len(self.latent)).round().long()


class ScalarEncoder(LatticeEncoder):
    """Finite scalar quantization: bounds each element by a hyperbolic tangent and rounds it to one of L_j values."""

    def lattice(self) -> tuple[Tensor, Tensor]:
        """Returns ⌊L/2⌋ twice, (D,)."""
        half = (full_precision(self.levels) / 2.0).floor()
        return half, half

    def bound(self, encoded: Tensor) -> Tensor:
        """Returns bounded values (B, D, *grid) that round to L_j values; 0 is mapped to 0."""
        levels = full_precision(self.levels)
        half = 0.5 * (levels - 1.0) * (1.0 + EPSILON)
        offset = 0.5 * (1.0 - levels.remainder(2.0))
        half, offset, shift = (self._along(each) for each in (half, offset, (offset / half).atanh()))
        return ((encoded + shift).tanh() * half - offset) / self._along(self.lattice()[1])


class SignEncoder(LatticeEncoder):
    """Lookup-free quantization: the sign of each element, -1 or 1.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, D, *grid).
        latent: (D, *grid); there are 2^D codes.
        name: that of the variant.

    Raises:
        ShapeError: D is above 24.
    """

    def __init__(self, network: nn.Module, latent: Sequence[int], name: str) -> None:
        if latent[0] > MAX_BITS:  # before the codes are counted
            raise ShapeError(
                f"Got latent = {list(latent)}; {name} expected at most {MAX_BITS} elements at each position, since it "
                "has 2^D codes. Choose a smaller first size."
            )
        super().__init__(network, latent, [2] * latent[0], name)

    def lattice(self) -> tuple[Tensor, Tensor]:
        """Returns ½ twice, (D,)."""
        half = torch.full_like(self.levels, 0.5)
        return half, half

    def bound(self, encoded: Tensor) -> Tensor:
        """Returns `encoded` (B, D, *grid)."""
        return encoded


class SphereEncoder(SignEncoder):
    """Binary spherical quantization: the sign of each element of a unit vector, divided by √D."""

    def lattice(self) -> tuple[Tensor, Tensor]:
        """Returns ½ and ½·√D, (D,) each."""
        half = torch.full_like(self.levels, 0.5)
        return half, half * len(half) ** 0.5

    def bound(self, encoded: Tensor) -> Tensor:
        """Returns `encoded` (B, D, *grid) with vectors of length 1."""
        return normalize(encoded, dim=1)
