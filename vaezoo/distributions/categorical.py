"""One-hot latents and their relaxation."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.kl import register_kl
from torch.distributions.utils import clamp_probs

from vaezoo.distributions.joint_sampling import JointlyDrawn, sum_event


def gumbel_like(logits: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns finite draws of the standard Gumbel distribution, of this shape."""
    uniform = clamp_probs(torch.rand(*shape, dtype=logits.dtype, device=logits.device))
    return -(-uniform.log()).log()


def one_hot_like(indices: Tensor, like: Tensor) -> Tensor:
    """Returns one-hot vectors (..., V) of `indices` (...), of the type of `like` (..., V); values are not checked."""
    return (indices.unsqueeze(-1) == torch.arange(like.shape[-1], device=like.device)).to(like.dtype)


class OneHotCategoricals(JointlyDrawn):
    r"""Independent categories, each a one-hot vector along the last axis, from `logits`.

    With a temperature $\tau$ a draw is relaxed, $\mathrm{softmax}((\log \pi + g) / \tau)$ with Gumbel noise g (Jang et
    al., 2017, https://arxiv.org/abs/1611.01144), and differentiable; its log probability is then
    $\sum_i z_i \log \pi_i$, which equals that of the categories at the corners. Without one, a draw is exact.

    Args:
        logits: (*batch, *event); the last axis of the event are the categories.
        event_dims: how many trailing dimensions are the event.
        temperature: $\tau > 0$, a 0-dim tensor or a number; None for exact draws.
    """

    def __init__(self, logits: Tensor, event_dims: int, temperature: Tensor | float | None = None) -> None:
        self.log_probs, self.event_dims, self.temperature = logits.log_softmax(-1), event_dims, temperature
        self.has_rsample = temperature is not None
        split = logits.dim() - event_dims
        super().__init__(logits.shape[:split], logits.shape[split:])

    @property
    def support(self) -> constraints.Constraint:
        """One-hot vectors."""
        return constraints.independent(cast(constraints.Constraint, constraints.one_hot), self.event_dims - 1)

    @property
    def mean(self) -> Tensor:
        """The probabilities, (*batch, *event)."""
        return self.log_probs.exp()

    @property
    def mode(self) -> Tensor:
        """The most likely category as a one-hot vector, (*batch, *event)."""
        return one_hot_like(self.log_probs.argmax(-1), self.log_probs)

    center = mode

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, *batch, *event), exact or relaxed, and its log probability (*sample, *batch), nats."""
        noise = gumbel_like(self.log_probs, (*sample_shape, *self.log_probs.shape))
        if self.temperature is None:
            z = one_hot_like((self.log_probs + noise).argmax(-1), self.log_probs)
        else:
            z = ((self.log_probs + noise) / self.temperature).softmax(-1)
        return z, self.log_prob(z)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log probability of one-hot `value`, (*sample, *batch), nats; linear in relaxed ones."""
        return sum_event(value * self.log_probs, self.event_dims)

    def entropy(self) -> Tensor:
        """Returns the entropy, (*batch), nats."""
        return -self.log_prob(self.mean)


@register_kl(OneHotCategoricals, OneHotCategoricals)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_one_hots(p: OneHotCategoricals, q: OneHotCategoricals) -> Tensor:
    """Returns KL(p || q) of the categories, (*batch), nats, whether draws are relaxed or not."""
    return sum_event(p.mean * (p.log_probs - q.log_probs), p.event_dims)
