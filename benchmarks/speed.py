"""Images per second of the trainer beside loops that people write by hand, in one run, medians of several rounds.

    python benchmarks/speed.py [--rounds 5] [--steps 1200] [--threads 2]

All train the same VAE, 784-400-20, ReLU, batch 128, float32, on grey MNIST by cross-entropy plus KL. `hand-written` is
a straight loop over in-memory tensors with default Adam; `DataLoader` decodes and converts image by image, as many
introductions do. Rounds are interleaved, so that a machine that drifts drifts for all; only ratios of one run count.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.transforms import ToTensor

from vaezoo import read_recipe
from vaezoo.data import Dataset, load_dataset
from vaezoo.trainer import Trainer, build_model

BATCH = 128


class Plain(nn.Module):
    """The VAE of many introductions: one hidden layer of 400, 20 latents."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(784, 400)
        self.mean, self.log_variance = nn.Linear(400, 20), nn.Linear(400, 20)
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the reconstruction, the mean and the log variance."""
        features = functional.relu(self.hidden(x))
        mean, log_variance = self.mean(features), self.log_variance(features)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decoder(z), mean, log_variance


def train_step(model: Plain, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    """One step of the straight loop."""
    output, mean, log_variance = model(x)
    distortion = functional.binary_cross_entropy(output, x, reduction="sum")
    rate = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
    optimizer.zero_grad()
    ((distortion + rate) / len(x)).backward()
    optimizer.step()


def hand_written(data: Dataset, steps: int) -> float:
    """Seconds of a straight loop: shuffled index batches of one float tensor, default Adam."""
    images = data.batch(torch.arange(len(data))).flatten(1)
    model = Plain()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start, done = time.perf_counter(), 0
    while done < steps:
        for indices in torch.randperm(len(images)).split(BATCH)[: steps - done]:
            train_step(model, optimizer, images[indices])
            done += 1
    return time.perf_counter() - start


class Pictures(torch.utils.data.Dataset[Tensor]):
    """One image at a time: an array to a PIL image, that to a tensor, as torchvision's MNIST does it."""

    def __init__(self, data: Dataset) -> None:
        self.images, self.convert = data.images[:, 0], ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        converted: Tensor = self.convert(Image.fromarray(self.images[index].numpy(), mode="L"))
        return converted


def data_loader(data: Dataset, steps: int) -> float:
    """Seconds of the same loop over a DataLoader with per-image conversion, in the main process."""
    loader = DataLoader(Pictures(data), batch_size=BATCH, shuffle=True)
    model = Plain()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start, done = time.perf_counter(), 0
    while done < steps:
        for x in loader:
            train_step(model, optimizer, x.flatten(1))
            done += 1
            if done == steps:
                break
    return time.perf_counter() - start


def ours(data: Dataset, steps: int) -> float:
    """Seconds of the trainer with default settings, from its first step to the finished run."""
    recipe = read_recipe(
        {
            "variant": "vae",
            "architecture": {"latent": 20, "backbone": {"name": "mlp", "hidden": [400]}},
            "data": {"name": "mnist"},
            "train": {"steps": steps, "batch_size": BATCH, "learning_rate": 1e-3},
        }
    )
    trainer = Trainer(recipe, build_model(recipe, data), data)
    start = time.perf_counter()
    trainer.fit()
    return time.perf_counter() - start


LOOPS: dict[str, Callable[[Dataset, int], float]] = {
    "hand-written": hand_written,
    "vaezoo": ours,
    "DataLoader + ToTensor": data_loader,
}


def main() -> None:
    """Times the loops in turn and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = load_dataset("mnist", "train")
    speeds: dict[str, list[float]] = {name: [] for name in LOOPS}
    for loop in LOOPS.values():
        loop(data, 20)  # the first steps of a process are slower
    for _ in range(options.rounds):
        for name, loop in LOOPS.items():
            speeds[name].append(options.steps * BATCH / loop(data, options.steps))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(
        f"torch {torch.__version__}, {platform.machine()}, {options.threads} threads, {options.steps} steps of {BATCH}"
    )
    print("| loop | images/s, median | least | most | vaezoo is |\n| --- | --- | --- | --- | --- |")
    for name, values in speeds.items():
        ratio = medians["vaezoo"] / medians[name]
        print(f"| {name} | {medians[name]:,.0f} | {min(values):,.0f} | {max(values):,.0f} | {ratio:.2f} × |")


if __name__ == "__main__":
    main()
