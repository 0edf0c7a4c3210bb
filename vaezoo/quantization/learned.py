r"""Codebooks that are learned by gradients: through one linear map, and through probabilities of all indices.

$$z_n = W c_{i_n}, \quad i_n = \arg\min_v \|y_n - W c_v\|^2 \qquad \text{or} \qquad z_n = e_{i_n}, \quad
    i_n = \arg\max_v y_n^\top e_v$$
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Model, full_precision
from vaezoo.networks import check_weights, normal_init
from vaezoo.quantization.codebook import kmeans, passed, rows_of
from vaezoo.quantization.codes import CodePoint, Gradient, QuantizedLevel, look_up, nearest, squared_distance
from vaezoo.quantization.table import CodeTable, encoder_output, products


class NearestCodeEncoder(CodeTable):
    """Base of encoders to the nearest code of a table that gradients move.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, D, *grid).
        latent: (D, *grid).
        codes: V.
        gradient: gradient of the quantization, see `straight_through`.
        from_data: whether the vectors `codebook` are centers of k-means on the network's outputs, and not normal.
    """

    codebook: Tensor

    def __init__(
        self, network: nn.Module, latent: Sequence[int], *, codes: int, gradient: Gradient, from_data: bool
    ) -> None:
        super().__init__()
        self.describe(network, latent, codes)
        self.gradient, self.from_data = gradient, from_data
        self.create(codes, latent[0])

    def create(self, codes: int, width: int) -> None:
        """Creates the vectors `codebook` (V, D) and all that turns them into codes."""
        raise NotImplementedError

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the point mass on the nearest codes, with the gradient of `straight_through`."""
        encoded, table = encoder_output(self.network, x, c), self.table()
        indices = nearest(table, encoded.movedim(1, -1))
        level = QuantizedLevel(encoded, look_up(table.to(encoded.dtype), indices, indices.dim() - 1), indices)
        return CodePoint(passed(self, level, self.gradient), [level])

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Initializes the vectors by k-means on the network's outputs if `from_data`."""
        if self.from_data:
            with torch.no_grad():
                rows = rows_of(torch.cat([encoder_output(self.network, x, c) for x, c in batches]))
                self.codebook.copy_(kmeans(rows, self.codebook))


class LinearCodebookEncoder(NearestCodeEncoder):
    """An encoder to the nearest of V codes that are a learned linear map of constant vectors.

    Zhu et al., 2024, https://arxiv.org/abs/2411.02038. All codes move with the map, also those that no vector chooses.
    For the arguments see `NearestCodeEncoder`.
    """

    def create(self, codes: int, width: int) -> None:
        """Creates constant vectors, and their map as the identity."""
        check_weights("codebook", [codes * width, width * width])
        self.register_buffer("codebook", normal_init(codes, width, scale=width**-0.5))
        self.map = nn.Parameter(
            torch.zeros(width, width).fill_diagonal_(1.0)
        )  # torch.eye imports the compiler on the meta device

    def table(self) -> Tensor:
        """Returns the codes (V, D), with a gradient for the map."""
        return products(self.codebook, self.map)


class LearnedCodebookEncoder(NearestCodeEncoder):
    """An encoder to the nearest of V codes that are parameters. For the arguments see `NearestCodeEncoder`."""

    def create(self, codes: int, width: int) -> None:
        """Creates the codes."""
        check_weights("codebook", [codes * width])
        self.codebook = nn.Parameter(normal_init(codes, width, scale=width**-0.5))

    def table(self) -> Tensor:
        """Returns the codes (V, D)."""
        return full_precision(self.codebook)


class IndexPoint(CodePoint):
    """A point mass on codes that are chosen by `logits` (B, *grid, V)."""

    def __init__(self, value: Tensor, levels: Sequence[QuantizedLevel], logits: Tensor) -> None:
        super().__init__(value, levels)
        self.logits = logits

    def index_distance(self) -> Tensor:
        """Returns the squared distance of encoder outputs to the latents, (B,), with the gradient of both."""
        return squared_distance(self.encoded, self.value)


class IndexEncoder(CodeTable):
    """An encoder to the code with the largest scalar product, with a gradient for the codes of all indices.

    Shi et al., 2024, https://arxiv.org/abs/2412.02692: the one-hot vector of the index is differentiated as the softmax
    of the scalar products.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, D, *grid).
        latent: (D, *grid).
        codes: V.
    """

    def __init__(self, network: nn.Module, latent: Sequence[int], codes: int) -> None:
        super().__init__()
        check_weights("codebook", [codes * latent[0]])
        self.describe(network, latent, codes)
        self.codebook = nn.Parameter(normal_init(codes, latent[0], scale=latent[0] ** -0.5))

    def table(self) -> Tensor:
        """Returns the codes (V, D)."""
        return full_precision(self.codebook)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the point mass on the chosen codes."""
        encoded = encoder_output(self.network, x, c)
        table = self.table().to(encoded.dtype)
        logits = products(encoded.movedim(1, -1), table)
        indices, soft = logits.argmax(-1), logits.softmax(-1)
        codes = look_up(table, indices, indices.dim() - 1)
        value = codes + products(soft - soft.detach(), table.T).movedim(-1, 1)  # codes + 0
        return IndexPoint(value, [QuantizedLevel(encoded, codes, indices)], logits)
