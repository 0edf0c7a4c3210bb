"""Model folders: `config.json`, `model.safetensors`, `README.md`, `metrics.json`; verified at every load."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor

from vaezoo.core import LATENTS, VAE, all_finite, expanded, public_name, published_state, seeded, weights_digest
from vaezoo.core.undrawn import Undrawn
from vaezoo.errors import ConfigError, CorruptWeightsError, UnknownNameError, VaezooError, printable, shorten, warn
from vaezoo.recipe import OF_A_RUN, read_recipe
from vaezoo.registry import recreate
from vaezoo.storage.config import (
    CONFIG,
    LARGEST_CONFIG,
    LOADED_AS,
    ORIGIN,
    WEIGHTS,
    WeightFile,
    check_config,
    file_names,
    weight_files,
)
from vaezoo.storage.figures import MEASURED_ON, METRICS, figures_of, parse_figures
from vaezoo.storage.files import library_version, write_file
from vaezoo.storage.json_files import LARGEST_JSON, canonical, opened, read_bytes, sha256
from vaezoo.storage.model_card import model_card
from vaezoo.storage.replace import put_config, put_model, read_whole
from vaezoo.storage.weight_files import SHARD, narrow, packed, record_of, weights_fields, widen
from vaezoo.storage.weights_header import LENGTH, check_header, longest_header

CARD = "README.md"
SINGLE_FILES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pkl", ".pickle", ".h5", ".onnx", ".npz"})
SPARE = 2**24  # unpublished numbers, such as critics', that are always allowed


def drop_critics(model: VAE) -> None:
    """Removes the critics of an adversarial objective, which are not saved."""
    for name in model.objective.critics:
        setattr(model.objective, name, None)


def save(
    model: VAE,
    folder: str | Path,
    *,
    metrics: Mapping[str, object] | None = None,
    shard_size: int = SHARD,
    dtype: str | torch.dtype | None = None,
) -> Path:
    """Writes a model folder, which `load` reads, and returns its path.

    Args:
        model: made by name (`create`, `load`, `train`), so that its config describes it.
        folder: created when missing; an existing model is replaced.
        metrics: figures for `metrics.json` and the model card, such as `evaluate(...).as_dict()`.
        shard_size: bytes of tensors above which the weights are in several files, `model-00001-of-00003.safetensors`
            and so on; a single tensor is never divided.
        dtype: "float16" or "bfloat16" to store a float32 model in half the size; `load` returns it as float32, with
            the rounded weights. None stores the model's own type.

    A process that reads the folder meanwhile, or after a crash, finds the previous or the new model. Figures of the
    previous model are removed with a warning. A name that ends like that of a file of weights, such as "x.pt", becomes
    a folder too, with a warning.

    Raises:
        ConfigError: the model was changed by hand, so that no name builds it again; it has NaN or infinite weights;
            `metrics` are malformed or those of other weights; `shard_size` is below 1; or `dtype` is another type or
            too narrow for a weight. Nothing is written.
        CheckpointError: disk full, no permission; a previous model is intact.
    """
    if not isinstance(model, VAE) or not isinstance(folder, str | Path):
        raise ConfigError(
            f"Got a {type(model).__name__} to save in a {type(folder).__name__}; expected a VAE and a path, as in "
            "vaezoo.save(model, 'mine')."
        )
    if model.config is None:
        raise ConfigError(
            "This model was changed by hand, and no config can describe it. Register the change as a variant "
            "(docs/guides/adding-a-variant.md) and create the model by that name."
        )
    if Path(folder).suffix.lower() in SINGLE_FILES:
        warn(
            f"{shorten(str(folder))} becomes a folder with config, weights and card, which vaezoo.load reads. For one "
            "file of weights without a config use torch.save(model.state_dict(), PATH)."
        )
    config, state = model.config, published_state(model)
    if dtype is not None:
        config, state = {**config, LOADED_AS: "float32"}, narrow(state, dtype)
    return write_model(Path(folder), config, state, metrics, shard_size)


def write_model(
    folder: Path,
    config: Mapping[str, object],
    state: Mapping[str, Tensor],
    metrics: Mapping[str, object] | None,
    shard_size: int = SHARD,
) -> Path:
    """Writes weights, metrics, card and config; see `save`.

    Raises:
        ConfigError: the config, the weights or the metrics are invalid.
        CheckpointError: disk full, no permission.
    """
    try:
        body = check_recordable(config)
        check_state(body, state)
    except ConfigError as error:
        raise ConfigError(f"{folder} could not be read again with this model: {error}.") from None
    if shard_size < 1:
        raise ConfigError(f"Got {shard_size} bytes a file; expected at least 1.")
    digest = weights_digest(widen(state) if LOADED_AS in body else state)
    figures = kept_figures(folder, digest) if metrics is None else figures_of(metrics, digest)
    others = {
        METRICS: None if figures is None else canonical(figures).encode(),
        CARD: own_card(folder, body, figures),
    }
    put_model(folder, body, packed(state, shard_size), others)
    return folder


def own_card(folder: Path, config: Mapping[str, object], figures: Mapping[str, object] | None) -> bytes:
    """Returns the card of a folder, whose commands work in the folder above it."""
    name = printable(folder.name or folder.absolute().name)
    recipe = f"./{name}/{OF_A_RUN}" if (folder / OF_A_RUN).is_file() else ""
    shown, moved = {**config, **without_paths(config)}, bool(recipe) and has_relative_data(folder)
    return model_card(name, shown, figures, address=f"./{name}", recipe=recipe, moved=moved).encode()


def has_relative_data(folder: Path) -> bool:
    """Returns whether the recipe in a folder gives its data by a path that depends on the current folder."""
    with suppress(VaezooError):
        kind, _, path = read_recipe(folder).data.name.partition(":")
        return kind in ("folder", "table", "series") and not expanded(path).is_absolute()
    return False


def check_state(config: Mapping[str, object], state: Mapping[str, Tensor]) -> None:
    """Raises ConfigError unless tensors are finite and have the names and shapes of a config's model."""
    broken = [key for key, value in state.items() if not all_finite(value)]
    if broken:
        raise ConfigError(
            f"NaN or infinite weights in {', '.join(broken[:5])}. Save an earlier checkpoint, or train with a lower "
            "learning rate"
        )
    found = {key: tuple(value.shape) for key, value in state.items()}
    wanted = {key: tuple(value.shape) for key, value in meta_twin(config).state_dict().items()}
    differ = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    if differ:
        raise ConfigError(
            f"tensors that differ from those of its config: {shorten(differ[:5], 300)}. Register the change as a "
            "variant (docs/guides/adding-a-variant.md)"
        )


def kept_figures(folder: Path, digest: str) -> dict[str, object] | None:
    """Returns the figures in a folder if they are those of the weights with this digest; otherwise None, and warns."""
    if not (folder / METRICS).exists():
        return None
    with suppress(CorruptWeightsError):
        figures = stored_figures(folder)
        if figures.get(MEASURED_ON) == digest:
            return figures
    warn(f"{folder / METRICS} has figures of the previous weights and is removed. Evaluate the new model.")
    return None


def check_recordable(config: Mapping[str, object]) -> dict[str, object]:
    """Returns the fields of `config.json` for a model's config, without its weights, after they were validated.

    Raises:
        ConfigError: the folder could not be read again.
    """
    body = {"vaezoo": library_version(), **weights_fields([record_of(WEIGHTS, b"")])}  # until they are written
    body |= {key: config.get(key) for key in ("variant", "architecture", "options", "data", "recipe")}
    body |= without_paths(config)
    body |= {key: config[key] for key in (ORIGIN, LOADED_AS, LATENTS) if config.get(key) is not None}
    check_config(body)
    if (size := len(canonical(body).encode())) > LARGEST_CONFIG:
        raise ConfigError(
            f"a {CONFIG} of {size:,} bytes; expected at most {LARGEST_CONFIG:,}. Leave out columns of the table, or "
            "give columns, categories and classes shorter names"
        )
    return body


def without_paths(config: Mapping[str, object]) -> dict[str, object]:
    """Returns the field `data` of a config, if it has one, with the public name of the data."""
    data = config.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        return {}
    return {"data": {**data, "name": public_name(data["name"])}}


def check_savable(model: VAE, folder: Path) -> None:
    """Raises ConfigError if `save` could not write the model's config and card into the folder."""
    own_card(folder, check_recordable(model.config or {}), None)


def read_weights(folder: Path, config: Mapping[str, object]) -> dict[str, Tensor]:
    """Returns the verified tensors of a folder's weights, in the type in which they are loaded.

    Raises:
        CorruptWeightsError: size, SHA-256 or header are not the recorded ones, or a value is not finite.
    """
    files, widened = weight_files(config), config.get(LOADED_AS) is not None
    rest = check_total(config, folder.name)
    state: dict[str, Tensor] = {}
    for file in files:
        name = f"{folder.name}/{file.file}"
        data = read_weight_file(folder, file, longest_header(rest))
        kind = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), None)
        check_header(data, rest, name, last=file is files[-1], kind=kind, widened=widened)
        tensors = parse_state(data, name)
        tensors = widen(tensors) if widened else tensors
        rest = {key: tensor for key, tensor in rest.items() if key not in tensors}
        state |= tensors
    return state


def read_weight_file(folder: Path, file: WeightFile, longest: int | None = None) -> bytes:
    """Returns the bytes of a file of weights after their size and SHA-256 were compared with the record.

    Args:
        folder: of the model.
        file: the record.
        longest: the largest header, in bytes; None does not limit it.

    Raises:
        CorruptWeightsError: they differ.
    """
    name = f"{folder.name}/{file.file}"
    with opened(folder / file.file) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != file.size:
            raise CorruptWeightsError(f"{name} has {size} bytes; expected {file.size}. Fetch it again.")
        most = size - LENGTH if longest is None else min(longest, size - LENGTH)
        claimed = int.from_bytes(stream.read(LENGTH), "little")
        if claimed > most:
            raise CorruptWeightsError(
                f"{name} claims a header of {claimed:,} bytes; a model of this config has one of at most "
                f"{max(0, most):,}. It is damaged: fetch or save it again."
            )
        stream.seek(0)
        data = stream.read(size)
    found = sha256(data)
    if found != file.sha256:
        raise CorruptWeightsError(
            f"{name} has SHA-256 {found[:12]}…; expected {file.sha256[:12]}…. It is damaged: fetch or save it again."
        )
    return data


def check_total(config: Mapping[str, object], name: str) -> dict[str, Tensor]:
    """Returns the tensors of a config's model on the meta device, after its recorded file sizes were checked.

    Raises:
        CorruptWeightsError: the config of `name` records too many or too large files.
    """
    files, wanted = weight_files(config), meta_twin(config).state_dict()
    total = sum(file.size for file in files)
    most = (LENGTH + 64) * len(files) + longest_header(wanted) + sum(8 * tensor.numel() for tensor in wanted.values())
    if len(files) > max(len(wanted), 1) or total > most:
        raise CorruptWeightsError(
            f"{name} records {total:,} bytes of weights in {len(files)} files; a model of this config has "
            f"{len(wanted)} tensors in at most {most:,} bytes. Fetch or save it again."
        )
    return dict(wanted)


def verified_folder(folder: Path) -> dict[str, object]:
    """Returns the config of a folder after its weights were verified; see `read_weights`."""

    def verified(config: dict[str, object]) -> dict[str, object]:
        read_weights(folder, config)
        return config

    return read_whole(folder, verified)


def copy_folder(source: Path, target: Path, files: Sequence[str] = (METRICS, CARD)) -> None:
    """Copies a model after it was verified, with those of `files` that exist; paths of the user are left out.

    Raises:
        CorruptWeightsError, ConfigError, CheckpointError: see `read_model` and `write_model`.
    """

    def copy(config: dict[str, object]) -> None:
        read_weights(source, config)
        weights = weight_files(config)
        names = file_names(len(weights))
        data = ((name, read_weight_file(source, file)) for name, file in zip(names, weights, strict=True))
        others = {file: read_bytes(source / file, LARGEST_JSON) if (source / file).exists() else None for file in files}
        put_model(target, {**config, **without_paths(config)}, data, others)

    read_whole(source, copy)


def build(config: Mapping[str, object], device: str) -> VAE:
    """Returns the model of a config on `device`, with critics and initial weights.

    Raises:
        UnknownNameError: a variant, backbone or likelihood that is not installed.
        CorruptWeightsError, ConfigError, ShapeError: the config's model cannot be built.
    """
    architecture = cast(Mapping[str, Any], config["architecture"])  # Any: `create` checks each
    options = cast(Mapping[str, Any], config["options"])  # likewise
    shadowed = options.keys() & {*architecture, "variant"}
    if shadowed:
        raise CorruptWeightsError(f"The config has options that are not options: {', '.join(sorted(shadowed))}.")
    # Initial weights must not change the caller's random state.
    with seeded(0), torch.device(device):
        try:
            return recreate(str(config["variant"]), options, **architecture)
        except UnknownNameError as error:
            hint = "The model's config names it: another package may bring it, or a newer vaezoo. Install that one."
            raise UnknownNameError(error.kind, error.name, error.known, hint) from None


def meta_twin(config: Mapping[str, object]) -> VAE:
    """Returns the model of a config without critics, on the meta device, where it takes no memory.

    Raises:
        CorruptWeightsError: the critics are so large that a small file would take much memory.
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
    """Returns the model of a folder on the CPU, in eval mode; every byte is verified before it is used.

    Raises:
        CorruptWeightsError: a file is damaged; with the found and the expected value.
        ConfigError, UnknownNameError, ShapeError: the config's model cannot be built.
    """
    config, state = read_whole(folder, lambda config: (config, read_weights(folder, config)))
    return assembled(config, state)


def assembled(config: Mapping[str, object], state: Mapping[str, Tensor]) -> VAE:
    """Returns the model of a config with verified tensors, on the CPU, in eval mode."""
    with Undrawn():
        model = build(config, "cpu")
    drop_critics(model)
    model.load_state_dict(state, strict=True, assign=True)
    kinds = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    model.to(dtype=kinds.pop() if len(kinds) == 1 else None)  # unsaved buffers too
    model.requires_grad_(True)
    known = ("variant", "architecture", "options", "data", "recipe", ORIGIN, LATENTS)
    model.config = {key: config[key] for key in known if key in config}
    return model.eval()


def parse_state(data: bytes, name: str) -> dict[str, Tensor]:
    """Returns the tensors of a verified weights file; raises CorruptWeightsError if a value is not finite."""
    try:
        state = parse_tensors(data)
    except SafetensorError as error:
        raise CorruptWeightsError(f"{name} is not a safetensors file: {error}.") from None
    broken = [key for key, value in state.items() if not all_finite(value)]
    if broken:
        raise CorruptWeightsError(f"{name} holds NaN or infinite values in {', '.join(broken[:5])}.")
    return state


def stored_figures(folder: Path) -> dict[str, object]:
    """Returns the content of a folder's `metrics.json`, whatever its weights; raises CorruptWeightsError."""
    return parse_figures(read_bytes(folder / METRICS, LARGEST_JSON), f"{folder.name}/{METRICS}")


def read_metrics(folder: Path) -> dict[str, object] | None:
    """Returns a folder's metrics, or None when it has none, or, with a warning, none of its present weights.

    Raises:
        CorruptWeightsError: they are malformed, or the folder is damaged.
    """
    if not (folder / METRICS).exists():
        return None
    figures = stored_figures(folder)
    digest = read_whole(folder, lambda config: weights_digest(read_weights(folder, config)))
    if figures.get(MEASURED_ON) == digest:
        return figures
    found = "records no weights" if figures.get(MEASURED_ON) is None else "was measured on other weights"
    warn(f"{folder / METRICS} {found} and is not used. Measure again: vaezoo evaluate {folder} --write.")
    return None


def write_metrics(folder: Path, figures: Mapping[str, object]) -> None:
    """Replaces the metrics and the card of a model folder.

    Raises:
        ConfigError: the figures are malformed, or those of other weights.
        CorruptWeightsError: the folder is damaged.
        CheckpointError: disk full, no permission.
    """
    config, state = read_whole(folder, lambda config: (config, read_weights(folder, config)))
    checked = figures_of(figures, weights_digest(state))
    write_file(folder / METRICS, canonical(checked).encode())
    write_file(folder / CARD, own_card(folder, config, checked))


def write_latents(folder: Path, facts: Mapping[str, object]) -> None:
    """Replaces the factors of the latents in the config and the card of a model folder; the weights are unchanged.

    Raises:
        ConfigError: the factors are invalid.
        CorruptWeightsError: the folder is damaged.
        CheckpointError: disk full, no permission.
    """
    figures = read_metrics(folder)
    config = {**read_whole(folder, lambda config: config), LATENTS: dict(facts)}
    put_config(folder, config)
    write_file(folder / CARD, own_card(folder, config, figures))
