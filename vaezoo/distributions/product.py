"""Products of independent distributions, concatenated along the last axis of their event."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import kl_divergence, register_kl

from vaezoo.core import Temperable, center
from vaezoo.distributions.joint_sampling import JointlyDrawn


class ProductDistribution(JointlyDrawn):
    """Independent distributions over vectors, concatenated along the last axis.

    Args:
        parts: distributions with the same batch shape, whose events are one axis each.
    """

    def __init__(self, parts: Sequence[Distribution]) -> None:
        self.parts = tuple(parts)
        self.sizes = [part.event_shape[0] for part in parts]
        super().__init__(parts[0].batch_shape, (sum(self.sizes),))
        self.has_rsample = all(part.has_rsample for part in parts)

    @property
    def support(self) -> constraints.Constraint:
        """The supports of the parts along the last axis; discrete if one of them is."""
        return cast(constraints.Constraint, constraints.cat([part.support for part in self.parts], -1, self.sizes))

    @property
    def center(self) -> Tensor:
        """The centers of the parts, (*batch, total)."""
        return torch.cat([center(part) for part in self.parts], -1)

    @property
    def mean(self) -> Tensor:
        """The parts' means, (*batch, total)."""
        return torch.cat([part.mean for part in self.parts], -1)

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, *batch, total) and its log density (*sample, *batch), nats."""
        drawn = [cast(JointlyDrawn, part).rsample_and_log_prob(sample_shape) for part in self.parts]
        return torch.cat([z for z, _ in drawn], -1), torch.stack([log_q for _, log_q in drawn]).sum(0)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, *batch, total), (*sample, *batch), nats."""
        pieces = value.split(self.sizes, -1)
        return torch.stack([part.log_prob(piece) for part, piece in zip(self.parts, pieces, strict=True)]).sum(0)

    def tempered(self, temperature: float) -> "ProductDistribution":
        """Returns the product with its parts at `temperature`; parts that have none, as categories, are unchanged."""
        parts = [part.tempered(temperature) if isinstance(part, Temperable) else part for part in self.parts]
        return ProductDistribution(parts)

    def divergences(self, other: "ProductDistribution") -> list[Tensor]:
        """Returns the KL of each part to the same part of `other`, (*batch) each, nats."""
        return [kl_divergence(own, its) for own, its in zip(self.parts, other.parts, strict=True)]


@register_kl(ProductDistribution, ProductDistribution)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_products(p: ProductDistribution, q: ProductDistribution) -> Tensor:
    """Returns KL(p || q), the sum over the parts, (*batch), nats."""
    return torch.stack(p.divergences(q)).sum(0)
