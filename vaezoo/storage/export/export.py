"""`export_model`: writes the programs of a model into a new folder; formats by name."""

import copy
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import torch

from vaezoo.core import VAE, class_names
from vaezoo.errors import CheckpointError, ConfigError, ExportError, VaezooError
from vaezoo.registry import Registry
from vaezoo.storage.export.programs import PARTS, Program
from vaezoo.storage.files import library_version, make_folder, write_file
from vaezoo.storage.json_files import canonical

DESCRIPTION: Final = "export.json"


@dataclass(frozen=True, kw_only=True)
class Written:
    """A file of an export: its inputs and outputs with the shape of one example, and its difference from the model.

    `difference` is the largest one of any output, relative to 1 + |output of the model|.
    """

    file: str
    inputs: Mapping[str, list[int]]
    outputs: Mapping[str, list[int]]
    difference: float

    @classmethod
    def of(cls, file: str, program: Program, difference: float) -> Self:
        """Returns the record of the file of a program."""
        outputs = zip(program.module.outputs, program.module(*program.inputs.values()), strict=True)
        return cls(
            file=file,
            inputs={name: list(each.shape[1:]) for name, each in program.inputs.items()},
            outputs={name: list(each.shape[1:]) for name, each in outputs},
            difference=difference,
        )

    def __str__(self) -> str:
        """Returns one line."""
        sides = (", ".join(f"{name} {shape}" for name, shape in each.items()) for each in (self.inputs, self.outputs))
        return f"{self.file}: {' -> '.join(sides)}; differs from the model by at most {self.difference:.1e}"


Format = Callable[[VAE, Path, Sequence[str]], list[Written]]
"""Writes the named parts of a model, in eval mode on the CPU, into an empty folder, and returns its files.

It compares each file with the model before it returns, and raises ExportError if they differ.
"""

# One file each in `vaezoo.storage.export.formats`; other packages add theirs as entry points.
formats: Registry[Format] = Registry("export format", "vaezoo.exports", "vaezoo.storage.export.formats", callable)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported model: its folder, the format, and a record for each file."""

    folder: Path
    format: str
    files: tuple[Written, ...]

    def __str__(self) -> str:
        """Returns a line for each file."""
        return "\n".join([f"Wrote {self.folder} ({self.format}):", *(f"  {each}" for each in self.files)])


def export_model(model: VAE, out: Path, format: str, parts: Sequence[str] = PARTS) -> Exported:
    """Writes a model's programs and `export.json`, which describes them, into a new or empty folder; all or nothing.

    The programs are float32 on the CPU, as the given model is in eval mode; the model itself is unchanged.

    Raises:
        UnknownNameError: no such format.
        ConfigError: unknown parts, or a folder that is not empty.
        ExportError: the model has no such program, or the program computes other values.
        MissingExtraError: a package of the format is not installed.
        CheckpointError: disk full, no permission.
    """
    write = formats.get(format)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"Got {out}, which is not empty; expected a new or empty folder. Choose another one.")
    own = copy.deepcopy(model).cpu().float().eval()
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    make_folder(temporary)
    try:
        files = written(write, own, temporary, parts)
        done = Exported(folder=out, format=format, files=tuple(files))
        write_file(temporary / DESCRIPTION, canonical(description(own, done)).encode())
        with suppress(FileNotFoundError):
            out.rmdir()
        os.replace(temporary, out)
    except OSError as error:
        if isinstance(error, VaezooError):
            raise
        raise CheckpointError(f"Could not write {out}: {error}. Free space, or choose another folder.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return done


def written(write: Format, model: VAE, folder: Path, parts: Sequence[str]) -> list[Written]:
    """Returns the files that a format wrote; raises ExportError for a model that torch or a runtime cannot express."""
    try:
        with torch.no_grad():  # a switch of gradients within a program cannot be stored
            return write(model, folder, parts)
    except (VaezooError, OSError):
        raise
    except Exception as error:  # torch.export, torch.onnx and the runtimes raise many types
        reason = str(error).strip().splitlines() or [""]
        raise ExportError(
            f"The model cannot be expressed in this format: {type(error).__name__}: {reason[0]} Try another format."
        ) from error


def description(model: VAE, done: Exported) -> dict[str, object]:
    """Returns the content of `export.json`."""
    config = model.config or {}
    return {
        "format": done.format,
        "vaezoo": library_version(),
        "variant": config.get("variant"),
        "class_names": list(class_names(config)),
        "files": [asdict(each) for each in done.files],
    }
