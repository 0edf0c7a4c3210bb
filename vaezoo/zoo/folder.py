"""Model folders: `config.json`, `model.safetensors`, `README.md`, `metrics.json`; checked at every load."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from vaezoo.checkpoint import library_version, write_file
from vaezoo.documents import LARGEST_JSON, canonical, opened, parse_json, read_bytes, seal, sha256
from vaezoo.errors import CheckpointError, ConfigError, CorruptWeightsError
from vaezoo.model import VAE, seeded
from vaezoo.registry import create
from vaezoo.zoo.card import model_card
from vaezoo.zoo.config import CONFIG, FORMAT, WEIGHTS, check_config, read_config
from vaezoo.zoo.header import LENGTH, check_header, check_sizes

__all__ = [
    "CARD",
    "CONFIG",
    "FORMAT",
    "METRICS",
    "WEIGHTS",
    "published_state",
    "read_config",
    "read_metrics",
    "read_model",
    "read_weights",
    "save",
    "write_model",
]

CARD, METRICS = "README.md", "metrics.json"
SPARE = 2**24  # unpublished numbers, such as critics', that even the smallest model may have


def published_state(model: VAE) -> dict[str, Tensor]:
    """Returns what of a model is published: everything but the critics of adversarial objectives."""
    critics = tuple(f"objective.{name}." for name in getattr(model.objective, "critics", ()))
    state = model.state_dict()
    return {key: tensor.detach().cpu().contiguous() for key, tensor in state.items() if not key.startswith(critics)}


def drop_critics(model: VAE) -> None:
    """Removes the critics of an adversarial objective: what is loaded has only what was published."""
    for name in getattr(model.objective, "critics", ()):
        setattr(model.objective, name, None)


def save(model: VAE, folder: str | Path, *, metrics: Mapping[str, object] | None = None) -> Path:
    """Writes a model folder that `load` reads, here or from the Hub, and returns its path.

    Args:
        model: made by name (`create`, `load`, `train`): its config says how to build it again.
        folder: created when missing; a model that is there is replaced.
        metrics: figures for `metrics.json` and the model card, such as `evaluate(...).as_dict()`.

    Raises:
        ConfigError: the model was put together by hand, so that no name builds it again.
        CheckpointError: disk full, no permission.
    """
    if model.config is None:
        raise ConfigError(
            "This model was changed by hand, so that its folder could not say how to build it again. Register what you "
            "changed as a variant (docs/adding-a-variant.md) and create the model by that name."
        )
    return write_model(Path(folder), model.config, published_state(model), metrics)


def write_model(
    folder: Path, config: Mapping[str, object], state: Mapping[str, Tensor], metrics: Mapping[str, object] | None
) -> Path:
    """Writes config, weights, card and metrics; the config last, since it vouches for the weights.

    Raises:
        ConfigError: the config says what none may say.
        CheckpointError: disk full, no permission.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"Could not make {folder}: {error}. Choose another folder.") from None
    weights = pack_tensors(dict(sorted(state.items())))
    body: dict[str, object] = {
        "format": FORMAT,
        "vaezoo": library_version(),
        "variant": config["variant"],
        "architecture": config["architecture"],
        "options": config["options"],
        "data": config.get("data"),
        "recipe": config.get("recipe"),
        "weights": {"file": WEIGHTS, "size": len(weights), "sha256": sha256(weights)},
    }
    try:
        check_config(body)
    except ConfigError as error:
        raise ConfigError(f"{folder} could not be read again with this config: {error}.") from None
    write_file(folder / WEIGHTS, weights)
    if metrics is not None:
        write_file(folder / METRICS, canonical(metrics).encode())
    write_file(folder / CARD, model_card(folder.name, body, metrics).encode())
    write_file(folder / CONFIG, seal(body))
    return folder


def read_weights(folder: Path, config: Mapping[str, object], twin: VAE | None = None) -> bytes:
    """Returns the verified bytes of a folder's weights file: those of the model that the config names.

    Args:
        folder: of the model.
        config: its verified config.
        twin: the model on the meta device; made from the config where None.

    Raises:
        CorruptWeightsError: size, SHA-256 or header are not the recorded ones.
    """
    facts = cast(Mapping[str, object], config["weights"])
    name, expected = f"{folder.name}/{WEIGHTS}", cast(int, facts["size"])
    with opened(folder / WEIGHTS) as file:
        size = os.fstat(file.fileno()).st_size
        if size != expected:
            raise CorruptWeightsError(f"{name} has {size} bytes; expected {expected}. Fetch it again.")
        wanted = (meta_twin(config) if twin is None else twin).state_dict()
        check_sizes(size, file.read(LENGTH), wanted, name)
        file.seek(0)
        data = file.read(size)
    found = sha256(data)
    if found != facts["sha256"]:
        raise CorruptWeightsError(
            f"{name} has SHA-256 {found[:12]}…; expected {str(facts['sha256'])[:12]}…. It is damaged: fetch or save it "
            "again."
        )
    check_header(data, wanted, name)
    return data


def build(config: Mapping[str, object], device: str) -> VAE:
    """Returns the model that a config names, on `device`, critics included, with whatever weights."""
    architecture = cast(Mapping[str, Any], config["architecture"])  # Any: each checked by `create`
    options = cast(Mapping[str, object], config["options"])
    shadowed = options.keys() & {*architecture, "variant"}
    if shadowed:
        raise CorruptWeightsError(f"The config's options name what is none: {', '.join(sorted(shadowed))}.")
    # Building draws initial weights: not from the caller's random state.
    with seeded(0, torch.device("cpu")), torch.device(device):
        return create(str(config["variant"]), **architecture, **options)


def meta_twin(config: Mapping[str, object]) -> VAE:
    """Returns the published part of the model that a config names, on the meta device, where it takes no memory.

    Raises:
        CorruptWeightsError: what is not published is out of proportion to what is, so that a small file would take
            much memory.
    """
    model = build(config, "meta")
    total = sum(tensor.numel() for tensor in chain(model.parameters(), model.buffers()))
    drop_critics(model)
    published = sum(tensor.numel() for tensor in model.state_dict().values())
    if total - published > 4 * published + SPARE:
        raise CorruptWeightsError(
            f"The config names a model of {published:,} numbers with critics of {total - published:,}; expected at "
            f"most {4 * published + SPARE:,}."
        )
    return model


def read_model(folder: Path) -> VAE:
    """Returns the model of a folder, on the CPU and in eval mode; every byte verified before it is used.

    Raises:
        CorruptWeightsError: what was found and what was expected.
        ConfigError, UnknownNameError, ShapeError: the config names a model that cannot be built.
    """
    config = read_config(folder)
    state = parse_state(read_weights(folder, config), f"{folder.name}/{WEIGHTS}")
    model = build(config, "cpu")
    drop_critics(model)
    model.load_state_dict(state, strict=True, assign=True)
    kinds = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    model.to(dtype=kinds.pop() if len(kinds) == 1 else None)  # what is not saved follows what is
    model.requires_grad_(True)
    model.config = {key: config[key] for key in ("variant", "architecture", "options", "data", "recipe")}
    return model.eval()


def parse_state(data: bytes, name: str) -> dict[str, Tensor]:
    """Returns the tensors of a verified weights file; raises CorruptWeightsError for a value that is not finite."""
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
    """Returns a folder's metrics, or None when it has none.

    Raises:
        CorruptWeightsError: they are no table of figures.
    """
    path = folder / METRICS
    if not path.exists():
        return None
    metrics = parse_json(read_bytes(path, LARGEST_JSON), f"{folder.name}/{METRICS}")
    if not isinstance(metrics, dict):
        raise CorruptWeightsError(f"{folder.name}/{METRICS} holds no table. Measure the model again.")
    return metrics
