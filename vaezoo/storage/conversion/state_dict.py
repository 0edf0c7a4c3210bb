"""State dicts of other projects: safetensors, or what `torch.save` wrote. The one file here that calls `torch.load`.

A file of `torch.save` is a zip archive of raw numbers and one pickle. Four walls stand around that pickle: its
operations are read first (`pickletools` executes nothing) and may name tensors and dictionaries only; its size and the
archive's are bounded; torch is given a clean copy of the archive, so that no two readers see different ones; and its
own unpickler, with `weights_only=True`, would refuse all else again.
"""

from __future__ import annotations

import io
import os
import pickletools
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor

from vaezoo.errors import ConversionError, VaezooError, shorten
from vaezoo.storage.documents import LARGEST_JSON, parse_json, sha256

__all__ = ["SETTINGS", "WEIGHTS", "Source", "read_source"]

SETTINGS, WEIGHTS = "model_config.json", "model.pt"  # the two files of a pythae folder that are read
WRAPPERS = ("model_state_dict", "state_dict", "model")  # where checkpoints keep the state dict
LARGEST_FILE = 2**30  # bytes
LARGEST_PICKLE = 2**17  # bytes: some 800 tensors
MOST_CALLS, MOST_ATTRIBUTES, MOST_RECORDS = 2048, 64, 2048
LONGEST_KEY = 200
ALIGNMENT = 64  # bytes, of each record of numbers

DICTIONARY = "collections OrderedDict"
NUMBERS = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
NAMES = {
    DICTIONARY,
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {kind}Storage" for kind in NUMBERS),
}
ARCHIVE = b"PK\x03\x04"  # how every zip archive of torch.save starts
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
PUTS, GETS = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
OPERATIONS = {
    *PUTS,
    *GETS,
    *("PROTO", "STOP", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_TUPLE", "EMPTY_DICT", "EMPTY_LIST", "SETITEM", "SETITEMS", "APPEND", "APPENDS"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What was read: the tensors by key, float32; the SHA-256 of their file; pythae's settings, where there are any."""

    name: str
    sha256: str
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, object] | None = None


def read_source(path: Path) -> Source:
    """Returns the state dict of a file, or of a pythae folder: of that, `model_config.json` and `model.pt` alone.

    Raises:
        ConversionError: no such file, too large, neither safetensors nor a plain state dict, or numbers that float32
            does not hold.
        CorruptWeightsError: settings that are no JSON.
    """
    settings: Mapping[str, object] | None = None
    if os.path.isdir(path):  # False where it cannot be looked at; Path.is_dir would raise
        found = parse_json(read_bounded(path / SETTINGS, LARGEST_JSON), SETTINGS)
        settings = cast(dict[str, object], found) if isinstance(found, dict) else {}
        path = path / WEIGHTS
    data = read_bounded(path, LARGEST_FILE)
    packed = data.startswith(ARCHIVE)
    tensors = state_dict(unpack(data, path.name), path.name) if packed else parsed(data, path.name)
    checked = {key: single(key, tensor) for key, tensor in tensors.items()}
    return Source(name=path.name, sha256=sha256(data), tensors=checked, settings=settings)


def read_bounded(path: Path, limit: int) -> bytes:
    """Returns a regular file's bytes, up to a limit."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConversionError(f"{path} is no file. Expected a state dict (.pt or .safetensors) or a pythae folder.")
        with open(path, "rb") as file:
            # What is asked for is allocated first, so no more than the file has, and one byte to see whether it grew.
            data = file.read(min(os.fstat(file.fileno()).st_size, limit) + 1)
    except (OSError, ValueError) as error:
        raise ConversionError(
            f"{shorten(str(path))} cannot be read: {getattr(error, 'strerror', None) or error}. Expected a state dict "
            f"(.pt or .safetensors), or a pythae folder with {SETTINGS} and {WEIGHTS}."
        ) from None
    if len(data) > limit:
        raise ConversionError(f"{path} has more than {limit:,} bytes, too many to be what is converted here.")
    return data


def parsed(data: bytes, name: str) -> Mapping[str, Tensor]:
    """Returns the tensors of a safetensors file."""
    try:
        return parse_tensors(data)
    except (SafetensorError, KeyError, ValueError) as error:  # a KeyError for a type that torch lacks
        old = " It looks like a pickle of a torch before 1.6, or of something else." if data[:1] == b"\x80" else ""
        raise ConversionError(
            f"{name} is neither safetensors nor an archive of torch.save ({error}).{old} Save the model's state dict "
            "again: torch.save(model.state_dict(), 'model.pt')."
        ) from None


def unpack(data: bytes, name: str) -> object:
    """Returns what the archive of `torch.save` holds, after its pickle was found to hold tensors alone."""
    records = read_records(data, name)
    check_pickle(records.get("data.pkl", b""), name)
    if records.get("byteorder", b"little") != b"little":
        raise ConversionError(f"{name} was written on a big-endian machine; save it again on another one.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        copy = Path(scratch) / "copy.pt"
        write_records(copy, {"version": b"3\n", **records})
        try:
            # Mapped: a pickle that claims more numbers than its record has would otherwise read beyond them.
            loaded: object = torch.load(copy, map_location="cpu", weights_only=True, mmap=True)
            return detached(loaded, len(data))
        except VaezooError:
            raise
        except Exception as error:
            # A malformed archive can fail anywhere in torch: whatever it was, nothing of it is used.
            reason = shorten(str(error).partition("\n")[0], 200)
            raise ConversionError(f"{name} holds no plain state dict; torch says: {reason}.") from None


def read_records(data: bytes, name: str) -> dict[str, bytes]:
    """Returns the records of a torch archive by name without its top folder, none of them compressed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or total > len(data):
                raise ConversionError(f"{name} is a compressed archive; torch.save writes none. Save it again.")
            names = [entry.filename.partition("/")[2] for entry in entries]
            if len(entries) > MOST_RECORDS or len(set(names)) != len(names):
                raise ConversionError(f"{name} has {len(entries)} records, too many or of the same name.")
            return {name: archive.read(entry) for name, entry in zip(names, entries, strict=True)}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ConversionError(f"{name} is a broken archive: {error}. Fetch or save it again.") from None


def write_records(path: Path, records: Mapping[str, bytes]) -> None:
    """Writes a clean torch archive: pickle, version, byte order and numbers, each record of numbers aligned."""
    with open(path, "xb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            if name not in ("data.pkl", "version", "byteorder") and not name.startswith("data/"):
                continue
            entry = zipfile.ZipInfo(f"copy/{name}")
            start = file.tell() + 30 + len(entry.filename.encode())  # of a local header, 30 bytes and the name
            padding = -(start + 4) % ALIGNMENT
            entry.extra = b"FB" + padding.to_bytes(2, "little") + b"\0" * padding
            archive.writestr(entry, data)


def check_pickle(data: bytes, name: str) -> None:
    """Reads a pickle's operations, executing none, and refuses all but tensors, dictionaries, numbers and text.

    A dictionary may only be made empty: made from another one, it would let a small pickle fill the memory.
    """
    if not 0 < len(data) <= LARGEST_PICKLE:
        raise ConversionError(f"{name} describes its tensors in {len(data):,} bytes; expected 1 to {LARGEST_PICKLE:,}.")
    try:
        steps = [(operation.name, argument) for operation, argument, _ in pickletools.genops(data)]
    except Exception as error:
        # On malformed input it raises whatever it met.
        raise ConversionError(f"{name} holds a malformed pickle: {shorten(str(error))}.") from None
    kinds = [kind for kind, _ in steps]
    for kind, argument in steps:
        if kind not in OPERATIONS or (kind == "GLOBAL" and argument not in NAMES):
            what = str(argument).replace(" ", ".") if kind == "GLOBAL" else kind
            raise ConversionError(
                f"{name} is no plain state dict: it holds {shorten(what)}, which loading would have to import or call. "
                "Nothing of it was run. Ask its author for torch.save(model.state_dict(), 'model.pt')."
            )
    copied = any(kinds[end : end + 2] != ["EMPTY_TUPLE", "REDUCE"] for end in dictionaries(steps))
    if copied or kinds.count("REDUCE") > MOST_CALLS or kinds.count("BUILD") > MOST_ATTRIBUTES:
        raise ConversionError(f"{name} is no plain state dict: too many tensors, or dictionaries made of others.")


def dictionaries(steps: list[tuple[str, object]]) -> list[int]:
    """Returns the positions just after each place where a pickle puts the dictionary's class on its stack."""
    memo: set[object] = set()
    found = []
    for position, (kind, argument) in enumerate(steps):
        if kind == "GLOBAL" and argument == DICTIONARY:
            kept = steps[position + 1][0] in PUTS
            memo |= {steps[position + 1][1]} if kept else set()
            found.append(position + 1 + kept)
        elif kind in GETS and argument in memo:
            found.append(position + 1)
    return found


def detached(loaded: object, limit: int) -> object:
    """Returns copies of the tensors of a dictionary, or of one in it, in memory of their own; the rest as it is."""
    if not isinstance(loaded, dict):
        return loaded
    inner = {key: value for key, value in loaded.items() if key in WRAPPERS and isinstance(value, dict)}
    return {key: copies(value, limit) for key, value in inner.items()} or copies(loaded, limit)


def copies(table: Mapping[object, object], limit: int) -> dict[object, object]:
    """Returns a dictionary with its tensors copied; more than `limit` bytes of them are refused."""
    size = sum(value.numel() * value.element_size() for value in table.values() if isinstance(value, Tensor))
    if size > limit:
        raise ConversionError(f"The tensors have {size:,} bytes, more than their file ({limit:,}): some are the same.")
    return {key: value.detach().clone() if isinstance(value, Tensor) else value for key, value in table.items()}


def state_dict(loaded: object, name: str) -> Mapping[str, Tensor]:
    """Returns the state dict in what was loaded: itself, or what a checkpoint keeps under a usual name."""
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
        raise ConversionError(f"{name} has a key that is no name: {shorten(wrong[0])}.")
    return cast(dict[str, Tensor], found)


def single(key: str, tensor: Tensor) -> Tensor:
    """Returns a tensor in float32, of the same numbers; whole numbers (counts of batches) stay as they are."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise ConversionError(f"{shorten(key)} is sparse, quantised or without values; expected plain numbers.")
    if not tensor.is_floating_point():
        return tensor
    if tensor.dtype not in FLOATS:
        raise ConversionError(f"{shorten(key)} is {tensor.dtype}; expected {', '.join(map(str, FLOATS))}.")
    result = tensor.to(torch.float32)
    if not bool(torch.isfinite(tensor).all()):
        raise ConversionError(f"{shorten(key)} holds NaN or infinite values.")
    if not torch.equal(result.to(tensor.dtype), tensor):
        raise ConversionError(
            f"{shorten(key)} is {tensor.dtype} with numbers that float32 does not hold exactly. If rounding them is "
            "what you want, save model.float().state_dict()."
        )
    return result
