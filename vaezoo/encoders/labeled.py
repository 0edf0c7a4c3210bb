"""The encoder of a model with a class label that may be missing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Part
from vaezoo.core.part import network_inputs
from vaezoo.core.precision import full_precision
from vaezoo.distributions import LabelledPosterior
from vaezoo.distributions.normal import normal_from


class LabeledEncoder(Part):
    """Two networks for q(y|x) and q(z|x,y), where the label y may be missing.

    Args:
        classifier: maps x (B, *shape) to (B, V), logits of the classes.
        network: maps x and a one-hot label (B, V) to (B, 2, L): μ and log σ.
        classes: V.
    """

    takes_unlabelled = True

    def __init__(self, classifier: nn.Module, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.classifier, self.network, self.classes = classifier, network, classes

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example, with y given where the row of `c` (B, V) is one-hot, not zeros."""
        every = torch.eye(self.classes, dtype=x.dtype, device=x.device)[:, None].expand(-1, len(x), -1)
        components = normal_from(self.network(x.expand(self.classes, *x.shape), every), 1)
        return LabelledPosterior(self.log_probs(x), components, c)

    def log_probs(self, x: Tensor) -> Tensor:
        """Returns log q(y|x) of `x` (B, *shape), (B, V), nats."""
        return full_precision(self.classifier(*network_inputs(x, None))).log_softmax(-1)

    @torch.no_grad()
    def classify(self, x: Tensor) -> Tensor:
        """Returns the most probable class of each of `x` (B, *shape), (B,) int64."""
        return self.log_probs(x).argmax(-1)
