r"""Stochastic codes, relaxed in training by Gumbel-softmax.

$$z_n = \sum_v y_{nv}\, e_v, \qquad y_n = \mathrm{softmax}\big((\log \pi_n(x) + g) / \tau\big)$$
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.kl import register_kl

from vaezoo.core import Part, as_built, full_precision
from vaezoo.distributions import JointlyDrawn, OneHotCategoricals
from vaezoo.networks import check_weights, normal_init
from vaezoo.quantization.codebook import encoder_output
from vaezoo.quantization.codes import UniformCodes, look_up, nearest_indices


class GumbelCodes(JointlyDrawn):
    """A distribution over codes at each position; relaxed draws are weighted means of codes.

    Args:
        choices: distribution over the indices, with event shape (*grid, V).
        codebook: (V, D).
    """

    def __init__(self, choices: OneHotCategoricals, codebook: Tensor) -> None:
        self.choices, self.codebook = choices, codebook
        super().__init__(choices.batch_shape, (codebook.shape[1], *choices.event_shape[:-1]))

    @property
    def indices(self) -> Tensor:
        """The indices of the most probable codes, (B, *grid) int64."""
        return self.choices.log_probs.argmax(-1)

    @property
    @as_built
    def center(self) -> Tensor:
        """The most probable codes, (B, D, *grid)."""
        return look_up(self.codebook, self.indices, len(self.event_shape) - 1)

    @as_built
    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns codes (*sample, B, D, *grid) and their log probability (*sample, B), nats."""
        drawn, log_q = self.choices.rsample_and_log_prob(sample_shape)
        return (drawn @ self.codebook.to(drawn.dtype)).movedim(-1, -len(self.event_shape)), log_q


@register_kl(GumbelCodes, UniformCodes)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_gumbel_uniform(p: GumbelCodes, q: UniformCodes) -> Tensor:
    """Returns N·log V minus the entropy of the choices, (B,), nats."""
    return -q.log_mass - p.choices.entropy()


class GumbelEncoder(Part):
    """An encoder to probabilities of V codes at each position.

    Draws are relaxed in train mode, except in training stages that do not train the encoder.

    Args:
        network: maps x (B, *shape) and c (B, context) to logits (B, 1, V, *grid).
        latent: (D, *grid).
        codes: V.
        temperature: temperature of relaxed draws.
    """

    knows_density = False

    def __init__(self, network: nn.Module, latent: Sequence[int], codes: int, temperature: float) -> None:
        super().__init__()
        check_weights("codebook", [codes * latent[0]])
        self.network, self.latent = network, tuple(latent)
        self.codes, self.sections, self.index_shape = codes, (math.prod(latent[1:]),), self.latent[1:]
        self.temperature, self._exact = temperature, False
        self.codebook = nn.Parameter(normal_init(codes, latent[0], scale=latent[0] ** -0.5))

    def begin_stage(self, trained: bool) -> None:
        """Selects exact draws in train mode for a stage that does not train the encoder."""
        self._exact = not trained

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        logits = encoder_output(self.network, x, c).movedim(1, -1)
        temperature = self.temperature if self.training and not self._exact else None
        return GumbelCodes(OneHotCategoricals(logits, len(self.latent), temperature), full_precision(self.codebook))

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns the codes (..., D, *grid) of `indices` (..., N)."""
        grid = self.latent[1:]
        return look_up(full_precision(self.codebook), indices.reshape(*indices.shape[:-1], *grid), len(grid))

    def indices_of(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) of the codes nearest to z (..., D, *grid)."""
        return nearest_indices(full_precision(self.codebook), z, self.latent)
