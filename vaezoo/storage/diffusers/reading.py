"""Reads an image autoencoder from a folder in the layout of diffusers; every tensor is checked before memory is taken.

Only safetensors files are read: files of pickles can run code when they are opened.
"""

import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from vaezoo.core import LATENTS, VAE, all_finite, seeded
from vaezoo.core.undrawn import Undrawn
from vaezoo.errors import ConfigError, CorruptWeightsError, shorten
from vaezoo.registry import create
from vaezoo.storage.config import CONFIG, LARGEST_CONFIG, ORIGIN
from vaezoo.storage.diffusers.names import CODEBOOK, Place, current_names, gathered, places
from vaezoo.storage.diffusers.settings import Description, described, is_diffusers
from vaezoo.storage.json_files import LARGEST_JSON, opened, parse_json, read_bytes, sha256
from vaezoo.storage.weights_header import LARGEST_ENTRY, LENGTH, STORED, Entry, entry

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
SHARDS = "diffusion_pytorch_model-{:05d}-of-{:05d}.safetensors"
PICKLES = ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.bin.index.json")
NOTES = "__metadata__"  # of a header
LARGEST_NOTES = 2**16  # bytes
PART = 2**22  # bytes that are read at a time
LAYOUT = "diffusers"  # in the origin of a model


def settings_of(folder: Path) -> dict[str, object] | None:
    """Returns the table of a folder's `config.json`, or None if it is not one of diffusers.

    Raises:
        CorruptWeightsError: it is missing, no JSON, or too large.
    """
    data = read_bytes(folder / CONFIG, LARGEST_JSON)
    if b'"_class_name"' not in data:  # others are read by their own rules
        return None
    config = parse_json(data, f"{folder.name}/{CONFIG}", LARGEST_CONFIG)
    return cast("dict[str, object]", config) if is_diffusers(config) else None


def read_diffusers(folder: Path, size: int | Sequence[int] | None = None) -> VAE:
    """Returns the model of a folder in the layout of diffusers, on the CPU, in eval mode.

    Args:
        folder: with `config.json` and `diffusion_pytorch_model.safetensors`, or several files and their index.
        size: side or sides of the images; None for `sample_size` of the config.

    Raises:
        ConfigError, UnknownNameError, ShapeError: a config that has no counterpart, or weights in pickles alone.
        CorruptWeightsError: files are missing or damaged, or their tensors are not those of the config.
    """
    config = settings_of(folder)
    if config is None:
        raise ConfigError(f"{folder} has no config of diffusers, which has the key _class_name.")
    description = described(config, size)
    wanted = tensors_of(description)
    tensors, digests = read_tensors(folder, weight_names(folder), wanted)
    if description.upcast and floating_type(tensors) == torch.float16:
        tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return assembled(
        description, wanted, tensors, digests[0] if len(digests) == 1 else sha256("".join(digests).encode())
    )


def tensors_of(description: Description) -> dict[str, Place]:
    """Returns the place of each tensor that the files of a model have, by its name there."""
    return {name: place for place in places(built(description, "meta")) for name in place.theirs}


def built(description: Description, device: str) -> VAE:
    """Returns the model with arbitrary weights; the caller's random state is left unchanged."""
    with seeded(0), torch.device(device), Undrawn():
        return create(**description.arguments)


def assembled(description: Description, wanted: Mapping[str, Place], tensors: Mapping[str, Tensor], digest: str) -> VAE:
    """Returns the model with these tensors; `digest`: that of its files."""
    model = built(description, "cpu")
    state = {place.ours: gathered(place, tensors) for place in dict.fromkeys(wanted.values())}
    if CODEBOOK in state:  # the moving averages of its codes, which files of diffusers lack
        codes = state[CODEBOOK]
        state |= {"encoder.counts": codes.new_ones(len(codes)), "encoder.sums": codes.clone()}
    model.load_state_dict(state, strict=True, assign=True)
    model.to(dtype=floating_type(tensors))  # unsaved buffers too
    model.requires_grad_(True)
    origin = {"layout": LAYOUT, "class": description.name.lower(), "sha256": digest}
    facts = {"data": None, "recipe": None, ORIGIN: origin, LATENTS: dict(description.factors)}
    model.config = {**(model.config or {}), **facts}
    return model.eval()


def floating_type(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """Returns the type of the tensors that are no whole numbers, which all have the same."""
    return next(each.dtype for each in tensors.values() if each.is_floating_point())


def weight_names(folder: Path) -> list[str]:
    """Returns the names of the files of weights in a folder.

    Raises:
        ConfigError: the weights are in pickles alone.
        CorruptWeightsError: there are none, or the index is malformed.
    """
    if (folder / WEIGHTS).exists():
        return [WEIGHTS]
    if (folder / INDEX).exists():
        return shard_names(read_bytes(folder / INDEX, LARGEST_JSON), f"{folder.name}/{INDEX}")
    raise missing_weights([name for name in PICKLES if (folder / name).exists()], folder.name)


def missing_weights(pickles: Sequence[str], name: str) -> ConfigError | CorruptWeightsError:
    """Returns the error of a folder without safetensors files, with the files of `pickles` in it."""
    if pickles:
        return ConfigError(
            f"{name} has its weights as {pickles[0]}, a pickle, which can run code when it is opened and is not read. "
            f"Expected {WEIGHTS}: in diffusers, save_pretrained(FOLDER, safe_serialization=True) writes it."
        )
    return CorruptWeightsError(f"{name} has neither {WEIGHTS} nor {INDEX}. The folder is incomplete.")


def shard_names(data: bytes, name: str) -> list[str]:
    """Returns the names of the files of an index, in order; raises CorruptWeightsError if it is malformed."""
    index = parse_json(data, name)
    table = index.get("weight_map") if isinstance(index, dict) else None
    files = sorted({each for each in table.values() if isinstance(each, str)}) if isinstance(table, dict) else []
    count = len(files)
    if not files or files != [
        f"diffusion_pytorch_model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)
    ]:
        raise CorruptWeightsError(
            f"{name} names the files {shorten(files)}; expected diffusion_pytorch_model-00001-of-0000N.safetensors and "
            "so on. Fetch or save it again."
        )
    return files


def largest_weights(wanted: Mapping[str, Place]) -> int:
    """Returns the largest size of files with these tensors together, in bytes."""
    return longest_header(wanted) + LENGTH + sum(8 * math.prod(place.part) for place in wanted.values())


def longest_header(wanted: Mapping[str, Place]) -> int:
    """Returns the largest size of a header of these tensors, in bytes."""
    return LARGEST_NOTES + sum(LARGEST_ENTRY + 6 * len(name) for name in wanted)


def read_tensors(
    folder: Path, files: Sequence[str], wanted: Mapping[str, Place]
) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the tensors of files by their present names, and the SHA-256 of each file.

    The headers of all files are compared with `wanted` before a tensor is read.

    Raises:
        CorruptWeightsError: names, shapes, types, sizes or values are wrong, or a hash is not that of the download.
    """
    if len(files) > len(wanted):
        raise CorruptWeightsError(f"{folder.name} has {len(files):,} files of weights for {len(wanted)} tensors.")
    tensors, digests = dict[str, Tensor](), []
    with ExitStack() as stack:
        names = [f"{folder.name}/{file}" for file in files]
        streams = [stack.enter_context(opened(folder / file)) for file in files]
        headers = [read_header(stream, name, wanted) for stream, name in zip(streams, names, strict=True)]
        check_entries([entries for _, entries, _ in headers], wanted, folder.name)
        for file, stream, name, (raw, entries, offsets) in zip(files, streams, names, headers, strict=True):
            buffer, digest = read_body(stream, raw, name)
            check_download(folder / file, digest)
            tensors |= views(buffer, entries, offsets, name)
            digests.append(digest)
    return tensors, digests


def views(buffer: bytearray, entries: Mapping[str, Entry], offsets: Mapping[str, int], name: str) -> dict[str, Tensor]:
    """Returns the tensors in the bytes of a file by their present names; raises CorruptWeightsError if not finite."""
    new, found = current_names(entries), {}
    for key, (shape, dtype) in entries.items():
        tensor = torch.frombuffer(buffer, dtype=dtype, count=math.prod(shape), offset=offsets[key])
        if not all_finite(tensor):
            raise CorruptWeightsError(f"{name} holds NaN or infinite values in {shorten(key)}.")
        found[new[key]] = tensor.reshape(shape)
    return found


def read_header(
    stream: BinaryIO, name: str, wanted: Mapping[str, Place]
) -> tuple[bytes, dict[str, Entry], dict[str, int]]:
    """Returns the bytes of a file before its tensors, shape and type of each, and where each begins after these bytes.

    Raises:
        CorruptWeightsError: the header is malformed, or the file has another size than it states.
    """
    size = os.fstat(stream.fileno()).st_size
    start = stream.read(LENGTH)
    length, most = int.from_bytes(start, "little"), min(longest_header(wanted), size - LENGTH)
    if length > most or size > largest_weights(wanted):
        raise CorruptWeightsError(
            f"{name} has {size:,} bytes and claims a header of {length:,}; a model of its config has at most "
            f"{largest_weights(wanted):,} and {max(0, most):,}. Fetch or save it again."
        )
    raw = stream.read(length)
    header = parse_json(raw, f"{name}'s header", longest_header(wanted))
    facts = {key: each for key, each in header.items() if key != NOTES} if isinstance(header, dict) else {}
    entries = {key: found for key, each in facts.items() if (found := entry(each)) is not None}
    begins = begins_of(facts, entries, size - LENGTH - length)
    if begins is None:
        raise CorruptWeightsError(f"{name} has a malformed header, or is not whole. Fetch or save it again.")
    return start + raw, entries, begins


def begins_of(facts: Mapping[str, Any], entries: Mapping[str, Entry], size: int) -> dict[str, int] | None:  # Any: JSON
    """Returns where each tensor of a header begins, or None unless tensors fill `size` bytes without gaps."""
    spans = [each["data_offsets"] for key, each in facts.items() if key in entries]
    if not spans or len(spans) < len(facts) or not all(isinstance(each, list) and len(each) == 2 for each in spans):
        return None
    if any(type(each) is not int for span in spans for each in span):
        return None
    position, begins = 0, {}
    for (begin, end), key in sorted(zip(spans, entries, strict=True)):
        shape, dtype = entries[key]
        if begin != position or end != begin + math.prod(shape) * dtype.itemsize:
            return None
        begins[key], position = begin, end
    return begins if position == size else None


def check_entries(headers: Sequence[Mapping[str, Entry]], wanted: Mapping[str, Place], name: str) -> None:
    """Compares the tensors of all files with those of the model: names, shapes, and one floating type.

    Raises:
        CorruptWeightsError: tensors are missing, unexpected, twice there, or different.
    """
    pairs = [(new, header[old]) for header in headers for old, new in current_names(header).items()]
    found = dict(pairs)
    whole = {key for key, place in wanted.items() if place.whole}
    differ = [
        f"{key}: got {found[key][0]}, expected {place.part}"
        for key, place in wanted.items()
        if key in found and found[key][0] not in shapes_of(place, key)
    ]
    differ += [f"{key}: got {found[key][1]}" for key in whole & found.keys() if found[key][1] != torch.int64]
    kinds = {kind for key, (_, kind) in pairs if key not in whole}
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if (
        missing
        or extra
        or differ
        or len(found) < len(pairs)
        or len(kinds) != 1
        or not kinds <= {*STORED, torch.float64}
    ):
        raise CorruptWeightsError(
            f"{name} does not fit the model that its config describes. Missing: {missing[:5]}. Not expected: "
            f"{shorten(extra[:5], 500)}. Different: {'; '.join(differ[:3]) or 'none'}. Types: "
            f"{', '.join(sorted(map(str, kinds)))}; expected one floating type."
        )


def shapes_of(place: Place, name: str) -> Iterator[tuple[int, ...]]:
    """Yields the shapes that a tensor may have: the weights of a linear layer may be those of a 1 x 1 convolution."""
    yield place.part
    if place.layer and name.endswith(".weight"):
        yield (*place.part, 1, 1)


def read_body(stream: BinaryIO, head: bytes, name: str) -> tuple[bytearray, str]:
    """Returns the bytes of a file after its header, which is not copied again, and the SHA-256 of the file.

    Raises:
        CorruptWeightsError: the file became shorter.
    """
    total = hashlib.sha256(head)
    buffer = bytearray(os.fstat(stream.fileno()).st_size - len(head))
    view, done = memoryview(buffer), 0
    while done < len(buffer):
        count = stream.readinto(view[done : done + PART])  # type: ignore[attr-defined]  # of a file opened as binary
        if not count:
            raise CorruptWeightsError(f"{name} became shorter while it was read. Fetch or save it again.")
        total.update(view[done : done + count])
        done += count
    return buffer, total.hexdigest()


def check_download(path: Path, digest: str) -> None:
    """Raises CorruptWeightsError if a file of the Hub's cache has another hash than its name there."""
    blob = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", blob) and blob != digest:
        raise CorruptWeightsError(f"{path.name} has SHA-256 {digest[:12]}…; expected {blob[:12]}…. Fetch it again.")
