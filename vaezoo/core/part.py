"""`Part` and `Objective`, the base classes of everything that a `VAE` is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from vaezoo.core.elbo import ELBO, Inference, has_density
from vaezoo.errors import ShapeError

__all__ = ["Model", "Objective", "Part"]


class Model(Protocol):
    """What objectives and parts may ask of a model (see `vaezoo.core.model.VAE`)."""

    encoder: nn.Module
    decoder: nn.Module
    prior: nn.Module

    def infer(self, x: Tensor, c: Tensor | None = None, samples: int = 1) -> Inference:
        """Returns one stochastic pass with `samples` draws per example."""

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns what the parts that learn without a gradient need of this pass."""

    def parameters(self, recurse: bool = True) -> Iterable[nn.Parameter]:
        """Returns the parameters of the parts and of the objective."""


class Part(nn.Module):
    """A part of a model: encoder, decoder, prior or objective. Each hook has a harmless default.

    `forward` changes no buffer. What learns without a gradient reports tensors from `observe` and moves in
    `after_step`. `initialization_examples`: how many examples `initialize` is best given.
    """

    initialization_examples = 2_000  # enough for biases, codebooks and scales, and a second's work

    def bind(self, model: Model) -> None:
        """Receives the model when it is built, copied or changed; refer to other parts, never register them."""

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Starts what should start from data (biases, codebooks), once, before the first step; (x, c) batches."""

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns detached tensors of one micro-batch for `after_step`."""
        return {}

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Moves what learns without a gradient; `seen`: a mapping (maybe empty) per micro-batch and rank, in order."""


class Objective(Part):
    """What is minimised. `forward(model, x, c, step)` returns an `ELBO`; `players` says who minimises which loss."""

    #: whether the objective has a rate weight that a recipe may schedule (`WeightedObjective.schedule`)
    has_rate_weight = False

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO of the examples `x` (B, *shape); `step` is a 0-dim tensor, None a schedule's end."""
        raise NotImplementedError

    def players(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Returns player -> its trainable parameters; together they are all of them, each once."""
        return {"model": [parameter for parameter in model.parameters() if parameter.requires_grad]}

    def bound_of(self, inference: Inference, distortion: Tensor, rate: Tensor) -> Tensor:
        """Returns the bound -(D + R), (B,); -inf where the posterior has no density."""
        return self.if_density(inference, -(distortion + rate))

    def if_density(self, inference: Inference, bound: Tensor) -> Tensor:
        """Returns `bound` (B,), or -inf where the posterior is a point mass in a continuous space."""
        return bound if has_density(inference.posterior) else torch.full_like(bound, -torch.inf)


def network_inputs(x: Tensor, c: Tensor | None) -> tuple[Tensor, ...]:
    """Returns what a network is called with: an unconditional one need not know of contexts."""
    return (x,) if c is None else (x, c)


def require_vector_latent(latent: Sequence[int], name: str, least: int = 1) -> int:
    """Returns the size of a latent of one axis, which the variant `name` needs; raises ShapeError for another."""
    if len(latent) != 1 or latent[0] < least:
        raise ShapeError(
            f"Got latent = {list(latent)}; {name} expected one axis with at least {least} latents, such as latent = "
            f"{max(least, 16)}."
        )
    return latent[0]
