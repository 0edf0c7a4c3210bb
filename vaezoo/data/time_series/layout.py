"""`SeriesLayout`: the channels of series, and the maps from series to a tensor and back."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from vaezoo.errors import DataError, ShapeError

Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
Scale = Annotated[float, Meta(gt=0, le=1e300)]
Length = Annotated[int, Meta(ge=0, le=2**28)]


class SeriesLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The channels of series: plain data that a model's config holds, and the maps between series and a tensor.

    x (N, C, T) is (value - mean) / scale of each channel, and NaN at gaps and after the end of a series.
    `vaezoo.data.series` makes a layout; `layout_of(model)` returns that of a model.

    Attributes:
        means: of the observed values of each channel, in their units.
        scales: their standard deviations; 1 for a constant channel.
        length: T, the length of the longest series, or that of the windows.
        window: the length of the windows that longer series are cut into; 0 for whole series.
        stride: the distance of the starts of windows; 0 for whole series.
    """

    means: Annotated[tuple[Number, ...], Meta(min_length=1, max_length=10_000)]
    scales: Annotated[tuple[Scale, ...], Meta(min_length=1, max_length=10_000)]
    length: Annotated[int, Meta(ge=1, le=2**28)]
    window: Length = 0
    stride: Length = 0

    def __post_init__(self) -> None:
        """Validates the fields against each other; msgspec turns a ValueError into its own error."""
        if len(self.means) != len(self.scales):
            raise ValueError(f"got {len(self.means)} means and {len(self.scales)} scales")
        if self.window not in (0, self.length) or bool(self.window) != bool(self.stride):
            raise ValueError(f"got window {self.window} and stride {self.stride} for a length of {self.length}")

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (C, T) of x."""
        return len(self.means), self.length

    def tensor(self, parts: Sequence[Tensor]) -> Tensor:
        """Returns series or windows (C, t) of at most T values as x (N, C, T), `float32`, NaN after the end of each."""
        found = torch.full((len(parts), *self.shape), torch.nan)
        mean, scale = self._columns()
        for row, part in zip(found, parts, strict=True):
            row[:, : part.shape[1]] = (part.double() - mean) / scale
        return found

    def series(self, x: Tensor, like: Tensor | None = None) -> list[Tensor]:
        """Returns x (N, C, T) in the units of the series, N tensors (C, t), `float64`.

        Args:
            x: such as `model.sample(5)` or `model.reconstruct(x)`, which have values at all T places.
            like: (N, C, T), whose last observed places are the ends of the series returned; None for x itself.

        Raises:
            ShapeError: a tensor has another shape.
        """
        for each in (x, x if like is None else like):
            if each.dim() != 3 or tuple(each.shape[1:]) != self.shape or len(each) != len(x):
                raise ShapeError(
                    f"Got x of shape {tuple(each.shape)}; expected {(len(x), *self.shape)}, series of this layout."
                )
        mean, scale = self._columns()
        values = x.detach().to("cpu", torch.float64) * scale + mean
        return [one[:, :end].clone() for one, end in zip(values, ends_of(x if like is None else like), strict=True)]

    def check_shape(self, shape: Sequence[int], name: str) -> None:
        """Raises DataError unless a series (C, t) has the channels of this layout, and a length that it takes."""
        if shape[0] != len(self.means):
            raise DataError(f"{name} has {shape[0]} channels; expected {len(self.means)}, as in the training data.")
        if shape[1] > self.length and not self.window:
            raise DataError(
                f"{name} has {shape[1]:,} values; expected at most {self.length:,}, the longest series of the training "
                "data. Cut it, or train on windows (window=)."
            )

    def _columns(self) -> tuple[Tensor, Tensor]:
        mean, scale = (torch.tensor(each, dtype=torch.float64) for each in (self.means, self.scales))
        return mean[:, None], scale[:, None]


def ends_of(x: Tensor) -> list[int]:
    """Returns the number of places up to the last observed one of each series of x (N, C, T)."""
    observed = (~x.isnan()).any(1)
    places = torch.arange(1, x.shape[2] + 1, device=x.device)
    return [int(end) for end in (observed * places).amax(1).tolist()]


def fitted_layout(parts: Sequence[Tensor], window: int, stride: int) -> SeriesLayout:
    """Returns the layout of series (C, t) in float64: mean and standard deviation of the observed values of a channel.

    Raises:
        DataError: a channel has no observed value, or values whose squares overflow.
    """
    values = torch.cat(list(parts), 1)
    known = ~values.isnan()
    count = known.sum(1)
    if bool((count == 0).any()):
        raise DataError(f"Got no value in channel {int((count == 0).nonzero()[0])}; expected some. Drop the channel.")
    mean = torch.where(known, values, 0.0).sum(1) / count
    scale = (torch.where(known, values - mean[:, None], 0.0).square().sum(1) / count).sqrt()
    if not bool((mean.isfinite() & scale.isfinite()).all()):
        raise DataError("Got values whose squares are too large for float64; expected smaller ones. Scale them.")
    scale = torch.where(scale > 1e-12 * mean.abs(), scale, 1.0)
    length = window or max(part.shape[1] for part in parts)
    means, scales = tuple(mean.tolist()), tuple(scale.tolist())
    return SeriesLayout(means=means, scales=scales, length=length, window=window, stride=stride)
