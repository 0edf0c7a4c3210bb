r"""Paths: the top-down pass through a hierarchy of Gaussian levels.

$$p(z) = \prod_l p(z_l|z_{<l}), \qquad q(z|x) = \prod_l q(z_l|x, z_{<l})$$

The levels are concatenated along the last axis of z, the top one first. A `Path` has the prior of each level given the
levels above, and ends in the state that the decoder receives.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vaezoo.core import full_precision, network_inputs, require_vector_latent
from vaezoo.distributions import DiagonalNormal, StandardNormal, normal_from


class Path(nn.Module):
    """Base of top-down passes through a hierarchy, level by level, for many rows at once.

    `sizes`: the number of latents of each level, the top one first. The *state*, a tensor (rows, ...), represents the
    levels above; the last state is the input of the decoder.
    """

    sizes: tuple[int, ...]

    def start(self, rows: int, c: Tensor | None) -> Tensor:
        """Returns the state above the top level; `c` (rows, context)."""
        raise NotImplementedError

    def prior(self, level: int, state: Tensor, c: Tensor | None) -> tuple[DiagonalNormal, Tensor]:
        """Returns p(z_l|z_<l), batch (rows,), and the state that the posterior of this level receives."""
        raise NotImplementedError

    def update(self, level: int, state: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
        """Returns the state below level l with latents `z` (rows, size)."""
        raise NotImplementedError


#: returns z of one level (rows, size) for its number, the state and its prior
Choose = Callable[[int, Tensor, DiagonalNormal], Tensor]


def run_top_down(path: Path, leading: Sequence[int], c: Tensor | None, choose: Choose) -> Tensor:
    """Returns the last state (*leading, ...) of a top-down pass with the latents that `choose` returns."""
    rows = math.prod(leading)
    c = None if c is None else c.expand(*leading, c.shape[-1]).reshape(rows, c.shape[-1])
    state = path.start(rows, c)
    for level in range(len(path.sizes)):
        prior, state = path.prior(level, state, c)
        state = path.update(level, state, choose(level, state, prior), c)
    return state.reshape(*leading, *state.shape[1:])


def levels_of(path: Path, z: Tensor) -> Sequence[Tensor]:
    """Returns the levels (rows, size) of z (*leading, total), the top one first."""
    levels: tuple[Tensor, ...] = z.reshape(-1, z.shape[-1]).split(path.sizes, -1)
    return levels


def repeat_rows(features: Tensor, rows: int) -> Tensor:
    """Returns features (B, ...) repeated for K draws, (rows, ...) with rows = K·B."""
    if features.shape[0] == rows:
        return features
    return features.expand(rows // features.shape[0], *features.shape).reshape(rows, *features.shape[1:])


def combine(one: DiagonalNormal, other: DiagonalNormal) -> DiagonalNormal:
    r"""Returns the normal proportional to the product of two normal densities.

    $$\sigma^{-2} = \sigma_1^{-2} + \sigma_2^{-2}, \qquad \mu = \sigma^2 (\mu_1 \sigma_1^{-2} + \mu_2 \sigma_2^{-2})$$
    """
    log_scale = -0.5 * torch.logaddexp(-2.0 * one.log_scale, -2.0 * other.log_scale)
    share = (2.0 * (other.log_scale - one.log_scale)).sigmoid()
    return DiagonalNormal(torch.lerp(other.loc, one.loc, share), log_scale, one.event_dims)


class MarkovPath(Path):
    """A Markov chain: each level depends on the one above it; the top level is N(0, 1).

    Args:
        sizes: number of latents of each level, the top one first.
        networks: for each level but the last, a map from z (rows, size) and c to (rows, 2, next size), μ and log σ.
    """

    zeros: Tensor

    def __init__(self, sizes: Sequence[int], networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.sizes, self.networks = tuple(sizes), nn.ModuleList(networks)
        self.register_buffer("zeros", torch.zeros(sizes[0]), persistent=False)

    def start(self, rows: int, c: Tensor | None) -> Tensor:
        """Returns zeros (rows, size of the top level)."""
        return self.zeros.expand(rows, -1)

    def prior(self, level: int, state: Tensor, c: Tensor | None) -> tuple[DiagonalNormal, Tensor]:
        """Returns p(z_l|z_{l-1}) and z_{l-1}."""
        if not level:
            return StandardNormal(full_precision(state), 1), state
        return normal_from(self.networks[level - 1](*network_inputs(state, c)), 1), state

    def update(self, level: int, state: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
        """Returns z."""
        return z


def halving_sizes(latent: Sequence[int], name: str, levels: int) -> tuple[int, ...]:
    """Returns sizes of levels, each about twice the one above it, the top one first: 4, 8, 16, 32, 64 for 124.

    Raises:
        ShapeError: `latent` has not one axis with at least one latent for each level of the variant `name`.
    """
    rest, sizes = require_vector_latent(latent, name, levels), list[int]()
    for above in range(levels - 1, -1, -1):
        share = rest * 2**above // (2 ** (above + 1) - 1)
        sizes.append(min(share, rest - above))
        rest -= sizes[-1]
    return tuple(sizes[::-1])
