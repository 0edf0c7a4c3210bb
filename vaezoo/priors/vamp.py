"""The VampPrior: a mixture of the posteriors of learned pseudo-inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Model, Part, as_part, has_density
from vaezoo.distributions import Mixture
from vaezoo.errors import CompositionError
from vaezoo.networks.limits import check_weights


class VampPrior(Part):
    """A mixture of the posteriors of M learned pseudo-inputs (Tomczak & Welling, 2018, https://arxiv.org/abs/1705.07120).

    Args:
        shape: the event shape of x.
        context: width of the context; each pseudo-input has a learned context.
        count: M.
    """

    def __init__(self, shape: Sequence[int], context: int, count: int) -> None:
        super().__init__()
        check_weights("set of pseudo-inputs", [count * (math.prod(shape) + context)])
        self.inputs = nn.Parameter(torch.rand(count, *shape))
        self.contexts = nn.Parameter(torch.rand(count, context)) if context else None
        self._encoder: tuple[nn.Module, ...] = ()  # in a tuple, so that it is not registered

    def bind(self, model: Model) -> None:
        """Stores a reference to the encoder; raises CompositionError if its density is not known everywhere."""
        if not as_part(model.encoder).knows_density:
            raise _density_error(model.encoder)
        self._encoder = (model.encoder,)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the mixture, which is the same for every context."""
        posteriors = cast(Distribution, self._encoder[0](self.inputs, self.contexts))
        if not has_density(posteriors):
            raise _density_error(self._encoder[0])
        return Mixture(posteriors)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Sets the pseudo-inputs and their contexts to random examples."""
        x = torch.cat([each for each, _ in batches])
        chosen = torch.randperm(len(x), device=x.device)[torch.arange(len(self.inputs), device=x.device) % len(x)]
        with torch.no_grad():
            self.inputs.copy_(x[chosen])
            if self.contexts is not None:
                self.contexts.copy_(torch.cat([c for _, c in batches if c is not None])[chosen])


def _density_error(encoder: nn.Module) -> CompositionError:
    """Returns the error for an encoder whose posteriors cannot be components."""
    return CompositionError(
        f"Got the posterior of {type(encoder).__name__}, which has no density or only that of its own draws; vamp-vae "
        "needs a density at every z. Compose with another encoder, or use flow-prior-vae."
    )
