r"""Stochastic codes, relaxed in training by Gumbel-softmax.

$$z_n = \sum_v y_{nv}\, e_v, \qquad y_n = \mathrm{softmax}\big((\log \pi_n(x) + g) / \tau\big)$$
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.kl import register_kl

from vaezoo.core import Model, as_built, full_precision
from vaezoo.distributions import JointlyDrawn, OneHotCategoricals, sum_event
from vaezoo.networks import check_weights, normal_init
from vaezoo.quantization.codebook import kmeans, rows_of
from vaezoo.quantization.codes import UniformCodes, look_up, nearest
from vaezoo.quantization.table import CodeTable, encoder_output, products

LEAST_VARIANCE = 1e-6  # at the start, so that constant outputs give a finite logarithm


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


class GumbelEncoder(CodeTable):
    """An encoder to probabilities of V codes at each position.

    Draws are relaxed in train mode, except in training stages that do not train the encoder.

    Args:
        network: maps x (B, *shape) and c (B, context) to logits (B, 1, V, *grid).
        latent: (D, *grid).
        codes: V.
        temperature: temperature of relaxed draws.
    """

    def __init__(self, network: nn.Module, latent: Sequence[int], codes: int, temperature: float) -> None:
        super().__init__()
        check_weights("codebook", [codes * latent[0]])
        self.describe(network, latent, codes)
        self.temperature, self._exact = temperature, False
        self.codebook = nn.Parameter(normal_init(codes, latent[0], scale=latent[0] ** -0.5))

    def begin_stage(self, trained: bool) -> None:
        """Selects exact draws in train mode for a stage that does not train the encoder."""
        self._exact = not trained

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        return GumbelCodes(self.choices(encoder_output(self.network, x, c).movedim(1, -1)), self.table())

    def choices(self, logits: Tensor) -> OneHotCategoricals:
        """Returns the distribution over indices of `logits` (B, *grid, V), relaxed in train mode."""
        temperature = self.temperature if self.training and not self._exact else None
        return OneHotCategoricals(logits, len(self.latent), temperature)

    def table(self) -> Tensor:
        """Returns the codes (V, D)."""
        return full_precision(self.codebook)


class StochasticCodes(GumbelCodes):
    r"""Codes with probabilities $q(v|y) \propto e^{-\|y - e_v\|^2 / (2 \sigma^2)}$.

    Args:
        choices, codebook: see `GumbelCodes`.
        logits: the exponents, (B, *grid, V).
        encoded: y, (B, D, *grid).
    """

    def __init__(self, choices: OneHotCategoricals, codebook: Tensor, logits: Tensor, encoded: Tensor) -> None:
        super().__init__(choices, codebook)
        self.logits, self.encoded = logits, encoded

    @property
    def quantized(self) -> list[tuple[Tensor, Tensor]]:
        """The pair of vectors and the most probable codes, (B, D, *grid) each."""
        return [(self.encoded, self.center)]

    def scaled_distance(self) -> Tensor:
        r"""Returns $\sum_n E_{q(v|y_n)} \|y_n - e_v\|^2 / (2 \sigma^2)$, (B,)."""
        return -sum_event(self.choices.mean * self.logits, self.logits.dim() - 1)


class StochasticEncoder(GumbelEncoder):
    r"""An encoder that chooses each code with a probability that falls with its distance.

    The logarithm of the variance is learned. Codes are initialized by k-means on the network's outputs, and $\sigma^2$
    as the mean square of an element of their distance to these outputs.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, D, *grid).
        latent, codes, temperature: see `GumbelEncoder`.
    """

    def __init__(self, network: nn.Module, latent: Sequence[int], codes: int, temperature: float) -> None:
        super().__init__(network, latent, codes, temperature)
        self.log_variance = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        encoded, table = encoder_output(self.network, x, c), self.table()
        logits = -0.5 * (-full_precision(self.log_variance)).exp() * squares(encoded.movedim(1, -1), table)
        return StochasticCodes(self.choices(logits), table, logits, encoded)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Initializes codes and variance from the network's outputs."""
        with torch.no_grad():
            rows = rows_of(torch.cat([encoder_output(self.network, x, c) for x, c in batches]))
            self.codebook.copy_(kmeans(rows, self.codebook))
            errors = (rows - self.table()[nearest(self.table(), rows)]).square().mean()
            self.log_variance.copy_(errors.clamp(min=LEAST_VARIANCE).log())


def squares(vectors: Tensor, table: Tensor) -> Tensor:
    """Returns the squared distances (..., V) of `vectors` (..., D) to the codes of `table` (V, D)."""
    lengths = vectors.square().sum(-1, keepdim=True) + table.to(vectors.dtype).square().sum(1)
    return (lengths - 2.0 * products(vectors, table)).clamp(min=0.0)
