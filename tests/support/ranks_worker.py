"""The worker process of the tests of training by two processes."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from support.runs import RANKS_RECIPES, SHARDED_RECIPES, equal, fit, small_data, trainer
from vaezoo.errors import InterruptedTrainingError, NonFiniteLossError
from vaezoo.recipe import Recipe
from vaezoo.trainer import Run, Trainer, loop, parallel
from vaezoo.trainer import stage_run as stage
from vaezoo.trainer.batches import BatchStream
from vaezoo.trainer.processes import Processes, process_group

ADVANCE = stage.StageRun.advance
RECIPES = RANKS_RECIPES | SHARDED_RECIPES
parallel.SMALLEST_LAYER = 8


def main(out: Path, *names: str) -> None:
    """Trains each recipe; rank 0 writes the results."""
    torch.set_num_threads(1)
    with process_group("cpu"):
        check(out, names)
    # A thread that outlives its group may abort the process at exit.
    assert not any("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))
    print("all checks passed", flush=True)


def check(out: Path, names: Sequence[str]) -> None:
    """Trains each recipe and compares the processes; with vq-vae also stops and spoils one of them."""
    ranks = Processes.current()
    for name in names:
        recipe = RECIPES[name]
        run = fit(trainer(recipe, held_out=small_data(recipe, 12, "validation")))
        check_equal_everywhere(run, ranks)
        if ranks.first:
            save_file(run.model.state_dict(), out / f"{name}.safetensors", {"history": repr(run.history)})
    for name in names:
        if name.startswith("vq-vae"):
            stopped_by_one(out / "stopped", RECIPES[name], ranks)
            failed_in_one(out / "failed", RECIPES[name.replace("vq-vae", "vae")], ranks)


def check_equal_everywhere(run: Run, ranks: Processes) -> None:
    """Asserts that all processes have equal tensors."""
    for tensor in run.model.state_dict().values():
        other = tensor.clone()
        ranks.broadcast([other])
        assert torch.equal(other, tensor)


def stopped_by_one(folder: Path, recipe: Recipe, ranks: Processes) -> None:
    """Interrupts the second process alone: both stop after the same step, and both resume."""
    straight = fit(trainer(recipe))
    chosen = trainer(recipe, folder)

    def asked(run: stage.StageRun) -> None:
        run.ranks.stop = run.ranks.stop or (run.number == 40 and run.ranks.rank == 1)
        ADVANCE(run)

    stage.StageRun.advance = asked  # type: ignore[method-assign]
    try:
        fit(chosen)
        raise AssertionError("it was not stopped")
    except InterruptedTrainingError as error:
        assert "step 41" in str(error), str(error)
        assert error.exit_status == 143, error.exit_status  # whichever process was asked
    finally:
        stage.StageRun.advance = ADVANCE  # type: ignore[method-assign]
    again = fit(trainer(recipe, folder), resume=True)
    assert equal(again.model, straight.model)
    # The line that the stop fell into counts what all processes saw before.
    assert not ranks.first or again.history == straight.history, (again.history, straight.history)


def failed_in_one(folder: Path, recipe: Recipe, ranks: Processes) -> None:
    """Spoils a batch of one process alone: both raise an error, and the last checkpoint is kept."""
    chosen = trainer(recipe, folder)
    batch = BatchStream.batch

    def spoilt(feed: BatchStream, number: int) -> tuple[Tensor, Tensor | None]:
        x, c = batch(feed, number)
        bad = ranks.rank == 1 and bool((feed.indices(number) == 7).any())
        return (x * torch.nan, c) if bad else (x, c)

    loop.every_example_has_a_density = lambda *_: True  # type: ignore[assignment]
    Trainer._initialize = lambda *_: None  # type: ignore[assignment,method-assign]
    BatchStream.batch = spoilt  # type: ignore[method-assign]
    try:
        fit(chosen)
        raise AssertionError("a NaN went unnoticed")
    except NonFiniteLossError as error:
        assert ("training images" in str(error)) == (ranks.rank == 1), str(error)
        assert ("Another process" in str(error)) == (ranks.rank == 0), str(error)
    ranks.wait()
    assert list((folder / "checkpoints").glob("step-*"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
