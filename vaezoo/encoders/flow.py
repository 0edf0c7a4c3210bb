"""Encoders whose posterior is a diagonal Gaussian transformed by a normalizing flow or Hamiltonian dynamics."""

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from vaezoo.core import Model, Part, full_precision, network_inputs
from vaezoo.distributions import FlowPosterior, HamiltonianPosterior, normal_from
from vaezoo.networks import InverseAutoregressive

LARGEST_STEP = 0.5  # ξ, the upper bound of the step sizes of Hamiltonian dynamics
SMALLEST_PRODUCT = -15.0  # of w·u: below it, 1 + w·û would be 0 in float32 and the flow singular
OFFSET = math.log(math.e - 1.0)  # softplus(OFFSET) is 1


class AutoregressiveEncoder(Part):
    """A diagonal Gaussian transformed by inverse autoregressive steps, which depend on the features h(x).

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 3, *latent): μ, log σ and h.
        latent: the event shape of z.
        flow: the steps.
    """

    posterior_type = FlowPosterior
    knows_density = False

    def __init__(self, network: nn.Module, latent: Sequence[int], flow: InverseAutoregressive) -> None:
        super().__init__()
        self.network, self.latent, self.flow = network, tuple(latent), flow

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        raw = full_precision(self.network(*network_inputs(x, c))).flatten(2)  # (B, 3, D)
        return FlowPosterior(normal_from(raw[:, :2], 1), partial(self.flow, h=raw[:, 2]), self.latent)


class PlanarEncoder(Part):
    """A diagonal Gaussian transformed by planar flows (Rezende & Mohamed, 2015, https://arxiv.org/abs/1505.05770).

    Args:
        network: maps x (B, *shape) and c (B, context) to the parameters of both, (B, 2 D + F (2 D + 1)).
        latent: the event shape of z, D numbers.
        flows: F, the number of planar flows.
    """

    posterior_type = FlowPosterior
    knows_density = False

    def __init__(self, network: nn.Module, latent: Sequence[int], flows: int) -> None:
        super().__init__()
        self.network, self.latent, self.flows = network, tuple(latent), flows

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        size = math.prod(self.latent)
        first, rest = self.network(*network_inputs(x, c)).split([2 * size, self.flows * (2 * size + 1)], -1)
        raw = full_precision(rest).unflatten(-1, (self.flows, 2 * size + 1))
        transform = partial(planar_flows, raw=raw)
        return FlowPosterior(normal_from(first.unflatten(-1, (2, size)), 1), transform, self.latent)


class HamiltonianEncoder(Part):
    """The diagonal Gaussian of another encoder, transformed by tempered leapfrog steps towards p(z|x).

    Args:
        base: the encoder of the diagonal Gaussian.
        latent: the event shape of z.
        leapfrogs: number of leapfrog steps.
        step: initial size of the steps, under `LARGEST_STEP`; one for each latent is learned.
        beta: initial inverse temperature β₀, between 0 and 1, which is learned; it rises to 1 over the steps.
    """

    posterior_type = HamiltonianPosterior
    knows_density = False
    uses_likelihood = True
    needs_whole_parameters = True

    def __init__(self, base: nn.Module, latent: Sequence[int], leapfrogs: int, step: float, beta: float) -> None:
        super().__init__()
        self.base, self.leapfrogs = base, leapfrogs
        self.raw_step = nn.Parameter(torch.full(tuple(latent), math.log(step / (LARGEST_STEP - step))))
        self.raw_beta = nn.Parameter(torch.tensor(math.log(beta / (1.0 - beta))))
        self._others: tuple[nn.Module, ...] = ()  # in a tuple, so that they are not registered

    def bind(self, model: Model) -> None:
        """Stores references to the decoder and the prior, without registering them."""
        self._others = (model.decoder, model.prior)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        decoder, prior = self._others
        p_z = cast(Distribution, prior(c))

        def log_joint(z: Tensor) -> Tensor:
            return cast(Distribution, decoder(z, c)).log_prob(x) + p_z.log_prob(z)

        step = LARGEST_STEP * full_precision(self.raw_step).sigmoid()
        root = full_precision(self.raw_beta).sigmoid().rsqrt()
        times = torch.arange(self.leapfrogs + 1, dtype=root.dtype, device=x.device) / self.leapfrogs
        roots = root + (1.0 - root) * times.square()  # 1/√β_k, from 1/√β₀ down to 1
        return HamiltonianPosterior(self.base(*network_inputs(x, c)), log_joint, step, roots[:-1] / roots[1:])


def planar_flows(z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """Returns z (..., B, D) after F planar flows with parameters `raw` (B, F, 2 D + 1), and log |det| (..., B)."""
    total = torch.zeros_like(z[..., 0])
    for each in raw.unbind(1):
        u, w, b = each.split([z.shape[-1], z.shape[-1], 1], -1)
        z, log_det = planar_flow(z, u, w, b.squeeze(-1))
        total = total + log_det
    return z, total


def planar_flow(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns $z + \hat u \tanh(w \cdot z + b)$ for z (..., B, D), and log |det| (..., B); u, w (B, D) and b (B,).

    $\hat u = u + (m(w \cdot u) - w \cdot u)\, w / |w|^2$ with $m(a) = \log(1 + (e - 1)\, e^a) - 1 > -1$, so that
    $w \cdot \hat u > -1$ and the flow is invertible (appendix A.1 of the paper). The paper has $m(a) = \log(1 + e^a) -
    1$, whose value at 0 is -0.31: $\hat u$ is then infinite where w is 0. Here $m(0) = 0$ and $|\hat u| \le 2 |u|$, so
    that small outputs of a network are small steps.
    """
    product = (w * u).sum(-1)
    lifted = softplus(product.clamp(min=SMALLEST_PRODUCT) + OFFSET)  # 1 + w·û
    u_hat = u + ((lifted - 1.0 - product) / (w.square().sum(-1) + 1e-9)).unsqueeze(-1) * w
    height = ((w * z).sum(-1) + b).tanh()
    # 1 + (1 - h²) w·û, as a sum of positive terms.
    return z + u_hat * height.unsqueeze(-1), (height.square() + (1.0 - height.square()) * lifted).log()
