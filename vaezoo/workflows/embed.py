"""`embed`: writes the latents of a data set into a file, a batch at a time; an interrupted call continues."""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vaezoo.core import (
    VAE,
    add_to_digest,
    check_model,
    evaluating,
    public_name,
    rows_at_once,
    weights_digest,
    whole_number,
)
from vaezoo.data import Dataset, StreamedDataset
from vaezoo.errors import CheckpointError, ConfigError, VaezooError
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.test_sets import test_set
from vaezoo.storage.array_files import Columns, writer_of
from vaezoo.storage.export.programs import has_codes
from vaezoo.storage.files import flush, library_version, write_file
from vaezoo.storage.json_files import canonical
from vaezoo.trainer.lock import locked
from vaezoo.workflows.load import load

STATE: Final = "state.json"
EVERY: Final = 1.0
"""Seconds between two records of progress."""


@dataclass
class Staging:
    """The folder OUT.part: an array file for each column, filled from the top, and the number of rows that are done.

    Args:
        folder: created if it is missing.
        identity: of model, data and options; rows of another identity are never continued.
    """

    folder: Path
    identity: str
    done: int = 0
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)  # Any: columns have several types

    def __post_init__(self) -> None:
        """Reads the number of rows; raises ConfigError if the folder is that of another embedding."""
        try:
            state = json.loads((self.folder / STATE).read_bytes())
            identity, self.done = str(state["identity"]), int(state["done"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return  # nothing was recorded
        if identity != self.identity:
            raise ConfigError(
                f"{self.folder} holds a part of another embedding: model, data or options differ. Repeat that call to "
                "complete it, or remove the folder."
            )

    def put(self, columns: Columns, total: int) -> None:
        """Writes the next rows of each column, (B, …), of `total` in all."""
        rows = len(next(iter(columns.values())))
        for name, values in columns.items():
            if name not in self.arrays:
                self.arrays[name] = self._map(name, values, total)
            self.arrays[name][self.done : self.done + rows] = values
        self.done += rows

    def _map(self, name: str, values: NDArray[Any], total: int) -> NDArray[Any]:
        file = self.folder / f"{name}.npy"
        if self.done:
            found: NDArray[Any] = np.load(file, mmap_mode="r+")
            return found
        shape = (total, *values.shape[1:])
        return np.lib.format.open_memmap(file, mode="w+", dtype=values.dtype, shape=shape)

    def record(self) -> None:
        """Flushes the rows to disk, and then their number."""
        for each in self.arrays.values():
            each.flush()  # type: ignore[attr-defined]  # memory maps
        write_file(self.folder / STATE, canonical({"identity": self.identity, "done": self.done}).encode())


def embed(
    model: VAE | str | Path,
    data: object,
    out: str | Path,
    *,
    split: str = "all",
    scaled: bool = False,
    binarize: str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    bar: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes the latents of a data set into a file, with labels and file names, and returns its path.

    Columns: `latents` (N, *latent), float32, the center of the posterior as `model.latents` returns it; `indices` (N,
    *grid) of a model with codes; `labels` (N,), int64, and `names` (N,), where the data have them; and the facts:
    class names, model, data, shape of the latents. Memory holds one batch, however large the data are. A call that was
    interrupted continues when it is repeated, and gives the same file, byte by byte; its rows are in OUT.part until
    then. Batches are the same in both cases, and depend on `batch_size` alone.

    Args:
        model: a model, or a name or folder for `vaezoo.load`.
        data: anything that `vaezoo.data.as_dataset` takes, such as "mnist" or "folder:PATH".
        out: a new file: `.npz`, `.safetensors` or `.parquet` (with latents flattened).
        split: of a named data set.
        scaled: whether to normalize the latents by the factors in the model's config; see `model.latents`.
        binarize: "none", "dynamic" or "static"; None for that of the training data.
        batch_size: number of examples at a time; None for what fits into little memory.
        device: "cpu", "cuda", … or "auto", for a model by name.
        bar: called with the number of rows that are done, and of all.

    Raises:
        UnknownNameError, DataError, ShapeError, SupportError, ContextError: see `vaezoo.evaluate`.
        ConfigError: another suffix, `out` exists, the part of another embedding is in the way, or no factors.
        MissingExtraError: `pip install 'vaezoo[parquet]'` is needed.
        CheckpointError: disk full, no permission, or another process writes the same file.
    """
    file = Path(out)
    writer_of(file)
    if file.exists():
        raise ConfigError(f"Got {file}, which exists; expected a new file. Remove it, or choose another name.")
    model = load(model, device=device) if isinstance(model, str | Path) else model
    check_model(model)
    found = test_set(model, data, split=split, binarize=binarize)
    size = rows_at_once(found.shape) if batch_size is None else whole_number(batch_size, "batch_size", 1)
    options = {"scaled": bool(scaled), "batch_size": size, "device": next(model.parameters()).device.type}
    folder = file.with_name(f"{file.name}.part")
    with locked(folder, "embedding"):
        staging = Staging(folder, identity_of(model, found, options))
        fill(staging, model, found, size, scaled=scaled, bar=bar)
        finish(file, staging, found, facts_of(model, found, options))
    shutil.rmtree(folder, ignore_errors=True)
    return file


def fill(
    staging: Staging,
    model: VAE,
    data: Dataset,
    size: int,
    *,
    scaled: bool,
    bar: Callable[[int, int], None] | None,
) -> None:
    """Writes the rows that are missing; what was written is recorded from time to time, and after an exception."""
    last = time.monotonic()
    try:
        with evaluating(model):
            for x, c in batches(model, data, size, start=staging.done):
                columns = {"latents": model.latents(x, c, scaled).float()}
                if has_codes(model):
                    columns["indices"] = model.encode_indices(x, c)
                staging.put({name: each.cpu().numpy() for name, each in columns.items()}, len(data))
                if bar is not None:
                    bar(staging.done, len(data))
                if time.monotonic() - last >= EVERY:
                    staging.record()
                    last = time.monotonic()
    except OSError as error:
        if isinstance(error, VaezooError):
            raise
        raise CheckpointError(f"Could not write {staging.folder}: {error}. Free space, then repeat the call.") from None
    finally:
        if staging.done:
            staging.record()


def finish(file: Path, staging: Staging, data: Dataset, facts: Mapping[str, object]) -> None:
    """Writes the file from the complete columns, atomically."""
    temporary = file.with_name(f".{uuid.uuid4().hex}{file.suffix}")
    names = ("latents", "indices")
    files = {name: path for name in names if (path := staging.folder / f"{name}.npy").exists()}
    columns = {name: np.load(path, mmap_mode="r") for name, path in files.items()}
    if data.labels is not None:
        columns["labels"] = data.labels.cpu().numpy()
    if data.names is not None:
        columns["names"] = np.array(data.names)
    try:
        writer_of(file)(temporary, columns, facts)
        flush(temporary)
        os.replace(temporary, file)
    except OSError as error:
        raise CheckpointError(f"Could not write {file}: {error}. Free space, then repeat the call.") from None
    finally:
        temporary.unlink(missing_ok=True)


def facts_of(model: VAE, data: Dataset, options: Mapping[str, object]) -> dict[str, object]:
    """Returns what the file states of its columns."""
    return {
        "vaezoo": library_version(),
        "variant": (model.config or {}).get("variant"),
        "weights": weights_digest(model),
        "data": public_name(data.name),
        "split": data.split,
        "latent": list(model.latent or ()),
        "class_names": list(data.class_names or ()),
        "scaled": options["scaled"],
    }


def identity_of(model: VAE, data: Dataset, options: Mapping[str, object]) -> str:
    """Returns a SHA-256 over model, data and options; of images that are streamed it covers names, sizes and times."""
    total = hashlib.sha256(canonical({**options, "model": weights_digest(model), "shape": data.shape}).encode())
    add_to_digest(total, labels=data.labels, context=data.context)
    total.update(f"{len(data)};{data.binarization};{data.scale};{data.names};{library_version()}".encode())
    if not isinstance(data, StreamedDataset):
        total.update(data.digest.encode())
        return total.hexdigest()
    for name in getattr(data.reader.source, "files", ()):
        status = os.stat(name)
        total.update(f"{name}:{status.st_size}:{status.st_mtime_ns};".encode())
    return total.hexdigest()
