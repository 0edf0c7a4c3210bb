"""Validation of what users pass to a model."""

import torch
from torch import Tensor, nn

from vaezoo.errors import ContextError, ShapeError, SupportError, shorten

LARGEST_VALUE = 1e9  # of inputs: beyond it squares and their sums, or networks, overflow float32


def as_context(c: object) -> Tensor | None:
    """Returns a context as a tensor: an index or a list of them, or the tensor itself; raises ContextError."""
    if isinstance(c, int | list | tuple | range):
        try:
            c = torch.tensor(c)
        except (TypeError, ValueError, RuntimeError):
            raise ContextError(f"Got c = {shorten(c)}; expected whole numbers, or a list of them.") from None
    if c is not None and not isinstance(c, Tensor):
        raise ContextError(f"Got a context of type {type(c).__name__}; expected a tensor. Use torch.as_tensor(c).")
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
    expected = f"class indices ({rows},) from 0 to {width - 1} or vectors ({rows}, {width})"
    if labels:
        expected = f"{expected}, one-hot; -1 or a row of zeros is an unknown label"
    if c is None:
        raise ContextError(f"Got no context; this model needs c: {expected}.")
    if c.shape == (rows,) and not c.is_floating_point() and not c.is_complex():
        if len(c) and (int(c.min()) < -labels or int(c.max()) >= width):
            raise ContextError(f"Got class indices from {int(c.min())} to {int(c.max())}; expected {expected}.")
        return nn.functional.one_hot(c.long().clamp(min=0), width) * (c >= 0).unsqueeze(1)
    if c.shape != (rows, width) or c.is_complex():
        raise ContextError(f"Got a context of shape {tuple(c.shape)} and type {c.dtype}; expected {expected}.")
    if not bool((c.float().abs() <= LARGEST_VALUE).all()):
        raise ContextError(f"Got NaN, infinite or huge values in c; expected {expected}, up to ±{LARGEST_VALUE:g}.")
    if labels and not bool(((c == 0) | (c == 1)).all() & (c.sum(1) <= 1).all()):
        raise ContextError(f"Got a context that is not made of one-hot rows; expected {expected}.")
    return c


def check_latent(z: object, latent: tuple[int, ...] | None) -> Tensor:
    """Returns `z` if it is a tensor (..., *latent) of finite floating values; raises ShapeError or SupportError."""
    if not isinstance(z, Tensor):
        raise ShapeError(f"Got z of type {type(z).__name__}; expected a torch.Tensor. Use torch.as_tensor(z).")
    if latent is not None and tuple(z.shape[max(z.dim() - len(latent), 0) :]) != latent:
        raise ShapeError(f"Got z of shape {tuple(z.shape)}; expected (..., {', '.join(map(str, latent))}).")
    if not z.is_floating_point():
        raise ShapeError(f"Got z of type {z.dtype}; expected floating values. Use z.float().")
    if not bool((z.abs() <= LARGEST_VALUE).all()):
        raise SupportError(f"Got NaN, infinite or huge values in z; expected magnitudes up to {LARGEST_VALUE:g}.")
    return z


def check_tensor(x: object, shape: tuple[int, ...] | None, device: torch.device) -> Tensor:
    """Returns `x` if it is a non-empty batch (B, *shape) of floats (or bool), with values if `device` has them.

    Raises:
        ShapeError: another shape or type, or a tensor that cannot be moved to `device`.
    """
    if not isinstance(x, Tensor):
        raise ShapeError(f"Got x of type {type(x).__name__}; expected a torch.Tensor. Use torch.as_tensor(x).")
    wanted = "(B, ...)" if shape is None else f"(B, {', '.join(map(str, shape))})"
    if x.dim() == 0 or (shape is not None and tuple(x.shape[1:]) != shape):
        hint = " Use x.unsqueeze(0) for a single example." if tuple(x.shape) == shape else ""
        raise ShapeError(f"Got x of shape {tuple(x.shape)}; expected {wanted}.{hint}")
    if x.shape[0] == 0:
        raise ShapeError(f"Got an empty batch of shape {tuple(x.shape)}; expected at least one example, {wanted}.")
    if x.layout != torch.strided:
        raise ShapeError(f"Got x of layout {x.layout}; expected a dense tensor. Use x.to_dense().")
    if not (x.is_floating_point() or x.dtype == torch.bool):
        raise ShapeError(f"Got x of type {x.dtype}; expected floating values: for 8-bit images use x.float() / 255.")
    if x.is_meta != (device.type == "meta"):  # other devices are moved
        raise ShapeError(
            f"Got x on {x.device}; the model is on {device}. Use x.to('{device}') or model.to('{x.device}')."
        )
    return x
