r"""Priors over sequences of codes: $p(i) = \prod_n p(i_n | i_1, \dots, i_{n-1})$ by a small causal transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.kl import register_kl
from torch.nn.functional import cross_entropy

from vaezoo.core import Model, Part
from vaezoo.core.precision import full_precision
from vaezoo.errors import CompositionError
from vaezoo.networks import CausalTransformer
from vaezoo.quantization.codes import CodePoint, CodeSource, UniformCodes

__all__ = ["CodePrior", "CodeSequences", "UniformCodePrior"]


class CodeSequences(Distribution):
    """The codes of a model, as sequences of indices that a transformer predicts one by one.

    Args:
        source: the owner of the codes.
        network: predicts them.
        c: (B, context) or None; with it the distributions are a batch (B,).
    """

    arg_constraints = {}  # noqa: RUF012  (torch declares it as a plain class attribute)

    def __init__(self, source: CodeSource, network: CausalTransformer, c: Tensor | None = None) -> None:
        self.source, self.network, self.c = source, network, c
        batch = torch.Size() if c is None else c.shape[:1]
        super().__init__(batch, torch.Size(source.latent), validate_args=False)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns codes (*sample, *batch, *latent)."""
        shape = (*sample_shape, *self.batch_shape)
        return self.source.look_up(self.network.draw(math.prod(shape), self._rows(shape)).unflatten(0, shape or (1,)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p of the codes that `value` (*sample, *batch, *latent) is made of, nats."""
        return self.log_mass(self.source.indices_of(value))

    def log_mass(self, indices: Tensor) -> Tensor:
        """Returns log p (...) of `indices` (..., N), nats; with a context the last leading dimension is its batch."""
        shape = indices.shape[:-1]
        rows = indices.reshape(-1, indices.shape[-1])
        logits = full_precision(self.network(rows, self._rows(shape)))
        nats = cross_entropy(logits.flatten(0, 1), rows.flatten(), reduction="none")
        return -nats.view(rows.shape).sum(1).reshape(shape)

    def _rows(self, shape: Sequence[int]) -> Tensor | None:
        return None if self.c is None else self.c.expand(*shape, -1).reshape(-1, self.c.shape[-1])


class CodePrior(Part):
    """A learnt prior over an encoder's codes, to which it refers without registering it.

    In train mode and frozen, as in a stage that trains the others, all codes count as equally likely: nothing is spent
    on a network that does not learn.

    Args:
        network: predicts the codes.
    """

    def __init__(self, network: CausalTransformer) -> None:
        super().__init__()
        self.network = network
        self._owner: tuple[CodeSource, ...] = ()  # in a tuple, so that it is not registered

    def bind(self, model: Model) -> None:
        """Remembers the encoder that owns the codes, without registering it; raises CompositionError for another."""
        source = source_of(model)
        found, wanted = ((each.codes, tuple(each.sections)) for each in (source, self.network))
        if found != wanted:
            raise CompositionError(
                f"The prior is over {wanted[0]} codes at {wanted[1]} positions; the encoder has {found[0]} at "
                f"{found[1]}. Replace both."
            )
        self._owner = (source,)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior over codes."""
        if self.training and not any(parameter.requires_grad for parameter in self.network.parameters()):
            return UniformCodes(self._owner[0], home(self._owner[0]))
        return CodeSequences(self._owner[0], self.network, c)


@register_kl(CodePoint, CodeSequences)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_code_sequences(p: CodePoint, q: CodeSequences) -> Tensor:
    """Returns -log p of the chosen codes, (B,), nats."""
    return -q.log_mass(p.indices.reshape(len(p.indices), -1))


class UniformCodePrior(Part):
    """Equally likely codes at every position; refers to the encoder that owns them."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: tuple[CodeSource, ...] = ()  # in a tuple, so that it is not registered

    def bind(self, model: Model) -> None:
        """Remembers the encoder that owns the codes, without registering it; raises CompositionError for another."""
        self._owner = (source_of(model),)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the uniform distribution over codes."""
        return UniformCodes(self._owner[0], home(self._owner[0]))


def source_of(model: Model) -> CodeSource:
    """Returns a model's encoder; raises CompositionError unless it has codes."""
    if not isinstance(model.encoder, CodeSource):
        raise CompositionError(
            f"A prior over codes needs an encoder that has some, such as that of vq-vae; got "
            f"{type(model.encoder).__name__}. Replace both."
        )
    return model.encoder


def home(source: CodeSource) -> torch.device:
    """Returns the device of the encoder that owns codes."""
    return next(cast(Part, source).parameters()).device
