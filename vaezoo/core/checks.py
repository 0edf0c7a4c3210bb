"""Validation of what users pass to a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaezoo.errors import ContextError, ShapeError, SupportError

LARGEST_VALUE = 1e9  # of inputs: beyond it squares and their sums, or networks, overflow float32


def label_vectors(c: Tensor | None, rows: int, classes: int) -> Tensor:
    """Returns label vectors (rows, classes), all zeros where a class is not known: everywhere without `c`.

    Raises:
        ContextError: neither class indices from -1 (not known), nor rows that are one-hot or all zeros.
    """
    if c is None:
        return torch.zeros(rows, classes)
    expected = f"class indices ({rows},) from -1 (not known) to {classes - 1}, or one-hot vectors ({rows}, {classes})"
    if c.shape == (rows,) and not c.is_floating_point() and not c.is_complex():
        if rows and (int(c.min()) < -1 or int(c.max()) >= classes):
            raise ContextError(f"Got class indices from {int(c.min())} to {int(c.max())}; expected {expected}.")
        return nn.functional.one_hot(c.long().clamp(min=0), classes) * (c >= 0).unsqueeze(1)
    if c.shape != (rows, classes) or c.is_complex():
        raise ContextError(f"Got a context of shape {tuple(c.shape)} and type {c.dtype}; expected {expected}.")
    if not bool(((c == 0) | (c == 1)).all()) or not bool((c.sum(1) <= 1).all()):
        raise ContextError(f"Got a context that is not made of one-hot rows; expected {expected}; zeros say not known.")
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
    """Returns `x` if it is a non-empty batch (B, *shape) of floats (or bool) on `device`; raises ShapeError."""
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
    if x.device != device:
        raise ShapeError(
            f"Got x on {x.device}; the model is on {device}. Use x.to('{device}') or model.to('{x.device}')."
        )
    return x
