"""A model as HTML in a notebook: its description, and a strip of samples."""

import base64
import struct
import zlib
from collections.abc import Mapping
from html import escape
from typing import Final, Protocol, cast

import torch
from torch import Tensor, nn

from vaezoo.core.modes import evaluating

SAMPLES: Final = 8
HEIGHT: Final = 64
"""Pixels on the screen of a sample, at least."""


class Sampled(Protocol):
    """What `html_of` reads of a model."""

    shape: tuple[int, ...] | None
    context: int
    config: Mapping[str, object] | None

    def sample(self, n: int, c: Tensor | None, seed: int) -> Tensor:
        """Returns samples (n, *shape)."""


def html_of(model: Sampled, text: str) -> str:
    """Returns text, and samples of a model of images below it; the text alone if it cannot be sampled.

    The samples have a fixed seed. Random states and the mode of the model are unchanged, and nothing is raised: a model
    is displayed while it is built, too.
    """
    described = f"<pre>{escape(text)}</pre>"
    try:
        return f"{described}{strip_of(model)}"
    except Exception:  # a description must not fail, whatever the model is
        return described


def strip_of(model: Sampled) -> str:
    """Returns an image of samples side by side, conditional ones of one class each; "" unless x are images."""
    shape, data = model.shape or (), (model.config or {}).get("data")
    if isinstance(data, Mapping) and data.get("series") is not None:
        return ""
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        return ""
    if any(each.is_meta for each in cast(nn.Module, model).parameters()):
        return ""
    c = torch.eye(model.context)[torch.arange(SAMPLES) % model.context] if model.context else None
    with evaluating(cast(nn.Module, model)):
        images = model.sample(SAMPLES, c, seed=0).reshape(SAMPLES, -1, *shape[-2:])
    if not bool(images.isfinite().all()):
        return ""
    row = images.clamp(0.0, 1.0).mul(255.0).round().to("cpu", torch.uint8).permute(2, 0, 3, 1).flatten(1, 2)
    data = base64.b64encode(png(row.contiguous())).decode()
    height = -(-HEIGHT // shape[-2]) * shape[-2]
    return (
        f'<img alt="{SAMPLES} samples, seed 0" title="samples, seed 0" height="{height}" '
        f'style="image-rendering: pixelated" src="data:image/png;base64,{data}">'
    )


def png(pixels: Tensor) -> bytes:
    """Returns a PNG file of pixels (H, W, 1 or 3), `uint8`."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    lines = b"".join(b"\0" + line.numpy().tobytes() for line in pixels)  # 0: a line without a filter
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
