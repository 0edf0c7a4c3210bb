"""Model folders: `config.json`, `model.safetensors`, `README.md`, `metrics.json`; checked at every load."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor

from vaezoo.checkpoint import LARGEST_JSON, canonical, library_version, parse_json, read_bytes, sha256, write_file
from vaezoo.errors import CheckpointError, ConfigError, CorruptWeightsError
from vaezoo.model import VAE, seeded
from vaezoo.registry import create
from vaezoo.zoo.card import model_card
from vaezoo.zoo.shards import ONE_FILE, SHARD, file_of, is_weights, packed, recorded, weight_files

__all__ = ["FORMATS", "published_state", "read_model", "save", "verified_folder", "write_model"]

FORMATS = (1, 2)  # the second has its weights in several files
CONFIG, WEIGHTS, CARD, METRICS = "config.json", ONE_FILE, "README.md", "metrics.json"
FIELDS = {"format", "vaezoo", "variant", "architecture", "options", "data", "recipe", "weights", "digest"}
Kind = tuple[tuple[int, ...], torch.dtype]
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


def published_state(model: VAE) -> dict[str, Tensor]:
    """Returns what of a model is published: everything but the critics of adversarial objectives."""
    critics = tuple(f"objective.{name}." for name in getattr(model.objective, "critics", ()))
    state = model.state_dict()
    return {key: tensor.detach().cpu().contiguous() for key, tensor in state.items() if not key.startswith(critics)}


def drop_critics(model: VAE) -> None:
    """Removes the critics of an adversarial objective: what is loaded has only what was published."""
    for name in getattr(model.objective, "critics", ()):
        setattr(model.objective, name, None)


def save(
    model: VAE, folder: str | Path, *, metrics: Mapping[str, object] | None = None, shard_size: int = SHARD
) -> Path:
    """Writes a model folder that `load` reads, here or from the Hub, and returns its path.

    Args:
        model: made by name (`create`, `load`, `train`): its config says how to build it again.
        folder: created when missing; a model that is there is replaced.
        metrics: figures for `metrics.json` and the model card, such as `evaluate(...).as_dict()`.
        shard_size: bytes of tensors above which the weights are in several files, `model-00001-of-00003.safetensors`
            and so on; a single tensor is never cut.

    Raises:
        ConfigError: the model was put together by hand, so that no name builds it again; or `shard_size` is below 1.
        CheckpointError: disk full, no permission.
    """
    if model.config is None:
        raise ConfigError(
            "This model was changed by hand, so that its folder could not say how to build it again. Register what you "
            "changed as a variant (docs/adding-a-variant.md) and create the model by that name."
        )
    return write_model(Path(folder), model.config, published_state(model), metrics, shard_size)


def write_model(
    folder: Path,
    config: Mapping[str, object],
    state: Mapping[str, Tensor],
    metrics: Mapping[str, object] | None,
    shard_size: int = SHARD,
) -> Path:
    """Writes config, weights, card and metrics; the config last, since it vouches for the weights."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"Could not make {folder}: {error}. Choose another folder.") from None
    files = []
    for name, data in packed(state, shard_size):
        write_file(folder / name, data)
        files.append(file_of(name, data))
    number, weights = recorded(files)
    body: dict[str, object] = {
        "format": number,
        "vaezoo": library_version(),
        "variant": config["variant"],
        "architecture": config["architecture"],
        "options": config["options"],
        "data": config.get("data"),
        "recipe": config.get("recipe"),
        "weights": weights,
    }
    body["digest"] = sha256(canonical(body).encode())
    if metrics is not None:
        write_file(folder / METRICS, canonical(metrics).encode())
    write_file(folder / CARD, model_card(folder.name, body, metrics).encode())
    write_file(folder / CONFIG, canonical(body).encode())
    for path in folder.iterdir():  # of a model that was there before
        if is_weights(path.name) and path.name not in {file.name for file in files}:
            with suppress(OSError):
                path.unlink()
    return folder


def read_config(folder: Path) -> dict[str, object]:
    """Returns a folder's verified config.

    Raises:
        CorruptWeightsError: missing, malformed, or not the bytes that were written.
    """
    config = parse_json(read_bytes(folder / CONFIG), f"{folder.name}/{CONFIG}")
    if not isinstance(config, dict) or set(config) != FIELDS:
        raise CorruptWeightsError(
            f"{folder.name}/{CONFIG} has not the fields of a model config: expected {', '.join(sorted(FIELDS))}."
        )
    rest = {key: value for key, value in config.items() if key != "digest"}
    if sha256(canonical(rest).encode()) != config["digest"]:
        raise CorruptWeightsError(
            f"{folder.name}/{CONFIG} was changed after it was written (its digest differs). Fetch or save it again."
        )
    if config["format"] not in FORMATS:
        raise CorruptWeightsError(
            f"{folder.name} has format {config['format']!r}; this vaezoo reads {FORMATS}. Update vaezoo."
        )
    return config


def read_weights(folder: Path, config: Mapping[str, object]) -> Iterator[tuple[str, bytes]]:
    """Yields name and verified bytes of each file of weights."""
    for name, size, digest in weight_files(config, folder.name):
        data = read_bytes(folder / name)
        if len(data) != size:
            raise CorruptWeightsError(f"{folder.name}/{name} has {len(data)} bytes; expected {size}. Fetch it again.")
        found = sha256(data)
        if found != digest:
            raise CorruptWeightsError(
                f"{folder.name}/{name} has SHA-256 {found[:12]}…; expected {digest[:12]}…. It is damaged: fetch or "
                "save it again."
            )
        yield name, data


def verified_folder(folder: Path) -> dict[str, object]:
    """Returns the config of a folder, after every byte that it vouches for was compared; see `read_model`."""
    config = read_config(folder)
    for _ in read_weights(folder, config):
        pass
    return config


def build(config: Mapping[str, object], device: str) -> VAE:
    """Returns the model that a config names, on `device`, with whatever weights."""
    architecture, options = config["architecture"], config["options"]
    if not isinstance(architecture, dict) or not isinstance(options, dict):
        raise CorruptWeightsError("The config's architecture and options are no tables.")
    known = {"shape", "latent", "context", "backbone", "likelihood", "examples"}
    if set(architecture) != known:
        raise CorruptWeightsError(f"The config's architecture has not the fields {', '.join(sorted(known))}.")
    # Building draws initial weights: not from the caller's random state.
    with seeded(0, torch.device("cpu")), torch.device(device):
        model = create(str(config["variant"]), **architecture, **options)
    drop_critics(model)
    return model


def twin_of(config: Mapping[str, object], name: str) -> dict[str, Kind]:
    """Returns shape and type of each tensor that the model `name` must have, by its config.

    Raises:
        CorruptWeightsError: the files that the config records are too large for them, or too many.
    """
    wanted = {key: (tuple(value.shape), value.dtype) for key, value in build(config, "meta").state_dict().items()}
    tensors = sum(math.prod(shape) * dtype.itemsize for shape, dtype in wanted.values())
    files = weight_files(config, name)
    total = sum(file.size for file in files)
    if len(files) > max(len(wanted), 1) or total > tensors + LARGEST_JSON * len(files):
        raise CorruptWeightsError(
            f"{name} records {total} bytes of weights in {len(files)} files; the model that its config names has "
            f"{len(wanted)} tensors of {tensors} bytes."
        )
    return wanted


def check_header(data: bytes, wanted: Mapping[str, Kind], name: str, *, last: bool = True) -> None:
    """Compares the header of a file of weights with what is wanted: names, shapes and types.

    Args:
        data: the file.
        wanted: what the files before it did not have.
        name: of the file.
        last: whether no file follows, so that nothing may be missing.

    Raises:
        CorruptWeightsError: what is missing, what is too much, what differs.
    """
    length = int.from_bytes(data[:8], "little")
    header = parse_json(data[8 : 8 + length], f"{name}'s header") if 8 + length <= len(data) else None
    if not isinstance(header, dict):
        raise CorruptWeightsError(f"{name} has no safetensors header.")
    found = {
        key: (tuple(facts.get("shape", ())), DTYPES.get(str(facts.get("dtype"))))
        for key, facts in header.items()
        if key != "__metadata__" and isinstance(facts, dict)
    }
    missing, extra = sorted(wanted.keys() - found.keys()) if last else [], sorted(found.keys() - wanted.keys())
    differ = [
        f"{key}: got {found[key]}, expected {wanted[key]}"
        for key in sorted(wanted.keys() & found.keys())
        if wanted[key] != found[key]
    ]
    if missing or extra or differ:
        raise CorruptWeightsError(
            f"{name} does not fit the model that its config names. Missing: {missing[:5]}. Not expected: {extra[:5]}. "
            f"Different: {'; '.join(differ[:3]) or 'none'}."
        )


def read_model(folder: Path) -> VAE:
    """Returns the model of a folder, on the CPU and in eval mode; every byte verified before it is used.

    Raises:
        CorruptWeightsError: what was found and what was expected.
    """
    config = read_config(folder)
    wanted = twin_of(config, folder.name)
    left = len(weight_files(config, folder.name))
    state: dict[str, Tensor] = {}
    for name, data in read_weights(folder, config):
        left -= 1
        rest = {key: kind for key, kind in wanted.items() if key not in state}
        check_header(data, rest, f"{folder.name}/{name}", last=not left)
        state |= tensors_of(data, f"{folder.name}/{name}")
    model = build(config, "cpu")
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(True)
    model.config = {key: config[key] for key in ("variant", "architecture", "options", "data", "recipe")}
    return model.eval()


def tensors_of(data: bytes, name: str) -> dict[str, Tensor]:
    """Returns the tensors of a file whose header was checked; raises CorruptWeightsError for what is not finite."""
    try:
        state = parse_tensors(data)
    except SafetensorError as error:
        raise CorruptWeightsError(f"{name} is not a safetensors file: {error}.") from None
    broken = [
        key for key, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if broken:
        raise CorruptWeightsError(f"{name} holds NaN or infinite values in {', '.join(broken[:5])}.")
    return state


def read_metrics(folder: Path) -> dict[str, object] | None:
    """Returns a folder's metrics, or None when it has none."""
    path = folder / METRICS
    return cast(dict[str, object], json.loads(path.read_bytes())) if path.exists() else None
