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
from vaezoo.networks.initialization import check_weights


class VampPrior(Part):
    """A mixture of the posteriors of M learnt pseudo-inputs; refers to the encoder, which it does not own.

    Args:
        shape: the event shape of x.
        context: width of the context: each pseudo-input has a learnt one of its own.
        count: M.
    """

    def __init__(self, shape: Sequence[int], context: int, count: int) -> None:
        super().__init__()
        check_weights("set of pseudo-inputs", [count * (math.prod(shape) + context)])
        self.inputs = nn.Parameter(torch.rand(count, *shape))
        self.contexts = nn.Parameter(torch.rand(count, context)) if context else None
        self._owner: tuple[nn.Module, ...] = ()  # in a tuple, so that it is not registered

    def bind(self, model: Model) -> None:
        """Remembers the encoder, without registering it; raises CompositionError if its density is not to be had."""
        if not as_part(model.encoder).knows_density:
            raise no_component(model.encoder)
        self._owner = (model.encoder,)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the mixture, whatever the context: one pass of the pseudo-inputs through the encoder."""
        posteriors = cast(Distribution, self._owner[0](self.inputs, self.contexts))
        if not has_density(posteriors):
            raise no_component(self._owner[0])
        return Mixture(posteriors)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Puts the pseudo-inputs on random examples, their contexts with them."""
        x = torch.cat([each for each, _ in batches])
        chosen = torch.randperm(len(x), device=x.device)[torch.arange(len(self.inputs), device=x.device) % len(x)]
        with torch.no_grad():
            self.inputs.copy_(x[chosen])
            if self.contexts is not None:
                self.contexts.copy_(torch.cat([c for _, c in batches if c is not None])[chosen])


def no_component(encoder: nn.Module) -> CompositionError:
    """Returns the error of an encoder whose posteriors cannot be mixed."""
    return CompositionError(
        f"vamp-vae needs a posterior whose density is known at every z; got that of {type(encoder).__name__}, which "
        "has none or knows it of its own draws only. Compose with another encoder, or take flow-prior-vae."
    )
