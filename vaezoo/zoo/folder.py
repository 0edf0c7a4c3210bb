"""Model folders: `config.json`, `model.safetensors`, `README.md`, `metrics.json`; checked at every load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from vaezoo.checkpoint import canonical, library_version, parse_json, read_bytes, sha256, write_file
from vaezoo.errors import CheckpointError, ConfigError, CorruptWeightsError
from vaezoo.model import VAE, seeded
from vaezoo.registry import create
from vaezoo.zoo.card import model_card

__all__ = ["FORMAT", "published_state", "read_model", "save", "write_model"]

FORMAT = 1
CONFIG, WEIGHTS, CARD, METRICS = "config.json", "model.safetensors", "README.md", "metrics.json"
FIELDS = {"format", "vaezoo", "variant", "architecture", "options", "data", "recipe", "weights", "digest"}
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
    """Writes config, weights, card and metrics; the config last, since it vouches for the weights."""
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
    body["digest"] = sha256(canonical(body).encode())
    write_file(folder / WEIGHTS, weights)
    if metrics is not None:
        write_file(folder / METRICS, canonical(metrics).encode())
    write_file(folder / CARD, model_card(folder.name, body, metrics).encode())
    write_file(folder / CONFIG, canonical(body).encode())
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
    if config["format"] != FORMAT:
        raise CorruptWeightsError(
            f"{folder.name} has format {config['format']!r}; this vaezoo reads format {FORMAT}. Update vaezoo."
        )
    return config


def read_weights(folder: Path, config: Mapping[str, object]) -> bytes:
    """Returns the verified bytes of a folder's weights file."""
    facts = config["weights"]
    data = read_bytes(folder / WEIGHTS)
    if not isinstance(facts, dict) or len(data) != facts.get("size"):
        wanted = facts.get("size") if isinstance(facts, dict) else None
        raise CorruptWeightsError(f"{folder.name}/{WEIGHTS} has {len(data)} bytes; expected {wanted}. Fetch it again.")
    found, expected = sha256(data), str(facts.get("sha256"))
    if found != expected:
        raise CorruptWeightsError(
            f"{folder.name}/{WEIGHTS} has SHA-256 {found[:12]}…; expected {expected[:12]}…. It is damaged: fetch or "
            "save it again."
        )
    return data


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


def check_header(data: bytes, twin: VAE, name: str) -> None:
    """Compares the header of a weights file with a model on the meta device: names, shapes and types.

    Raises:
        CorruptWeightsError: what is missing, what is too much, what differs.
    """
    length = int.from_bytes(data[:8], "little")
    header = parse_json(data[8 : 8 + length], f"{name}'s header") if 8 + length <= len(data) else None
    if not isinstance(header, dict):
        raise CorruptWeightsError(f"{name} has no safetensors header.")
    wanted = {key: (tuple(value.shape), value.dtype) for key, value in published_meta(twin).items()}
    found = {
        key: (tuple(facts.get("shape", ())), DTYPES.get(str(facts.get("dtype"))))
        for key, facts in header.items()
        if key != "__metadata__" and isinstance(facts, dict)
    }
    if found != wanted:
        missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        differ = [
            f"{key}: got {found[key]}, expected {wanted[key]}"
            for key in sorted(wanted.keys() & found.keys())
            if wanted[key] != found[key]
        ]
        raise CorruptWeightsError(
            f"{name} does not fit the model that its config names. Missing: {missing[:5]}. Not expected: {extra[:5]}. "
            f"Different: {'; '.join(differ[:3]) or 'none'}."
        )


def published_meta(twin: VAE) -> dict[str, Tensor]:
    """Returns names and shapes of what is published, of a model whose critics are dropped."""
    return dict(twin.state_dict())


def read_model(folder: Path) -> VAE:
    """Returns the model of a folder, on the CPU and in eval mode; every byte verified before it is used.

    Raises:
        CorruptWeightsError: what was found and what was expected.
    """
    config = read_config(folder)
    data = read_weights(folder, config)
    twin = build(config, "meta")
    check_header(data, twin, f"{folder.name}/{WEIGHTS}")
    try:
        state = parse_tensors(data)
    except SafetensorError as error:
        raise CorruptWeightsError(f"{folder.name}/{WEIGHTS} is not a safetensors file: {error}.") from None
    broken = [
        key for key, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if broken:
        raise CorruptWeightsError(f"{folder.name}/{WEIGHTS} holds NaN or infinite values in {', '.join(broken[:5])}.")
    model = build(config, "cpu")
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(True)
    model.config = {key: config[key] for key in ("variant", "architecture", "options", "data", "recipe")}
    return model.eval()


def read_metrics(folder: Path) -> dict[str, object] | None:
    """Returns a folder's metrics, or None when it has none."""
    path = folder / METRICS
    return cast(dict[str, object], json.loads(path.read_bytes())) if path.exists() else None
