"""Distributions of pixels that can take any shape: a mixture of discretized logistics, and a table of masses."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import softplus

from vaezoo.distributions.joint_sampling import sum_event
from vaezoo.distributions.pixels import log_mass_of_level


class CategoricalPixels(Distribution):
    """Independent pixels, each with a mass for each of L values k/(L-1) in [0, 1].

    Args:
        logits: (*batch, L, *event).
        event_dims: how many trailing dimensions are the event.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012  (torch declares it as a plain class attribute)

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        self.logits, self.event_dims, self.dim = logits, event_dims, -1 - event_dims
        self.levels = logits.shape[self.dim]
        split = logits.dim() - event_dims
        super().__init__(logits.shape[: split - 1], logits.shape[split:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log P(value), (*batch), nats; values between two levels count as the nearest one."""
        index = (value * (self.levels - 1)).round().long().clamp(0, self.levels - 1)
        logits, index = torch.broadcast_tensors(self.logits, index.unsqueeze(self.dim))
        chosen = logits.gather(self.dim, index.narrow(self.dim, 0, 1)).squeeze(self.dim)
        return sum_event(chosen - self.logits.logsumexp(self.dim), self.event_dims)

    @property
    def mean(self) -> Tensor:
        """The mean over the levels, (*batch, *event)."""
        values = torch.linspace(0.0, 1.0, self.levels, dtype=self.logits.dtype, device=self.logits.device)
        return (self.logits.softmax(self.dim).movedim(self.dim, -1) * values).sum(-1)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns values on the levels, (*sample, *batch, *event)."""
        with torch.no_grad():
            masses = self.logits.softmax(self.dim).movedim(self.dim, -1)
            masses = masses.expand(*sample_shape, *masses.shape)
            index = torch.multinomial(masses.reshape(-1, self.levels), 1).view(masses.shape[:-1])
            return index.to(self.logits.dtype) / (self.levels - 1)


class LogisticMixturePixels(Distribution):
    r"""Pixels from a mixture of K discretized logistics; the channels of a pixel depend on each other.

    Salimans et al., 2017, "PixelCNN++" (https://arxiv.org/abs/1701.05517): all channels of a pixel come from one
    component, and the location of channel i is $\mu_i + \sum_{j<i} c_{ij} (x_j - 1/2)$, linear in the channels before.

    Args:
        logits: (*batch, K, N), of the components at each of N positions.
        loc: (*batch, K, C, N), in units of x.
        log_scale: (*batch, K, C, N).
        coefficients: (*batch, K, C (C-1) / 2, N), those of channel 1, then those of channel 2, and so on.
        levels: how many values a pixel can take.
        event: the event shape, of C · N elements, channels first.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012  (torch declares it as a plain class attribute)

    def __init__(
        self, logits: Tensor, loc: Tensor, log_scale: Tensor, coefficients: Tensor, levels: int, event: Sequence[int]
    ) -> None:
        self.logits, self.loc, self.log_scale, self.levels = logits, loc, log_scale, levels
        channels = range(loc.shape[-2])
        self.coefficients = coefficients.split([*channels], -2)
        super().__init__(logits.shape[:-2], torch.Size(event), validate_args=False)

    def locations(self, channel: int, before: Tensor) -> Tensor:
        """Returns the locations (..., K, N) of a channel, given those before it, (..., K or 1, channel, N)."""
        loc: Tensor = self.loc[..., channel, :]
        # The first one without operations on empty tensors, which runtimes of ONNX refuse.
        return loc + (self.coefficients[channel] * (before - 0.5)).sum(-2) if channel else loc

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log P(value), (*batch), nats; values between two levels count as the density of the nearest mass."""
        x = self.flat(value)
        channels = [self.locations(i, x[..., :i, :]) for i in range(x.shape[-2])]
        loc = torch.stack(torch.broadcast_tensors(*channels), -2)
        masses = log_mass_of_level(x, loc, self.log_scale, self.levels).sum(-2)
        mixed: Tensor = (masses + self.logits.log_softmax(-2)).logsumexp(-2).sum(-1)
        return mixed

    def flat(self, value: Tensor) -> Tensor:
        """Returns x (..., *event) as (..., 1, C, N)."""
        leading = value.shape[: value.dim() - len(self.event_shape)]
        return value.reshape(*leading, 1, *self.loc.shape[-2:])

    @property
    def mean(self) -> Tensor:
        """The mean, (*batch, *event), to within half a level; later channels at the means of those before them."""
        means = self.loc[..., :0, :]
        for channel in range(self.loc.shape[-2]):
            scale = self.log_scale[..., channel, :].exp()
            ratio = self.locations(channel, means) / scale
            mean = scale * (softplus(ratio) - softplus(ratio - 1.0 / scale))  # that of a logistic clipped to [0, 1]
            mean = mean.clamp(0.0, 1.0).unsqueeze(-2)
            means = torch.cat([means, mean], -2) if channel else mean
        mixed = (means * self.logits.softmax(-2).unsqueeze(-2)).sum(-3)
        return mixed.reshape(*self.batch_shape, *self.event_shape)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns values on the levels, (*sample, *batch, *event)."""
        with torch.no_grad():
            logits = self.logits.expand(*sample_shape, *self.logits.shape)
            noise = torch.rand_like(logits).clamp(1e-20, 1.0)
            component = (logits - (-noise.log()).log()).argmax(-2, keepdim=True)
            x = self.loc.new_empty(*logits.shape[:-2], 1, 0, logits.shape[-1])
            for channel in range(self.loc.shape[-2]):
                loc = self.locations(channel, x).expand_as(logits).gather(-2, component)
                scale = self.log_scale[..., channel, :].exp().expand_as(logits).gather(-2, component)
                value = loc + scale * torch.logit(torch.rand_like(loc), eps=1e-7)
                value = (value.clamp(0.0, 1.0) * (self.levels - 1)).round() / (self.levels - 1)
                x = torch.cat([x, value.unsqueeze(-2)], -2)
            return x.reshape(*logits.shape[:-2], *self.event_shape)
