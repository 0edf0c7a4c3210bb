"""Programs of `torch.export`, for `torch.export.load`."""

from collections.abc import Sequence
from pathlib import Path

import torch

from vaezoo.core import VAE
from vaezoo.storage.export.export import Written
from vaezoo.storage.export.programs import programs_of


def torch_export(model: VAE, folder: Path, parts: Sequence[str]) -> list[Written]:
    """Writes NAME.pt2 for each program. `torch.export.load` unpickles parts of such a file: load your own alone."""
    found = []
    for program in programs_of(model, parts):
        traced = program.traced()
        run = traced.module()
        difference = max(program.difference(batch, run(*batch)) for batch in program.batches())
        file = folder / f"{program.name}.pt2"
        torch.export.save(traced, file)  # written for other programs; vaezoo reads none
        found.append(Written.of(file.name, program, difference))
    return found
