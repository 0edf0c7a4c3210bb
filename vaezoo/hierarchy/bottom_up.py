r"""Bottom-up encoders: that of a ladder VAE, whose features propose the latents of each level, and that of two levels.

$$q(z_l|x, z_{l+1}) \propto \mathcal{N}(z_l; \hat\mu_l(x), \hat\sigma_l^2(x))\;p(z_l|z_{l+1})$$
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import leaky_relu

from vaezoo.core import Model, Part, network_inputs
from vaezoo.distributions import DiagonalNormal, normal_from
from vaezoo.hierarchy.distributions import ChainPosterior, HierarchicalPosterior
from vaezoo.hierarchy.parts import PathMixin
from vaezoo.hierarchy.path import combine, repeat_rows
from vaezoo.networks import MLP, scale_last_layer_to_data

FEATURES, MEANS = 0.5, 3.0  # initial standard deviations over examples of the features and the proposed means
INITIAL_LOG_SCALE = -1.0  # of proposals: below that of the prior, so that proposals dominate the combination


def proposal_layer(width: int, size: int) -> MLP:
    """Returns a layer from features (B, width) to the proposal of a level with `size` latents, (B, 2, size)."""
    layer = MLP((width,), (2, size), 0, (), "leaky-relu")
    with torch.no_grad():
        layer.head.bias[size:] += INITIAL_LOG_SCALE
    return layer


class LadderEncoder(PathMixin):
    """An encoder with bottom-up features and a proposal for each level.

    Args:
        rungs: networks between levels, from the bottom up; the first one maps x.
        heads: proposal layer of each level, from the bottom up.
    """

    posterior_type = HierarchicalPosterior

    def __init__(self, rungs: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.rungs, self.heads = nn.ModuleList(rungs), nn.ModuleList(heads)

    def features(self, x: Tensor, c: Tensor | None) -> list[Tensor]:
        """Returns the features at each level, (B, width), the lowest first."""
        found: list[Tensor] = []
        for rung in self.rungs:
            found.append(leaky_relu(rung(*network_inputs(found[-1] if found else x, c))))
        return found

    @torch.no_grad()
    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Rescales features and proposed means of each level to fixed standard deviations over examples."""
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
        levels = zip(self.heads, self.features(x, c), strict=True)
        proposals = [normal_from(head(features), 1) for head, features in levels]

        def propose(level: int, state: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
            own = proposals[-1 - level]
            rows = state.shape[0]
            own = DiagonalNormal(repeat_rows(own.loc, rows), repeat_rows(own.log_scale, rows))
            return combine(own, prior) if level else own

        return HierarchicalPosterior(self.path, propose, x.shape[0], c)


class ChainEncoder(Part):
    """An encoder q(h_1|x) q(h_2|h_1); `lower` and `upper` are the networks, with outputs (B, 2, size)."""

    posterior_type = ChainPosterior

    def __init__(self, lower: nn.Module, upper: nn.Module) -> None:
        super().__init__()
        self.lower, self.upper = lower, upper

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""

        def above(low: Tensor) -> DiagonalNormal:
            return normal_from(self.upper(*network_inputs(low, c)), 1)

        return ChainPosterior(normal_from(self.lower(*network_inputs(x, c)), 1), above)
