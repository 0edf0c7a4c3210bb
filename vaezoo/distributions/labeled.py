r"""Latents z concatenated with a class y, one-hot, along the last axis; the class of some examples is known.

A *label vector* is one-hot, or all zeros where the class is not known.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.kl import kl_divergence, register_kl

from vaezoo.distributions.categorical import OneHotCategoricals, gumbel_like, one_hot_like
from vaezoo.distributions.joint_sampling import JointlyDrawn
from vaezoo.distributions.normal import DiagonalNormal
from vaezoo.distributions.product import ProductDistribution

CERTAIN = 1e4  # logit of a known class above all others: finite, and exp(-CERTAIN) is exactly 0


def condition_on_labels(log_probs: Tensor, c: Tensor | None) -> Tensor:
    """Returns log-probabilities of classes (B, V), certain where the label `c` (B, V) is known."""
    if c is None:
        return log_probs
    return torch.where(c.sum(-1, keepdim=True) > 0, (CERTAIN * c).log_softmax(-1).to(log_probs.dtype), log_probs)


class LabeledPosterior(JointlyDrawn):
    """q(y|x) q(z|x,y), with y fixed where the label is known.

    Args:
        log_probs: (B, V), log q(y|x).
        components: q(z|x,y) for each y, batch (V, B).
        c: label vectors (B, V); None if no label is known.
    """

    def __init__(self, log_probs: Tensor, components: DiagonalNormal, c: Tensor | None = None) -> None:
        self.log_probs, self.components = condition_on_labels(log_probs, c), components
        self.has_rsample = False  # y is drawn
        super().__init__(log_probs.shape[:1], (components.event_shape[0] + log_probs.shape[1],))

    @property
    def support(self) -> constraints.Constraint:
        """Real vectors concatenated with one-hot vectors."""
        kinds, sizes = (
            [constraints.real_vector, constraints.one_hot],
            [self.components.event_shape[0], self.log_probs.shape[1]],
        )
        return cast(constraints.Constraint, constraints.cat(kinds, -1, sizes))

    @property
    def probs(self) -> Tensor:
        """The probability of each class, (B, V)."""
        return self.log_probs.exp()

    @property
    def mean(self) -> Tensor:
        """The mean of z over all classes, concatenated with their probabilities, (B, latent)."""
        return torch.cat([(self.components.loc * self.probs.T.unsqueeze(-1)).sum(0), self.probs], -1)

    @property
    def center(self) -> Tensor:
        """The mean of z given the most likely class, concatenated with that class, (B, latent)."""
        y = self.log_probs.argmax(-1)
        return self.join(self._chosen(y).loc, y)

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z and y, concatenated (*sample, B, latent), and their log density (*sample, B), nats."""
        noise = gumbel_like(self.log_probs, (*sample_shape, *self.log_probs.shape))
        y = (self.log_probs + noise).argmax(-1)
        z, log_q = self._chosen(y).rsample_and_log_prob()
        return self.join(z, y), log_q + self._log_prob_of(y)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, B, latent), (*sample, B), nats."""
        z, y = value.tensor_split([self.components.event_shape[0]], -1)
        indices = y.argmax(-1)
        return self._chosen(indices).log_prob(z) + self._log_prob_of(indices)

    def join(self, z: Tensor, y: Tensor) -> Tensor:
        """Returns z (..., B, L) concatenated with the classes y (..., B) as one-hot vectors."""
        return torch.cat([z, one_hot_like(y, self.log_probs).to(z.dtype)], -1)

    def _chosen(self, y: Tensor) -> DiagonalNormal:
        rows = torch.arange(y.shape[-1], device=y.device)
        return DiagonalNormal(self.components.loc[y, rows], self.components.log_scale[y, rows])

    def _log_prob_of(self, y: Tensor) -> Tensor:
        return self.log_probs[torch.arange(y.shape[-1], device=y.device), y]


@register_kl(LabeledPosterior, ProductDistribution)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_labeled(p: LabeledPosterior, q: ProductDistribution) -> Tensor:
    """Returns KL(q(y|x) || p(y)) + E_q(y|x) KL(q(z|x,y) || p(z)), (B,), nats; y is summed out exactly."""
    normal, classes = q.parts
    inside = (p.probs * kl_divergence(p.components, normal).T).sum(-1)
    return inside + (p.probs * (p.log_probs - cast(OneHotCategoricals, classes).log_probs)).sum(-1)
