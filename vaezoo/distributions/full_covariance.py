"""Gaussians with a full covariance, given by its Cholesky factor."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions.kl import register_kl

from vaezoo.distributions.joint_sampling import LOG_TWO_PI, JointlyDrawn
from vaezoo.distributions.normal import DiagonalNormal, StandardNormal


class CholeskyNormal(JointlyDrawn):
    r"""$\mathcal{N}(\mu, L L^\top)$ over an event of one axis.

    Args:
        loc: (*batch, D)
        log_diagonal: (*batch, D), $\log L_{jj}$
        lower: (*batch, D, D), with the entries of L below the diagonal; the others are ignored.
    """

    def __init__(self, loc: Tensor, log_diagonal: Tensor, lower: Tensor) -> None:
        self.loc, self.log_diagonal = loc, log_diagonal
        self.factor = lower.tril(-1) + log_diagonal.exp().diag_embed()
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    @property
    def mean(self) -> Tensor:
        """The location, (*batch, D)."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """The standard deviation of each coordinate, (*batch, D)."""
        return self.factor.square().sum(-1).sqrt()

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, *batch, D) and its log density (*sample, *batch), nats."""
        noise = torch.randn(*sample_shape, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + product(self.factor, noise), self._log_prob(noise)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, *batch, D), (*sample, *batch), nats."""
        identity = torch.eye(self.loc.shape[-1], dtype=self.loc.dtype, device=self.loc.device)
        inverse = torch.linalg.solve_triangular(self.factor, identity, upper=False)
        return self._log_prob(product(inverse, value - self.loc))

    def _log_prob(self, noise: Tensor) -> Tensor:
        return (-0.5 * (noise.square() + LOG_TWO_PI) - self.log_diagonal).sum(-1)

    def take(self, indices: Tensor) -> "CholeskyNormal":
        """Returns the elements `indices` of a batch (M,), with the shape of `indices` as batch shape."""
        return CholeskyNormal(self.loc[indices], self.log_diagonal[indices], self.factor[indices])


def product(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Returns the products (*sample, *batch, D) of matrices (*batch, D, D) and vectors (*sample, *batch, D)."""
    with torch.autocast(vectors.device.type, enabled=False):  # it would round densities to 8 bits
        products = matrices @ vectors.reshape(-1, *matrices.shape[:-1]).movedim(0, -1)
    return products.movedim(-1, 0).reshape(vectors.shape)


@register_kl(CholeskyNormal, DiagonalNormal)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_cholesky_diagonal(p: CholeskyNormal, q: DiagonalNormal) -> Tensor:
    """Returns KL(p || q), (*batch), nats, for a q over an event of one axis."""
    inverse = (-q.log_scale).exp()
    spread = (p.factor * inverse.unsqueeze(-1)).square().sum((-2, -1))
    distance = ((p.loc - q.loc) * inverse).square().sum(-1)
    logs = (q.log_scale - p.log_diagonal).sum(-1)
    return 0.5 * (spread + distance - p.loc.shape[-1]) + logs


@register_kl(CholeskyNormal, StandardNormal)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_cholesky_standard(p: CholeskyNormal, q: StandardNormal) -> Tensor:
    """Returns KL(p || N(0, 1)), (*batch), nats."""
    squares = p.factor.square().sum((-2, -1)) + p.loc.square().sum(-1)
    return 0.5 * (squares - p.loc.shape[-1]) - p.log_diagonal.sum(-1)
