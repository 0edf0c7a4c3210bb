"""ONNX graphs, for onnxruntime and other runtimes."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from vaezoo.core import VAE, require
from vaezoo.storage.export.export import Written
from vaezoo.storage.export.programs import Program, programs_of

LARGEST_FILE = 1_500_000_000
"""Bytes of weights above which they are in a file of their own: protocol buffers end at 2 GB."""


def onnx(model: VAE, folder: Path, parts: Sequence[str]) -> list[Written]:
    """Writes NAME.onnx for each program; needs onnx, onnxscript and onnxruntime."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "'vaezoo[onnx]'", "Export to ONNX")
    found = []
    for program in programs_of(model, parts):
        file = folder / f"{program.name}.onnx"
        with without_notes():
            graph = torch.onnx.export(
                program.traced(), input_names=list(program.inputs), output_names=list(program.module.outputs),
                dynamo=True, verbose=False,
            )  # fmt: skip
        assert graph is not None
        size = sum(each.nbytes for each in program.module.state_dict().values())
        graph.save(file, external_data=size > LARGEST_FILE)
        found.append(Written.of(file.name, program, compared(file, program)))
    return found


def compared(file: Path, program: Program) -> float:
    """Returns the largest difference of a file in onnxruntime from the model; see `Program.difference`."""
    runtime = require("onnxruntime", "'vaezoo[onnx]'", "Export to ONNX")
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def outputs(batch: Sequence[Tensor]) -> list[Tensor]:
        given = {name: each.numpy() for name, each in zip(program.inputs, batch, strict=True)}
        return [torch.from_numpy(each) for each in session.run(list(program.module.outputs), given)]

    return max(program.difference(batch, outputs(batch)) for batch in program.batches())


@contextmanager
def without_notes() -> Iterator[None]:
    """Leaves out, inside the block, what torch logs about operations of torchvision that no model uses."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
