"""Encoders with categorical latents or a class label, alone or beside Gaussian latents."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import one_hot

from vaezoo.core import Part, full_precision, network_inputs
from vaezoo.distributions import LabeledPosterior, OneHotCategoricals, ProductDistribution, normal_from


class CategoricalEncoder(Part):
    r"""Independent categories $q(z|x,c)$, relaxed in train mode at $\tau(t) = \max(\tau_{end}, \tau_0 e^{-rt})$.

    Args:
        network: maps x (B, *shape) and c (B, context) to logits (B, 1, *latent), the last axis over the categories.
        latent: the event shape of z, the last axis over the categories.
        start, end, rate: $\tau_0$, $\tau_{end}$ and $r$.
    """

    posterior_type = OneHotCategoricals
    temperature: Tensor

    def __init__(self, network: nn.Module, latent: Sequence[int], start: float, end: float, rate: float) -> None:
        super().__init__()
        self.network, self.latent, self.start, self.end, self.rate = network, tuple(latent), start, end, rate
        self.codes, self.index_shape = latent[-1], tuple(latent[:-1])
        self.register_buffer("temperature", torch.tensor(max(start, end)))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example; its draws are relaxed in train mode only."""
        logits = full_precision(self.network(*network_inputs(x, c))).squeeze(1)
        return OneHotCategoricals(
            logits, len(self.latent), self.temperature.to(logits.dtype) if self.training else None
        )

    def indices(self, posterior: Distribution) -> Tensor:
        """Returns the most probable category of each variable, (B, *latent without the last axis) int64."""
        return cast(OneHotCategoricals, posterior).log_probs.argmax(-1)

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns one-hot vectors (..., *latent) of `indices` (..., N)."""
        return one_hot(indices, self.codes).reshape(*indices.shape[:-1], *self.latent).to(self.temperature.dtype)

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Updates the temperature."""
        self.temperature.copy_((self.start * (-self.rate * step).exp()).clamp(min=self.end))


class JointEncoder(Part):
    """A diagonal Gaussian over the first latents and categories over the others, relaxed in train mode.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 2 size + Σ categories): μ, log σ, then the logits.
        size: number of Gaussian latents.
        categories: number of categories of each categorical latent.
        temperature: of the relaxed draws.
    """

    posterior_type = ProductDistribution

    def __init__(self, network: nn.Module, size: int, categories: Sequence[int], temperature: float) -> None:
        super().__init__()
        self.network, self.sizes, self.temperature = network, [2 * size, *categories], temperature

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        raw, *logits = full_precision(self.network(*network_inputs(x, c))).split(self.sizes, -1)
        temperature, normal = self.temperature if self.training else None, normal_from(raw.unflatten(-1, (2, -1)), 1)
        return ProductDistribution([normal, *(OneHotCategoricals(each, 1, temperature) for each in logits)])


class LabeledEncoder(Part):
    """Two networks for q(y|x) and q(z|x,y), where the label y may be missing.

    Args:
        classifier: maps x (B, *shape) to (B, V), logits of the classes.
        network: maps x and a one-hot label (B, V) to (B, 2, L): μ and log σ.
        classes: V.
    """

    posterior_type = LabeledPosterior
    takes_unlabelled = True

    def __init__(self, classifier: nn.Module, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.classifier, self.network, self.classes = classifier, network, classes

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example, with y given where the row of `c` (B, V) is one-hot, not zeros."""
        every = torch.eye(self.classes, dtype=x.dtype, device=x.device)[:, None].expand(-1, x.shape[0], -1)
        components = normal_from(self.network(x.expand(self.classes, *x.shape), every), 1)
        return LabeledPosterior(self.log_probs(x), components, c)

    def log_probs(self, x: Tensor) -> Tensor:
        """Returns log q(y|x) of `x` (B, *shape), (B, V), nats."""
        return full_precision(self.classifier(*network_inputs(x, None))).log_softmax(-1)

    @torch.no_grad()
    def classify(self, x: Tensor) -> Tensor:
        """Returns the most probable class of each of `x` (B, *shape), (B,) int64."""
        return self.log_probs(x).argmax(-1)
