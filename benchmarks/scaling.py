"""Cost of several processes: a model of the time of a step, and measurements.

    python -m torch.distributed.run --standalone --nproc-per-node 2 benchmarks/scaling.py [--rounds 5] [--steps 30]

For each recipe it times a step of the micro-batch without exchange, then the exchange alone, fitted over sizes as
latency + bytes / bandwidth, adds the two, and times the whole step. Each process has one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn

from vaezoo import read_recipe
from vaezoo.data import binarize, load_dataset
from vaezoo.trainer import build_model
from vaezoo.trainer.processes import Processes
from vaezoo.trainer.setup import make_feed
from vaezoo.trainer.stage_run import StageRun

SIZES = [1_000, 10_000, 100_000, 1_000_000, 4_000_000]  # parameters
MODELS: dict[str, dict[str, object]] = {
    "MLP 784-400-20": {"variant": "vae", "latent": 20, "backbone": {"name": "mlp", "hidden": [400]}},
    "MLP 784-2000-2000-50": {"variant": "vae", "latent": 50, "backbone": {"name": "mlp", "hidden": [2000, 2000]}},
    "conv 32-64-128": {"variant": "conv-vae", "latent": 16, "backbone": {"name": "conv", "channels": [32, 64, 128]}},
}


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


def exchange_cost(ranks: Processes, rounds: int) -> tuple[float, float]:
    """Returns latency (s) and inverse bandwidth (s per byte) of an exchange, by least squares over sizes."""
    rows, times = [], []
    for size in SIZES:
        parameters = [nn.Parameter(torch.zeros(size))]
        parameters[0].grad = torch.ones(size)
        seconds = median_time(lambda own=parameters: ranks.exchange(own, False), 20, rounds)  # type: ignore[misc]
        # Weighted by 1/time, so that small exchanges count as much as large ones.
        rows.append([1.0 / seconds, 4.0 * size / seconds])
        times.append([1.0])
    latency, inverse = torch.linalg.lstsq(torch.tensor(rows).double(), torch.tensor(times).double()).solution.flatten()
    return max(0.0, float(latency)), float(inverse)


def stage_run(name: str, batch: int, ranks: Processes) -> StageRun:
    """Returns a stage of one of the models on MNIST."""
    table = MODELS[name]
    recipe = read_recipe(
        {
            "variant": table["variant"],
            "architecture": {"latent": table["latent"], "backbone": table["backbone"]},
            "data": {"name": "mnist", "binarize": "dynamic"},
            "train": {"steps": 10**6, "batch_size": batch},
        }
    )
    data = binarize(load_dataset("mnist", "train"), "dynamic")
    model = build_model(recipe, data).train()
    feed = make_feed(recipe, model, data, batch, torch.device("cpu"))
    return StageRun(model, recipe.stages[0], feed, offset=0, ranks=ranks)


def main() -> None:
    """Prints the fit and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    ranks = Processes.current()
    latency, inverse = exchange_cost(ranks, options.rounds)
    if ranks.first:
        print(f"torch {torch.__version__}, gloo, {ranks.size} processes of one thread, batch {options.batch} each")
        print(f"an exchange takes {1e3 * latency:.2f} ms + 4 bytes x parameters / {1e-9 / inverse:.2f} GB/s\n")
        print("| model | parameters | compute | exchange, predicted | step, predicted | step, measured | efficiency |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in MODELS:
        alone, together = stage_run(name, options.batch, Processes()), stage_run(name, options.batch, ranks)
        for run in (alone, together):
            for _ in range(5):
                run.advance()
        compute = median_time(alone.advance, options.steps, options.rounds)
        measured = median_time(together.advance, options.steps, options.rounds)
        count = sum(parameter.numel() for parameter in alone.model.parameters())
        exchange = latency + 4 * count * inverse
        if ranks.first:
            figures = [f"{1e3 * each:.1f} ms" for each in (compute, exchange, compute + exchange, measured)]
            print(f"| {name} | {count:,} | {' | '.join(figures)} | {compute / measured:.0%} |")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
