"""`compress_files` and `decompress_files`: lossless compression of data with a model, by names and files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vaezoo.core import require
from vaezoo.data import is_registered
from vaezoo.errors import CompressionError, ConfigError, DataError, shorten
from vaezoo.storage.compression import Compressed, Restored, compress, decompress
from vaezoo.storage.compression.container import unpack
from vaezoo.storage.files import make_folder, write_file
from vaezoo.workflows.load import load
from vaezoo.zoo.index import list_models

Progress = Callable[[int, int], None]


def compress_files(
    data: str,
    *,
    model: str,
    out: Path,
    split: str | None = None,
    limit: int | None = None,
    report: Progress | None = None,
) -> Compressed:
    """Writes a data set or a folder of images, compressed with a model, to a file, and returns its figures.

    Args:
        data: a registered data set, or a folder, with or without "folder:" before it.
        model: a pretrained model, a folder, or "hf:owner/name".
        out: the file; an older one is not replaced.
        split: as in `compress`.
        limit: compress at most so many, chosen with a fixed seed.
        report: called with (examples done, all examples).

    Raises:
        ConfigError: the file exists.
        Otherwise as `vaezoo.storage.compression.compress`, `vaezoo.load` and `write_file`.
    """
    refuse_existing(out)
    source = data if is_registered(data) or ":" in data else f"folder:{data}"
    found = compress(load(model, device="cpu"), source, name=model, split=split, limit=limit, report=report)
    make_folder(out.absolute().parent)
    write_file(out, found.data)
    return found


def decompress_files(file: Path, *, out: Path, model: str | None = None, report: Progress | None = None) -> int:
    """Writes the examples of a file that `compress_files` wrote, and returns their number.

    Args:
        file: the file.
        out: a file that ends in .npz, with the arrays `images` (N, *shape), uint8 where 255 levels or fewer steps fit,
            else float32, and `labels` or `context` if there are any; otherwise a new folder for images 000000.png, ….
        model: the model; None for that of the file, if it is a pretrained one.
        report: called with (examples done, all examples).

    Raises:
        CompressionError: the file cannot be read or decompressed.
        ConfigError: `out` exists, or the file names no pretrained model.
        DataError: examples that are no images of 8 bits, for a folder.
    """
    refuse_existing(out)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CompressionError(f"Could not read {file}: {error.strerror}. Pass a file of `vaezoo compress`.") from None
    name = unpack(data)[0].model
    if model is None and name not in list_models():
        raise ConfigError(
            f"The file was compressed with {shorten(name)}, which is no pretrained model. Name it: --model FOLDER."
        )
    restored = decompress(data, load(name if model is None else model, device="cpu"), report=report)
    write_npz(restored, out) if out.suffix == ".npz" else write_images(restored, out)
    return len(restored.images)


def refuse_existing(path: Path) -> None:
    """Raises ConfigError for a path that exists."""
    if path.exists():
        raise ConfigError(f"{path} exists. Choose another name, or remove it first.")


def pixels(restored: Restored) -> Tensor | None:
    """Returns images of 8 bits, (N, *shape) uint8; None for levels that are no whole steps of 1/255."""
    step, rest = divmod(255, restored.levels - 1)
    return None if rest else (restored.images * step).byte()


def write_npz(restored: Restored, out: Path) -> None:
    """Writes the examples and their contexts as arrays; nothing in the file is pickled."""
    images = pixels(restored)
    arrays: dict[str, Any] = {"images": (restored.values if images is None else images).numpy()}
    if restored.context is not None:
        arrays["context" if restored.context.is_floating_point() else "labels"] = restored.context.numpy()
    make_folder(out.absolute().parent)
    np.savez_compressed(out, **arrays)


def write_images(restored: Restored, folder: Path) -> None:
    """Writes the examples as numbered PNG files; raises DataError if they are no gray or color images of 8 bits."""
    images = pixels(restored)
    if images is None or images.dim() != 4 or images.shape[1] not in (1, 3):
        raise DataError(
            f"Got examples of shape {tuple(restored.images.shape[1:])} with {restored.levels} levels; a folder of "
            "images expected gray or color ones of 8 bits. Write arrays: --out FILE.npz."
        )
    picture = require("PIL.Image", "pillow", "A folder of images")
    make_folder(folder)
    for place, each in enumerate(images):
        array = each.movedim(0, -1).squeeze(-1).numpy()
        picture.fromarray(array).save(folder / f"{place:06d}.png")
