"""Validation of what users pass to a model."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from vaezoo.errors import ConfigError, ContextError, ShapeError, SupportError, VaezooError, did_you_mean, shorten

LARGEST_VALUE = 1e9  # of inputs: beyond it squares and their sums, or networks, overflow float32


class Values(Protocol):
    """The values of x that a likelihood accepts; see `vaezoo.core.Likelihood`."""

    domain: str
    gaps: bool

    def accepts(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values may be trained on."""


def as_number(value: object) -> object:
    """Returns numpy's scalars, and tensors and arrays of one element, as plain numbers; other values unchanged."""
    try:
        return value.item()  # type: ignore[attr-defined]  # what has none is returned
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return value


def whole_number(
    value: object, name: str, least: int, most: int = 2**63 - 1, *, error: type[VaezooError] = ConfigError
) -> int:
    """Returns `value` as an int: an int, a whole float, or one of numpy or torch; raises `error` for another."""
    number = as_number(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        limit = f"at least {least}" if most == 2**63 - 1 else f"from {least} to {most}"
        raise error(f"Got {name} = {shorten(value)}; expected a whole number, {limit}.")
    return number


def whole_seed(value: object, least: int = -(2**63)) -> int:
    """Returns a seed as an int; raises ConfigError unless it is a whole number of 64 bits, and at least `least`."""
    return whole_number(value, "seed", least, 2**64 - 1)


def class_names(config: Mapping[str, object] | None) -> Sequence[str]:
    """Returns the names of a model's classes that its config records, in the order of their indices; else none."""
    data = (config or {}).get("data")
    names = data.get("class_names") if isinstance(data, Mapping) else None
    return names if isinstance(names, list | tuple) else ()


def class_indices(c: str | Sequence[object], names: Sequence[str]) -> Tensor:
    """Returns the index of a class name, or the indices (n,) of several; raises ContextError."""
    if not names:
        raise ContextError(
            f"Got c = {shorten(c)} of type {type(c).__name__}; expected class indices: the model's config has no names "
            "of classes."
        )
    wanted = [c] if isinstance(c, str) else list(c)
    for each in wanted:
        if each not in names:
            shown = ", ".join(names) if len(names) <= 24 else f"{', '.join(names[:24])}, … ({len(names)} in all)"
            raise ContextError(f"Unknown class {shorten(each)}.{did_you_mean(each, names)} Known: {shown}.")
    found = torch.tensor([names.index(str(each)) for each in wanted])
    return found[0] if isinstance(c, str) else found


def as_context(c: object, config: Mapping[str, object] | None = None) -> Tensor | None:
    """Returns a context as a tensor; raises ContextError.

    Args:
        c: an index or a name of a class, a list or array of them, or a tensor, which is returned unchanged.
        config: of the model, which may record names of classes.
    """
    if isinstance(c, str) or (isinstance(c, list | tuple | np.ndarray) and any(isinstance(each, str) for each in c)):
        return class_indices(cast("str | Sequence[object]", c), class_names(config))
    if isinstance(c, int | list | tuple | range) or (hasattr(c, "__array__") and not isinstance(c, Tensor)):
        try:
            c = torch.as_tensor(c)
        except (TypeError, ValueError, RuntimeError):
            raise ContextError(f"Got c = {shorten(c)}; expected whole numbers, or a list of them.") from None
    if c is not None and not isinstance(c, Tensor):
        raise ContextError(f"Got a context of type {type(c).__name__}; expected a tensor. Use torch.as_tensor(c).")
    if c is not None and c.dtype == torch.bool and c.dim() < 2:
        raise ContextError("Got truth values as a context; expected class indices. Use c.long() if they are classes.")
    return c


def context_vectors(c: Tensor | None, rows: int, width: int, labels: bool = False) -> Tensor:
    """Returns a context as vectors (rows, width), one-hot for class indices (rows,).

    Args:
        c: indices from 0 to width - 1, or finite vectors.
        rows: how many examples there are.
        width: the size of a vector.
        labels: whether vectors are one-hot, and may be unknown: index -1, a row of zeros, or no `c`.

    Raises:
        ContextError: missing, or of another shape, type or range.
    """
    if c is None and labels:
        return torch.zeros(rows, width)
    if torch.compiler.is_compiling() and c is not None:
        return one_hot_vectors(c, width) if c.dim() == 1 else c
    expected = f"class indices ({rows},) from 0 to {width - 1} or vectors ({rows}, {width})"
    if labels:
        expected = f"{expected}, one-hot; -1 or a row of zeros is an unknown label"
    if c is None:
        raise ContextError(f"Got no context; this model needs c: {expected}.")
    if c.shape == (rows,) and not c.is_floating_point() and not c.is_complex():
        if len(c) and (int(c.min()) < -labels or int(c.max()) >= width):
            raise ContextError(f"Got class indices from {int(c.min())} to {int(c.max())}; expected {expected}.")
        return one_hot_vectors(c, width)
    if c.shape != (rows, width) or c.is_complex():
        raise ContextError(f"Got a context of shape {tuple(c.shape)} and type {c.dtype}; expected {expected}.")
    if not bool((c.float().abs() <= LARGEST_VALUE).all()):
        raise ContextError(f"Got NaN, infinite or huge values in c; expected {expected}, up to ±{LARGEST_VALUE:g}.")
    if labels and not bool(((c == 0) | (c == 1)).all() & (c.sum(1) <= 1).all()):
        raise ContextError(f"Got a context that is not made of one-hot rows; expected {expected}.")
    return c


def one_hot_vectors(indices: Tensor, width: int) -> Tensor:
    """Returns one-hot vectors (rows, width) of `indices` (rows,), zeros for an index of -1."""
    return (indices.unsqueeze(1) == torch.arange(width, device=indices.device)).long()


def check_indices(indices: object, shape: Sequence[int], codes: int) -> Tensor:
    """Returns indices of codes (..., *shape) or (..., N), where N is their number, as (..., N) int64.

    Raises:
        ShapeError: another shape or type.
        SupportError: an index below 0, or of `codes` or more.
    """
    expected = f"whole numbers (B, {', '.join(map(str, shape))}) from 0 to {codes - 1}".replace("(B, )", "(B,)")
    if not isinstance(indices, Tensor):
        try:
            indices = torch.as_tensor(indices)
        except (TypeError, ValueError, RuntimeError):
            raise ShapeError(f"Got indices of type {type(indices).__name__}; expected {expected}.") from None
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise ShapeError(f"Got indices of type {indices.dtype}; expected {expected}. Use indices.long().")
    count = torch.Size(shape).numel()
    leading = indices.dim() - len(shape)
    if leading < 1 or tuple(indices.shape[leading:]) != tuple(shape):
        leading = indices.dim() - 1
        if leading < 1 or indices.shape[-1] != count:
            raise ShapeError(f"Got indices of shape {tuple(indices.shape)}; expected {expected}.")
    if torch.compiler.is_compiling() or not indices.numel():
        pass
    elif int(indices.min()) < 0 or int(indices.max()) >= codes:
        raise SupportError(f"Got indices from {int(indices.min())} to {int(indices.max())}; expected {expected}.")
    return indices.long().reshape(*indices.shape[:leading], count)


def check_latent(z: object, latent: tuple[int, ...] | None) -> Tensor:
    """Returns z (..., *latent), a tensor or array, as a tensor of finite floats; raises ShapeError or SupportError."""
    z = from_array(z)
    if not isinstance(z, Tensor):
        raise ShapeError(f"Got z of type {type(z).__name__}; expected a torch.Tensor. {tensor_remedy(z, 'z')}")
    if latent is not None and tuple(z.shape[max(z.dim() - len(latent), 0) :]) != latent:
        raise ShapeError(f"Got z of shape {tuple(z.shape)}; expected (..., {', '.join(map(str, latent))}).")
    if not z.is_floating_point():
        raise ShapeError(f"Got z of type {z.dtype}; expected floating values. Use z.float().")
    if not torch.compiler.is_compiling() and not bool((z.abs() <= LARGEST_VALUE).all()):
        raise SupportError(f"Got NaN, infinite or huge values in z; expected magnitudes up to {LARGEST_VALUE:g}.")
    return z


def check_tensor(x: object, shape: tuple[int, ...] | None, device: torch.device) -> Tensor:
    """Returns x, a tensor or array, as a tensor if it is a non-empty batch (B, *shape) of floats (or bool).

    It has values if `device` has them.

    Raises:
        ShapeError: another shape or type, or a tensor that cannot be moved to `device`.
    """
    x = from_array(x)
    if not isinstance(x, Tensor):
        raise ShapeError(f"Got x of type {type(x).__name__}; expected a torch.Tensor. {tensor_remedy(x, 'x')}")
    wanted = "(B, ...)" if shape is None else f"(B, {', '.join(map(str, shape))})"
    if x.dim() == 0 or (shape is not None and tuple(x.shape[1:]) != shape):
        remedy = "" if shape is None else shape_remedy(tuple(x.shape), shape)
        raise ShapeError(f"Got x of shape {tuple(x.shape)}; expected {wanted}.{remedy}")
    if x.shape[0] == 0:
        raise ShapeError(f"Got an empty batch of shape {tuple(x.shape)}; expected at least one example, {wanted}.")
    if x.layout != torch.strided:
        raise ShapeError(f"Got x of layout {x.layout}; expected a dense tensor. Use x.to_dense().")
    if not (x.is_floating_point() or x.dtype == torch.bool):
        raise ShapeError(
            f"Got x of type {x.dtype}; expected floating values. Use x.float(), or x / 255 for 8-bit images."
        )
    if x.is_meta != (device.type == "meta"):  # other devices are moved
        raise ShapeError(
            f"Got x on {x.device}; the model is on {device}. Use x.to('{device}') or model.to('{x.device}')."
        )
    return x


def from_array(value: object) -> object:
    """Returns numpy's arrays of numbers as tensors; other values unchanged."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.as_tensor(np.array(value, order="C"))  # a copy: read-only arrays and negative strides
    return value


def tensor_remedy(value: object, name: str) -> str:
    """Returns how to make a tensor of floats of a value of another type."""
    if hasattr(value, "to_numpy"):  # frames and columns
        return f"Use torch.as_tensor({name}.to_numpy()).float()."
    if isinstance(value, list | tuple) and any(isinstance(each, Tensor) for each in value):
        return f"Use torch.stack({name})."
    return f"Use torch.as_tensor({name}).float()."


def shape_remedy(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Returns how to bring x of the shape `found` to (B, *shape), as a sentence after a space, or an empty text."""
    if found == shape:
        return " Use x.unsqueeze(0) for a single example."
    if len(shape) == 3 and shape[0] == 1 and found[1:] == shape[1:]:
        return " Use x.unsqueeze(1) for gray images without a dimension of channels."
    if len(shape) == 3 and found[1:] == (*shape[1:], shape[0]):
        return " Use x.permute(0, 3, 1, 2) for images whose channels are last."
    if len(shape) == 3 and found == (*shape[1:], shape[0]):
        return " Use x.permute(2, 0, 1).unsqueeze(0) for a single image whose channels are last."
    if len(found) > 1 and math.prod(found[1:]) == math.prod(shape):
        return f" Use x.reshape(-1, {', '.join(map(str, shape))}) if the values are in this order."
    return ""


def finite_or_gap(x: Tensor, likelihood: Values | None) -> Tensor:
    """Returns a mask of the finite elements of x, and of NaN if the likelihood takes them as gaps."""
    finite = torch.isfinite(x)
    return finite | x.isnan() if likelihood is not None and likelihood.gaps else finite


def invalid_values(x: Tensor, likelihood: Values | None) -> SupportError:
    """Returns the error for a batch `x` with values that `likelihood` does not accept; None: values of any encoder."""

    def rows(valid: Tensor) -> str:
        bad = (~valid).nonzero().flatten().tolist()
        return f"examples {bad[:8]}{f' and {len(bad) - 8:,} others' if len(bad) > 8 else ''} of x"

    finite = finite_or_gap(x, likelihood).reshape(len(x), -1).all(1)
    if not bool(finite.all()):
        return SupportError(
            f"Got NaN or infinite values ({x.dtype}) in {rows(finite)}; expected finite ones. Clean them."
        )
    if likelihood is None:
        small = (~(x.abs() > LARGEST_VALUE)).reshape(len(x), -1).all(1)
        return SupportError(f"Got values beyond ±{LARGEST_VALUE:g} in {rows(small)}; expected smaller ones. Scale x.")
    known = x[torch.isfinite(x)]
    return SupportError(
        f"Got x from {known.min().item():.6g} to {known.max().item():.6g}; the "
        f"{type(likelihood).__name__} likelihood expected {likelihood.domain}, which does not hold in "
        f"{rows(likelihood.accepts(x))}. Scale the data or choose another likelihood."
    )
