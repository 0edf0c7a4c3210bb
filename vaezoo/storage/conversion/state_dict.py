"""State dicts of other projects: safetensors, or files of `torch.save`, which `torch.load` reads without running code.

This is the only module of vaezoo that calls `torch.load`.
"""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor

from vaezoo.errors import ConversionError, CorruptWeightsError, shorten
from vaezoo.storage.json_files import LARGEST_JSON, parse_json, read_bytes, sha256

SETTINGS, WEIGHTS = "model_config.json", "model.pt"  # the two files of a pythae folder that are read
WRAPPERS = (
    "model_state_dict",
    "state_dict",
    "model",
    "net",
    "vae",
    "weights",
    "ema",
)  # keys of the state dict in a checkpoint
#: of all keys: DataParallel, compile, Lightning modules, averages
PREFIXES = (
    *("module.", "_orig_mod.", "model.", "vae.", "net.", "network.", "self.", "pl_module.", "state."),
    *("ema.", "ema_model.", "autoencoder."),
)
LARGEST_FILE = 2**30  # bytes
LONGEST_KEY = 200
ARCHIVE = b"PK\x03\x04"  # first bytes of a zip archive, which torch.save writes
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A state dict in float32, the SHA-256 of its file, and the settings of a pythae folder."""

    name: str
    sha256: str
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, object] | None = None


def read_source(path: Path) -> Source:
    """Returns the state dict of a file, or of a pythae folder: of that, `model_config.json` and `model.pt` alone.

    Raises:
        ConversionError: no such file, too large, neither safetensors nor a plain state dict, or numbers that float32
            cannot represent.
        CorruptWeightsError: settings that are not JSON.
    """
    settings: Mapping[str, object] | None = None
    if os.path.isdir(path):  # False without permission, where Path.is_dir would raise
        found = parse_json(read_bounded(path / SETTINGS, LARGEST_JSON), SETTINGS)
        settings = cast(dict[str, object], found) if isinstance(found, dict) else {}
        path = path / WEIGHTS
    data = read_bounded(path, LARGEST_FILE)
    tensors = state_dict(unpickle(path) if data.startswith(ARCHIVE) else parse(data, path.name), path.name)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > len(data):
        raise ConversionError(
            f"The tensors have {size:,} bytes, more than their file ({len(data):,}): some are shared."
        )
    checked = {key: to_float32(key, tensor) for key, tensor in tensors.items()}
    return Source(name=path.name, sha256=sha256(data), tensors=checked, settings=settings)


def read_bounded(path: Path, limit: int) -> bytes:
    """Returns the bytes of a regular file of at most `limit` bytes."""
    try:
        return read_bytes(path, limit)
    except CorruptWeightsError as error:
        raise ConversionError(
            f"{shorten(str(error), 300)} Expected a state dict (.pt or .safetensors) of at most {LARGEST_FILE:,} "
            f"bytes, or a pythae folder with {SETTINGS} and {WEIGHTS}."
        ) from None


def parse(data: bytes, name: str) -> Mapping[str, Tensor]:
    """Returns the tensors of a safetensors file."""
    try:
        return parse_tensors(data)
    except (SafetensorError, KeyError, ValueError) as error:  # a KeyError for a type that torch lacks
        old = " It looks like a pickle of a torch before 1.6, or of something else." if data[:1] == b"\x80" else ""
        raise ConversionError(
            f"{name} is neither safetensors nor an archive of torch.save ({error}).{old} Save the model's state dict "
            "again: torch.save(model.state_dict(), 'model.pt')."
        ) from None


def unpickle(path: Path) -> object:
    """Returns the content of a `torch.save` archive; torch refuses a pickle that names anything but tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("the archive is compressed; torch.save writes none, and it could fill the memory")
        # Memory-mapped: torch checks the length of a mapped record, but not of one that it copies.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # malformed archives fail with many types of exceptions
        raise ConversionError(
            f"{path.name} holds no plain state dict: {shorten(str(error).partition(chr(10))[0], 200)}. Nothing of it "
            "was run. Ask its author for torch.save(model.state_dict(), 'model.pt')."
        ) from None


def state_dict(loaded: object, name: str) -> Mapping[str, Tensor]:
    """Returns the state dict in a loaded file: the file itself, or the entry of a checkpoint with a usual name."""
    found = loaded
    if isinstance(loaded, dict):
        found = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), dict)), loaded)
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConversionError(
            f"{name} holds no state dict: expected tensors by name, or such a table under {', '.join(WRAPPERS)}. Save "
            "the model's own: torch.save(model.state_dict(), 'model.pt')."
        )
    wrong = [key for key in found if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY]
    if wrong:
        raise ConversionError(f"{name} has the key {shorten(wrong[0])}; expected a name.")
    return without_prefix(cast(dict[str, Tensor], found))


def without_prefix(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns a state dict without the prefixes that wrappers put in front of all keys."""
    for prefix in (each for _ in PREFIXES for each in PREFIXES):  # in any order
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def to_float32(key: str, tensor: Tensor) -> Tensor:
    """Returns a copy of a tensor, floating numbers as equal numbers in float32; integers keep their type."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise ConversionError(f"{shorten(key)} is sparse, quantized or without values; expected plain numbers.")
    if not tensor.is_floating_point():
        return tensor.detach().clone()
    if tensor.dtype not in FLOATS:
        raise ConversionError(f"{shorten(key)} is {tensor.dtype}; expected {', '.join(map(str, FLOATS))}.")
    result = tensor.detach().to(torch.float32, copy=True)  # not the mapped file
    if not bool(torch.isfinite(tensor).all()):
        raise ConversionError(f"{shorten(key)} holds NaN or infinite values.")
    if not torch.equal(result.to(tensor.dtype), tensor):
        raise ConversionError(
            f"{shorten(key)} is {tensor.dtype} with numbers that float32 does not hold exactly. To round them, save "
            "model.float().state_dict()."
        )
    return result
