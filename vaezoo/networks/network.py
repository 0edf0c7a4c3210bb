"""`Network`, the base class of modules that map any number of leading dimensions; limits and initial values."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Self, cast

import torch
from torch import Tensor, nn

from vaezoo.errors import ShapeError, warn

Activation = Literal["relu", "tanh", "silu", "gelu", "elu", "leaky-relu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "leaky-relu": nn.LeakyReLU,
}

LARGE_NETWORK = 2**28  # weights: 1 GiB of float32; larger networks are seldom intended
LARGEST_NETWORK = 2**34  # weights: 64 GiB of float32


class Network(nn.Module):
    """A map from x (*leading, *shape) and c (B, context) to (*leading, *out).

    The context is broadcast over the dimensions in front of B. A subclass defines `rows`, on one leading dimension.
    """

    #: whether x may also be a grid with smaller sides; the sides of the output are then smaller by the same factor
    takes_smaller_grids = False
    #: how many of the last channels of x are the mask of the observed elements; set by `GapNetwork`
    mask_channels = 0

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int) -> None:
        super().__init__()
        self.shape, self.out, self.context = tuple(shape), tuple(out), context
        self._dtype: torch.dtype | None = None  # of the weights, looked up once

    def __init_subclass__(cls) -> None:
        """Accepts the former name of `set_output_bias`."""
        if "start_at" in vars(cls):
            warn(f"{cls.__name__}.start_at is deprecated. Rename it to set_output_bias.", DeprecationWarning)
            cls.set_output_bias = vars(cls)["start_at"]  # type: ignore[method-assign]

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns (*leading, *out), with smaller sides for a smaller grid if the network takes one."""
        leading = x.shape[: x.dim() - len(self.shape)]
        # In a model of half precision, x may be float32, since densities and draws are.
        shape = x.shape[len(leading) :] if self.takes_smaller_grids else self.shape
        rows = x.reshape(-1, *shape).to(self._dtype or self._weight_dtype())
        if self.context:
            assert c is not None
            c = c.expand(*(leading or (1,)), self.context).reshape(-1, self.context)
        found = self.rows(rows, c if self.context else None)
        return found.reshape(*leading, *(found.shape[1:] if self.takes_smaller_grids else self.out))

    def _weight_dtype(self) -> torch.dtype:
        self._dtype = next(self.parameters()).dtype
        return self._dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._dtype = None
        return cast(Self, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]  # torch's own has no types

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, ...), with as many elements as `out` per row, for x (rows, *shape) and c (rows, context)."""
        raise NotImplementedError

    def last_layer(self) -> nn.Module | None:
        """Returns the layer whose weights and biases may be rescaled to data; None without such a layer."""
        return None

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the last bias so that a zero input to the last layer gives `output` (*out); no effect without a bias."""


def append_context(features: Tensor, c: Tensor | None) -> Tensor:
    """Returns features (rows, F) with the context (rows, C) appended, (rows, F + C)."""
    return features if c is None else torch.cat([features, c.to(features.dtype)], -1)


def check_weights(
    name: str, layers: Iterable[int], advice: str = "Choose a smaller shape, latent, context or width."
) -> None:
    """Validates the total size of the layers of `name`, given the number of weights of each; warns if it is large.

    Raises:
        ShapeError: more than `LARGEST_NETWORK` weights in all.
    """
    total = sum(layers)
    if total > LARGEST_NETWORK:
        raise ShapeError(f"Got a {name} of {total:,} weights; expected at most {LARGEST_NETWORK:,}. {advice}")
    if total > LARGE_NETWORK and not torch.empty(0).is_meta:
        warn(f"The {name} has {total:,} weights, {total / 2**28:.1f} GiB of float32. {advice}")


def normal_init(*size: int, scale: float = 1.0) -> Tensor:
    """Returns a tensor of normal noise with standard deviation `scale`.

    On the meta device nothing is drawn: torch would spend seconds importing its compiler to infer the shape of a draw.
    """
    values = torch.empty(size)
    return values if values.is_meta else values.normal_(0.0, scale)


@torch.no_grad()
def scale_last_layer_to_data(network: nn.Module, outputs: Tensor, scale: float) -> None:
    """Rescales the last layer of a network so that its outputs over data have mean 0 and standard deviation `scale`.

    Outputs that vary much less than the noise of a latent, as those of many layers of small weights, are not learned
    before the rate has pushed them to the prior. After Mishkin & Matas (2016, https://arxiv.org/abs/1511.06422),
    without iterations.

    Args:
        network: a linear or convolutional layer, or a `Network` whose `last_layer` is one. Any other module stays
            unchanged, and so does an output that does not vary, such as every output over a single example.
        outputs: the network's outputs over data, (N, channels, ...); only its first `channels` channels are rescaled.
        scale: the standard deviation of each channel.
    """
    layer = network.last_layer() if isinstance(network, Network) else network
    values = outputs.transpose(0, 1).flatten(1).float()
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d) or values.shape[1] < 2:
        return
    deviation, mean = torch.std_mean(values, 1)
    varies = deviation > 1e-6 * mean.abs()
    factor = torch.where(varies, scale / deviation, 1.0).to(layer.weight)
    count = len(factor)
    layer.weight[:count].mul_(factor.reshape(-1, *[1] * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias[:count].sub_(torch.where(varies, mean, 0.0).to(layer.weight)).mul_(factor)
