r"""The von Mises-Fisher distribution and the uniform one on the unit sphere of $\mathbb{R}^m$.

$$q(z) \propto e^{\kappa\,\mu^\top z}, \qquad \mu^\top z = \cos\theta, \qquad
    p(\theta) = \frac1{Z(\kappa)}\, e^{\kappa (\cos\theta - 1)} \sin^{m-2}\theta$$

Densities are with respect to the sphere's surface. All quantities that depend on the concentration are integrals over
the one angle θ. Gauss-Legendre quadrature over the range of its density, in double precision, gives the normalizer, the
mean, the distribution function and its inverse, to about 1e-10 for any concentration and dimension, without Bessel
functions, which overflow, and without rejection.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.kl import register_kl
from torch.nn.functional import normalize

from vaezoo.core import widest
from vaezoo.distributions.joint_sampling import JointlyDrawn

CELLS = 48  # quadrature cells
WIDTHS = 12.0  # standard deviations of the angle on each side of its mode that the cells cover
NEWTON = 2  # iterations to the angle in a cell, before one more for the gradient
SMALLEST = 1e-12  # concentration used in place of 0
TINY = 1e-30
POINTS, WEIGHTS = (each.tolist() for each in np.polynomial.legendre.leggauss(4))  # on [-1, 1]


class Angle:
    """The angle between a draw and the mean direction, and the table of its distribution.

    Args:
        concentration: κ ≥ 0, (*batch).
        dimension: m ≥ 2.
    """

    def __init__(self, concentration: Tensor, dimension: int) -> None:
        self.concentration = widest(concentration).clamp(min=SMALLEST)
        self.power = dimension - 2
        low, high, self.peak = self._range(self.concentration.detach())
        shares = torch.linspace(0.0, 1.0, CELLS + 1, dtype=low.dtype, device=low.device)
        self.edges = low.unsqueeze(-1) + (high - low).unsqueeze(-1) * shares  # (*batch, CELLS + 1)
        nodes, weights = self._between(self.edges[..., :-1], self.edges[..., 1:])
        self.masses = weights * self._density(nodes, 2)
        self.haversines = (nodes / 2).sin().square()  # (1 - cos θ) / 2, without cancellation

    def _range(self, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the range of angles with density, and the log of its maximum before normalization."""
        p = self.power
        cosine = 2.0 * k / (p + (p * p + 4.0 * k * k).sqrt())
        mode = (p * cosine / k).clamp(max=1.0).sqrt().asin()
        width = (k * cosine + (k / cosine if p else 0.0)).rsqrt()
        low, high = (mode - WIDTHS * width).clamp(min=0.0), (mode + WIDTHS * width).clamp(max=math.pi)
        peak = -2.0 * k * (mode / 2).sin().square() + (p * mode.sin().log() if p else 0.0)
        return low, high, peak

    def _density(self, angle: Tensor, extra: int) -> Tensor:
        """Returns the density at angles (*batch, …) divided by its maximum; `extra` dimensions follow the batch."""
        k, peak = (each.reshape(*each.shape, *[1] * extra) for each in (self.concentration, self.peak))
        log_density = -2.0 * k * (angle / 2).sin().square() - peak
        return (log_density + self.power * angle.sin().log() if self.power else log_density).exp()

    def _between(self, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Returns quadrature nodes and weights from `start` to `end`, with one more dimension."""
        half = 0.5 * (end - start)
        nodes = [start + (1.0 + point) * half for point in POINTS]
        return torch.stack(nodes, -1), torch.stack([weight * half for weight in WEIGHTS], -1)

    def expectation_and_log_normalizer(self) -> tuple[Tensor, Tensor]:
        r"""Returns the mean of $1 - \cos\theta$, and $\log E[e^{\kappa(\cos\theta - 1)}]$ over the uniform sphere."""
        total = self.masses.sum((-2, -1))
        mean = 2.0 * (self.masses * self.haversines).sum((-2, -1)) / total
        half = 0.5 * (self.power + 1)
        log_beta = math.lgamma(half) + math.lgamma(0.5) - math.lgamma(half + 0.5)
        return mean, total.log() + self.peak - log_beta

    def quantile(self, share: Tensor) -> Tensor:
        """Returns the angles (*batch, K) below which `share` (*batch, K) of the draws lie.

        Their gradient in κ is that of the inverse distribution function: the last Newton step, which does not change
        the value, uses a table that is differentiable in κ.
        """
        masses = self.masses.sum(-1)
        sums = torch.cat([torch.zeros_like(masses[..., :1]), masses.cumsum(-1)], -1)
        wanted = share * sums[..., -1:]
        cell = torch.searchsorted(sums.detach()[..., 1:].contiguous(), wanted.detach().contiguous())
        cell = cell.clamp(max=CELLS - 1)
        start, end = self.edges.gather(-1, cell), self.edges.gather(-1, cell + 1)
        rest = wanted - sums.gather(-1, cell)
        with torch.no_grad():
            angle = self._inside(start, end, rest)
            density = self._density(angle, 1).clamp(min=TINY)
        return angle + (rest - self._mass(start, angle)) / density

    def _inside(self, start: Tensor, end: Tensor, rest: Tensor) -> Tensor:
        """Returns the angles (*batch, K) at which the mass since the `start` of their cells is `rest`.

        Newton's method for log mass in log length, from the edge of the cell with the lower density; exact after one
        iteration if the density is a power of the length.
        """
        rising = self._density(start, 1) < self._density(end, 1)
        near, far = torch.where(rising, start, end), torch.where(rising, end, start)
        whole = self._mass(start, end).clamp(min=TINY)
        rest = torch.where(rising, rest, whole - rest).clamp(min=TINY)
        power = ((far - near).abs() * self._density(far, 1) / whole).clamp(min=1.0)
        share = (rest / whole).clamp(max=1.0).pow(1.0 / power)
        for _ in range(NEWTON):
            angle = torch.lerp(near, far, share)
            mass, slope = self._mass(near, angle).abs().clamp(min=TINY), (far - near).abs() * self._density(angle, 1)
            share = share * ((rest / mass).log() * mass / (share * slope).clamp(min=TINY)).exp()
            share = share.clamp(1e-9, 1.0)
        return torch.lerp(near, far, share)

    def _mass(self, start: Tensor, end: Tensor) -> Tensor:
        nodes, weights = self._between(start, end)
        return (weights * self._density(nodes, 2)).sum(-1)


class VonMisesFisher(JointlyDrawn):
    r"""$q(z) \propto e^{\kappa\,\mu^\top z}$ on the unit sphere, with respect to its surface.

    Args:
        loc: μ, unit vectors (*batch, m) with m ≥ 2.
        concentration: κ ≥ 0, (*batch).
    """

    def __init__(self, loc: Tensor, concentration: Tensor) -> None:
        self.loc, self.concentration = loc, concentration
        # Computed when first needed; torch.compile cannot trace the lock of `cached_property`.
        self._angle: Angle | None = None
        self._moments: tuple[Tensor, Tensor] | None = None
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    @property
    def support(self) -> constraints.Constraint:
        """The unit sphere."""
        return UnitSphere()

    @property
    def center(self) -> Tensor:
        """The mean direction, which is also the mode, (*batch, m)."""
        return self.loc

    mode = center

    @property
    def mean(self) -> Tensor:
        """The mean, inside the sphere, (*batch, m)."""
        return self.loc * (1.0 - self.moments[0].unsqueeze(-1)).to(self.loc.dtype)

    @property
    def angle(self) -> Angle:
        """The angle between a draw and the mean direction."""
        if self._angle is None:
            self._angle = Angle(self.concentration, self.loc.shape[-1])
        return self._angle

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """See `Angle.expectation_and_log_normalizer`; (*batch) each, in double precision."""
        if self._moments is None:
            self._moments = self.angle.expectation_and_log_normalizer()
        return self._moments

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, *batch, m), differentiable in μ and κ, and its log density (*sample, *batch), nats."""
        dtype, device = self.loc.dtype, self.loc.device
        share = torch.rand(math.prod(sample_shape), *self.batch_shape, dtype=dtype, device=device)
        angle = self.angle.quantile(widest(share).movedim(0, -1)).movedim(-1, 0)
        angle = angle.reshape(*sample_shape, *self.batch_shape)
        noise = torch.randn(*sample_shape, *self.loc.shape, dtype=dtype, device=device)
        along, across = (each.unsqueeze(-1).to(dtype) for each in (angle.cos(), angle.sin()))
        return along * self.loc + across * self._tangent(noise), self._log_prob(2.0 * (angle / 2).sin().square())

    def _tangent(self, noise: Tensor) -> Tensor:
        """Returns uniform unit vectors orthogonal to μ; their gradient in μ is that of parallel transport."""
        with torch.no_grad():
            along = (noise * self.loc).sum(-1, keepdim=True)
            across = normalize(noise - along * self.loc, dim=-1)
        return across - (across * self.loc).sum(-1, keepdim=True) * self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of unit vectors `value` (*sample, *batch, m), (*sample, *batch), nats."""
        return self._log_prob(0.5 * widest(value - self.loc).square().sum(-1))

    def _log_prob(self, distance: Tensor) -> Tensor:
        """Returns the log density where 1 - cos θ is `distance`."""
        log_density = -widest(self.concentration) * distance - self.moments[1] - log_area(self.loc.shape[-1])
        return log_density.to(self.loc.dtype)

    def take(self, indices: Tensor) -> "VonMisesFisher":
        """Returns the elements `indices` of a batch (M,), with the shape of `indices` as batch shape."""
        return VonMisesFisher(self.loc[indices], self.concentration[indices])


class UniformSphere(JointlyDrawn):
    """The uniform distribution on the unit sphere.

    Args:
        zeros: (m,), of the type and device of the draws.
    """

    def __init__(self, zeros: Tensor) -> None:
        self.zeros = zeros
        super().__init__((), zeros.shape)

    @property
    def support(self) -> constraints.Constraint:
        """The unit sphere."""
        return UnitSphere()

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, m) and its log density (*sample), nats."""
        noise = torch.randn(*sample_shape, *self.event_shape, dtype=self.zeros.dtype, device=self.zeros.device)
        z = normalize(noise, dim=-1)
        return z, self.log_prob(z)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of unit vectors `value` (*sample, m), (*sample), nats."""
        return value.new_full(value.shape[:-1], -log_area(value.shape[-1]))


class UnitSphere(constraints.Constraint):
    """Unit vectors, to rounding."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        """Returns which of the vectors (..., m) have length 1."""
        near: Tensor = (value.square().sum(-1) - 1.0).abs() < 2e-3
        return near


def log_area(dimension: int) -> float:
    """Returns the log of the area of the unit sphere in a space of this dimension."""
    return math.log(2.0) + 0.5 * dimension * math.log(math.pi) - math.lgamma(0.5 * dimension)


@register_kl(VonMisesFisher, UniformSphere)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_von_mises_fisher_uniform(p: VonMisesFisher, q: UniformSphere) -> Tensor:
    """Returns KL(p || uniform), (*batch), nats; it does not depend on the mean direction."""
    mean, log_normalizer = p.moments
    return (-p.angle.concentration * mean - log_normalizer).to(p.loc.dtype)
