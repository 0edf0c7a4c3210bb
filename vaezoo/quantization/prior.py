r"""Priors over the codes of an encoder: uniform, and autoregressive with a causal transformer.

$$p(i) = V^{-N} \qquad \text{or} \qquad p(i) = \prod_n p(i_n | i_1, \dots, i_{n-1})$$
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.kl import register_kl
from torch.nn.functional import cross_entropy

from vaezoo.core import Model, Part, full_precision
from vaezoo.errors import CompositionError
from vaezoo.networks import CausalTransformer
from vaezoo.quantization.codes import CodePoint, CodeSource, UniformCodes


def code_source(model: Model) -> CodeSource:
    """Returns the encoder of a model; raises CompositionError if it has no codes."""
    if not isinstance(model.encoder, CodeSource):
        raise CompositionError(
            f"Got an encoder of type {type(model.encoder).__name__}; a prior over codes expected one with codes, such "
            "as that of vq-vae. Replace both."
        )
    return model.encoder


class PriorOverCodes(Part):
    """Base of priors over the codes of the encoder, to which they refer without registering it."""

    def __init__(self) -> None:
        super().__init__()
        self._source: tuple[CodeSource, ...] = ()  # in a tuple, so that it is not registered

    def bind(self, model: Model) -> None:
        """Stores the encoder that owns the codes; raises CompositionError if it has none."""
        self._source = (code_source(model),)

    def uniform(self) -> UniformCodes:
        """Returns the uniform distribution over the codes."""
        (source,) = self._source
        return UniformCodes(source, next(cast(Part, source).parameters()).device)


class UniformCodePrior(PriorOverCodes):
    """The uniform prior over the codes of the encoder."""

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the uniform distribution over the codes."""
        return self.uniform()


class CodePrior(PriorOverCodes):
    """A learned prior over the codes of the encoder.

    In training stages that do not train the prior, `forward` returns the uniform distribution in train mode, which
    costs no pass through the network.

    Args:
        network: predicts each index from the previous ones.
    """

    def __init__(self, network: CausalTransformer) -> None:
        super().__init__()
        self.network = network
        self._deferred = False

    def bind(self, model: Model) -> None:
        """Stores the encoder that owns the codes; raises CompositionError if its codes are not those of the network."""
        super().bind(model)
        found, expected = ((each.codes, tuple(each.sections)) for each in (self._source[0], self.network))
        if found != expected:
            raise CompositionError(
                f"Got an encoder with {found[0]} codes at {found[1]} positions; the prior expected one over "
                f"{expected[0]} codes at {expected[1]}. Replace both."
            )

    def begin_stage(self, trained: bool) -> None:
        """Selects the uniform distribution in train mode for a stage that does not train the prior."""
        self._deferred = not trained

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior over codes for the context `c` (B, context)."""
        if self.training and self._deferred:
            return self.uniform()
        return CodeSequences(self._source[0], self.network, c)


class CodeSequences(Distribution):
    """An autoregressive distribution over sequences of codes.

    Args:
        source: the encoder that owns the codes.
        network: predicts each index from the previous ones.
        c: (B, context), which gives the batch shape (B,), or None.
        temperature: divides the logits of each index.
        top_k, top_p: limits of the indices of each position, see `truncated_logits`; None for none.
    """

    arg_constraints = {}  # noqa: RUF012  (torch declares it as a plain class attribute)

    def __init__(
        self,
        source: CodeSource,
        network: CausalTransformer,
        c: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> None:
        self.source, self.network, self.c, self.temperature = source, network, c, temperature
        self.top_k, self.top_p = top_k, top_p
        batch = torch.Size() if c is None else c.shape[:1]
        super().__init__(batch, torch.Size(source.latent), validate_args=False)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns codes (*sample, *batch, *latent)."""
        shape = (*sample_shape, *self.batch_shape)
        drawn = self.network.draw(math.prod(shape), self._rows(shape), self._changed)
        return self.source.look_up(drawn.reshape(*shape, -1))

    def tempered(self, temperature: float) -> "CodeSequences":
        """Returns the distribution with the logits of each index divided by `temperature`."""
        return CodeSequences(self.source, self.network, self.c, temperature * self.temperature, self.top_k, self.top_p)

    def truncated(self, top_k: int | None, top_p: float | None) -> "CodeSequences":
        """Returns the distribution limited to the most probable indices of each position."""
        return CodeSequences(self.source, self.network, self.c, self.temperature, top_k, top_p)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p of the codes of `value` (*sample, *batch, *latent), nats."""
        return self.log_mass(self.source.indices_of(value))

    def log_mass(self, indices: Tensor) -> Tensor:
        """Returns log p (...) of `indices` (..., N), nats; with a context the last leading dimension is its batch."""
        shape = indices.shape[:-1]
        rows = indices.reshape(-1, indices.shape[-1])
        logits = self._changed(full_precision(self.network(rows, self._rows(shape))))
        nats = cross_entropy(logits.flatten(0, 1), rows.flatten(), reduction="none")
        return -nats.view(rows.shape).sum(1).reshape(shape)

    def _changed(self, logits: Tensor) -> Tensor:
        return truncated_logits(logits / self.temperature, self.top_k, self.top_p)

    def _rows(self, shape: Sequence[int]) -> Tensor | None:
        return None if self.c is None else self.c.expand(*shape, -1).reshape(-1, self.c.shape[-1])


def truncated_logits(logits: Tensor, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Returns `logits` (..., V) with minus infinity for all but the most probable of them.

    Args:
        logits: (..., V).
        top_k: keeps the so many largest (Fan et al., 2018, https://arxiv.org/abs/1805.04833); None keeps all.
        top_p: of these, keeps the fewest whose probabilities sum to at least this (Holtzman et al., 2019,
            https://arxiv.org/abs/1904.09751); None keeps all.
    """
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None:
        masses, order = logits.softmax(-1).sort(-1, descending=True)
        before = masses.cumsum(-1) - masses
        dropped = (before >= top_p).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(dropped, -torch.inf)
    return logits


@register_kl(CodePoint, CodeSequences)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_code_sequences(p: CodePoint, q: CodeSequences) -> Tensor:
    """Returns -log p of the chosen codes, (B,), nats."""
    return -q.log_mass(p.indices.reshape(p.indices.shape[0], -1))
