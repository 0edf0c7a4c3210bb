"""The encoder of a ladder VAE: features from the bottom up, and what they say of each level's latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import leaky_relu

from vaezoo.core import Model
from vaezoo.core.part import network_inputs
from vaezoo.distributions.normal import DiagonalNormal, normal_from
from vaezoo.hierarchy.distributions import HierarchicalPosterior
from vaezoo.hierarchy.parts import PathMixin
from vaezoo.hierarchy.path import combine, repeat_rows
from vaezoo.networks import MLP
from vaezoo.networks.initialization import scale_last_layer_to_data

__all__ = ["LadderEncoder", "proposal"]

FEATURES, MEANS = 0.5, 3.0  # how far images spread the features and the proposed means of each level at the start
PRECISE = -1.0  # about log σ of what images say of a level at the start: next to the prior they are heard


def proposal(width: int, size: int) -> MLP:
    """Returns a layer from features (B, width) to what they say of a level of `size` latents, (B, 2, size)."""
    layer = MLP((width,), (2, size), 0, (), "leaky-relu")
    with torch.no_grad():
        layer.head.bias[size:] += PRECISE
    return layer


class LadderEncoder(PathMixin):
    """Features from the bottom up, and at each level what they say of its latents."""

    def __init__(self, rungs: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.rungs, self.heads = nn.ModuleList(rungs), nn.ModuleList(heads)  # from the bottom up

    def climb(self, x: Tensor, c: Tensor | None) -> list[Tensor]:
        """Returns the features at each level, (B, width), the lowest first."""
        features = list[Tensor]()
        for rung in self.rungs:
            features.append(leaky_relu(rung(*network_inputs(features[-1] if features else x, c))))
        return features

    @torch.no_grad()
    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Spreads features and means at each level over examples."""
        features = [x for x, _ in batches]
        for rung, head in zip(self.rungs, self.heads, strict=True):
            raw = [rung(*network_inputs(each, c)) for each, (_, c) in zip(features, batches, strict=True)]
            scale_last_layer_to_data(rung, torch.cat(raw), FEATURES)
            features = [
                leaky_relu(rung(*network_inputs(each, c))) for each, (_, c) in zip(features, batches, strict=True)
            ]
            means = torch.cat([head(each)[..., 0, :] for each in features])
            scale_last_layer_to_data(head, means, MEANS)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        climbed = zip(self.heads, self.climb(x, c), strict=True)
        seen = [normal_from(head(features), 1) for head, features in climbed]

        def propose(level: int, state: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
            own = seen[-1 - level]
            rows = len(state)
            own = DiagonalNormal(repeat_rows(own.loc, rows), repeat_rows(own.log_scale, rows))
            return combine(own, prior) if level else own

        return HierarchicalPosterior(self.path, propose, len(x), c)
