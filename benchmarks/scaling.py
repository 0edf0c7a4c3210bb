"""Time and memory of several processes.

    python -m torch.distributed.run --standalone --nproc-per-node 2 benchmarks/scaling.py [--rounds 5] [--steps 30]
    python -m torch.distributed.run --standalone --nproc-per-node 2 benchmarks/scaling.py --memory fsdp [--size 256]

The first command times a step of each model alone, without an exchange, while the other processes compute as well, and
then the same step with the gradients of all processes. The second one takes one step of the autoencoder of latent
diffusion on images of `--size` pixels, one a process, with `train.parallel` = "ddp" or "fsdp", and prints the memory of
each process. Each process has one thread.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from vaezoo import read_recipe
from vaezoo.data import Dataset, binarize, from_tensors, load_dataset
from vaezoo.recipe import Recipe
from vaezoo.trainer import build_model
from vaezoo.trainer.parallel import local
from vaezoo.trainer.processes import Processes, process_group
from vaezoo.trainer.setup import make_feed
from vaezoo.trainer.stage_run import StageRun

MODELS: dict[str, dict[str, object]] = {
    "MLP 784-400-20": {"variant": "vae", "latent": 20, "backbone": {"name": "mlp", "hidden": [400]}},
    "MLP 784-2000-2000-50": {"variant": "vae", "latent": 50, "backbone": {"name": "mlp", "hidden": [2000, 2000]}},
    "conv 32-64-128": {"variant": "conv-vae", "latent": 16, "backbone": {"name": "conv", "channels": [32, 64, 128]}},
}
LARGE = {"name": "resnet", "channels": [128, 256, 512, 512], "blocks": 2, "attention": True, "checkpointing": True}
MEBIBYTE = 2**20


def median_time(work: Callable[[], object], steps: int, rounds: int) -> float:
    """Returns the median over rounds of the seconds that one call takes, the slowest process's."""
    seconds = []
    for _ in range(rounds):
        dist.barrier()
        start = time.perf_counter()
        for _ in range(steps):
            work()
        spent = torch.tensor((time.perf_counter() - start) / steps)
        dist.all_reduce(spent, dist.ReduceOp.MAX)
        seconds.append(float(spent))
    return statistics.median(seconds)


def stage_run(recipe: Recipe, data: Dataset, ranks: Processes) -> StageRun:
    """Returns the first stage of a recipe."""
    model, stage = build_model(recipe, data).train(), recipe.stages[0]
    feed = make_feed(recipe, model, data, stage.batch_size, torch.device("cpu"))
    return StageRun(model, stage, feed, offset=0, ranks=ranks)


def times(ranks: Processes, steps: int, rounds: int, batch: int) -> None:
    """Prints the table of times."""
    data = binarize(load_dataset("mnist", "train"), "dynamic")
    if ranks.first:
        print(f"torch {torch.__version__}, gloo, {ranks.size} processes of one thread, batch {batch} each\n")
        print("| model | parameters | step alone | step together | efficiency |")
        print("| --- | --- | --- | --- | --- |")
    for name, table in MODELS.items():
        recipe = read_recipe(
            {
                "variant": table["variant"],
                "architecture": {"latent": table["latent"], "backbone": table["backbone"]},
                "data": {"name": "mnist", "binarize": "dynamic"},
                "train": {"steps": 10**6, "batch_size": batch},
            }
        )
        alone, together = (stage_run(recipe, data, each) for each in (Processes(), ranks))
        for run in (alone, together):
            for _ in range(5):
                run.advance()
        seconds = [median_time(run.advance, steps, rounds) for run in (alone, together)]
        count = sum(parameter.numel() for parameter in alone.model.parameters())
        if ranks.first:
            figures = " | ".join(f"{1e3 * each:.1f} ms" for each in seconds)
            print(f"| {name} | {count:,} | {figures} | {seconds[0] / seconds[1]:.0%} |")


def size_of(tensors: Iterable[Tensor]) -> float:
    """Returns the MiB of this process's shares of tensors."""
    return sum(local(each).numel() * each.element_size() for each in tensors) / MEBIBYTE


def peak() -> float:
    """Returns the peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def create_state(run: StageRun) -> None:
    """Creates the state of the optimizers, which steps after the first one start with."""
    for parameter in run.parameters:
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in run.optimizers.values():
        optimizer.step()
    for parameter in run.parameters:
        parameter.grad = None


def memory(ranks: Processes, parallel: str, size: int) -> None:
    """Prints the memory of this process in one step."""
    before = peak()
    recipe = read_recipe(
        {
            "variant": "kl-autoencoder",
            "architecture": {"backbone": LARGE},
            "data": {"name": "noise"},
            "train": {"steps": 10, "batch_size": 1, "parallel": parallel},
        }
    )
    data = from_tensors(torch.rand(2, 3, size, size), "noise")
    run = stage_run(recipe, data, ranks)
    create_state(run)
    count, ready, start = sum(each.numel() for each in run.model.parameters()), peak(), time.perf_counter()
    run.advance()
    parameters = size_of(run.model.parameters())
    moments = size_of(
        value for each in run.optimizers.values() for own in each.state.values() for value in own.values()
    )
    for rank in range(ranks.size):
        ranks.wait()
        if rank == ranks.rank:
            print(
                f"{parallel}, {count:,} parameters, 3 x {size} x {size}, process {rank} of {ranks.size}: parameters "
                f"{parameters:.0f} MiB, optimizer {moments:.0f} MiB, peak {before:.0f} MiB before the model, "
                f"{ready:.0f} MiB before the step, {peak():.0f} MiB after it ({time.perf_counter() - start:.0f} s)",
                flush=True,
            )


def main() -> None:
    """Prints the table of times, or memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--memory", choices=["ddp", "fsdp"])
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with process_group("cpu"):
        ranks = Processes.current()
        if options.memory:
            memory(ranks, options.memory, options.size)
        else:
            times(ranks, options.steps, options.rounds, options.batch)


if __name__ == "__main__":
    main()
