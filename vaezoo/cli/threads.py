"""The number of threads of a training on a CPU."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING

from vaezoo.errors import ConfigError

if TYPE_CHECKING:
    from vaezoo.trainer import Trainer
    from vaezoo.workflows.train import Around

FLOPS_PER_THREAD = 2**27  # of a forward pass: with fewer, threads wait for each other longer than they compute
SAMPLED = 2  # examples of which the operations are counted
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def thread_setter(requested: int | None) -> "Around":
    """Returns a function of a trainer that returns a context with `set_threads`; the number is restored at its end.

    Raises:
        ConfigError: a number below 1.
    """
    if requested is not None and requested < 1:
        raise ConfigError(f"Got threads = {requested}; expected 1 or more. Leave --threads out to use a default.")

    @contextmanager
    def around(trainer: "Trainer") -> Iterator[None]:
        with with_threads():
            set_threads(trainer, requested)
            yield

    return around


@contextmanager
def with_threads(number: int | None = None) -> Iterator[None]:
    """Sets the number of threads, if one is given, and restores it at the end of the block."""
    import torch

    most = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(most)


def set_threads(trainer: "Trainer", requested: int | None) -> None:
    """Sets and logs the number of threads: `requested`, else that of the environment, else by the model's size.

    On other devices than a CPU only `requested` has an effect.
    """
    import torch

    if requested is None and trainer.device.type != "cpu":
        return
    most = torch.get_num_threads()
    variable = next((name for name in VARIABLES if os.environ.get(name)), None)
    if requested is not None:
        number, reason = requested, "--threads"
    elif variable is not None:
        number, reason = most, variable
    else:
        number, reason = chosen_threads(trainer, most)
    torch.set_num_threads(number)
    logging.getLogger("vaezoo").info("Threads: %d (%s).", number, reason)


def chosen_threads(trainer: "Trainer", most: int) -> tuple[int, str]:
    """Returns a number of threads up to `most` by the operations of a forward pass, and the reason."""
    change = "--threads N sets another number"
    try:
        flops = flops_of_a_pass(trainer)
    except Exception:  # of a model that does not fit the data, which training reports
        return most, f"all; {change}"
    number = min(most, max(1, round(flops / FLOPS_PER_THREAD)))
    return number, f"a forward pass has {flops / 1e6:,.0f} million operations; {change}"


def flops_of_a_pass(trainer: "Trainer") -> float:
    """Returns the floating-point operations of matrix products and convolutions in a forward pass of a batch."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from vaezoo.core import seeded

    model = deepcopy(trainer.model).train()  # an objective may count its calls
    rows = torch.arange(min(SAMPLED, len(trainer.data)))
    x = trainer.data.batch(rows).to(trainer.device)
    c = torch.zeros(len(rows), model.context, device=x.device) if model.context else None
    with seeded(0), FlopCounterMode(display=False) as counter:
        model.objective(model, x, c, None)
    batch = max(min(stage.batch_size, len(trainer.data)) for stage in trainer.recipe.stages)
    return float(counter.get_total_flops()) * batch / len(rows)
