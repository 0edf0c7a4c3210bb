"""What the training of a run cost: steps, images, seconds, and the machine."""

import json
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from vaezoo.errors import VaezooError
from vaezoo.recipe import read_recipe
from vaezoo.trainer.metrics_log import METRICS, TIMING

MACHINE = "machine"
PROCESSOR = "model name"  # in /proc/cpuinfo


def record_machine(folder: Path, device: torch.device) -> None:
    """Adds the machine of a run to its times, which no figure depends on; without effect on a full disk."""
    with suppress(OSError), open(folder / TIMING, "ab") as file:
        file.write(f"{json.dumps({MACHINE: machine_of(device)})}\n".encode())


def machine_of(device: torch.device) -> str:
    """Returns a device as text: the name of a GPU, or that of the processor with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'s' * (threads != 1)}"


def processor() -> str:
    """Returns the name of the processor, or else of its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == PROCESSOR and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def training_cost(folder: Path) -> dict[str, object] | None:
    """Returns `steps`, `images`, `seconds` and `machine` of the run in a folder; None for a folder without its times.

    The times are those of the steps, without start, validation and checkpoints; steps that were repeated after an
    interruption count twice.
    """
    try:
        logged, timed = (lines_of(folder / name) for name in (METRICS, TIMING))
        sizes = [stage.batch_size * stage.accumulation for stage in read_recipe(folder).stages]
        batch = {int(line["step"]): sizes[int(line["stage"])] for line in logged}
        speeds = [(int(line["step"]), float(line["images_per_second"])) for line in timed if "step" in line]
        speeds = [(step, speed) for step, speed in speeds if step in batch and speed > 0]
    except (OSError, ValueError, TypeError, LookupError, VaezooError):
        return None
    if not speeds:
        return None
    steps = sorted({step for step, _ in speeds})
    images = {step: (step - before) * batch[step] for before, step in zip([0, *steps], steps, strict=False)}
    machines = [line[MACHINE] for line in timed if isinstance(line.get(MACHINE), str)]
    return {
        "steps": steps[-1],
        "images": sum(images.values()),
        "seconds": round(sum(images[step] / speed for step, speed in speeds)),
        MACHINE: machines[-1] if machines else None,
    }


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Returns the tables in a file with one in each line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
