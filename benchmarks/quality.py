"""Trains one model with vaezoo, with pythae and with a straight loop, and compares their evidence by one estimator.

    python benchmarks/quality.py [--steps 3000] [--batch 100] [--seeds 3] [--images 2000] [--samples 200]
        [--results FILE]

784-400-20 perceptrons, a standard normal prior, Bernoulli pixels, MNIST binarized once, Adam at 1e-3. For each seed all
three start from the same weights and take the same batches in the same order; the noise of the posterior differs.
`--results` keeps finished runs. pythae must be installed (`requirements.txt`).
"""

import argparse
import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import peers
import series
import straight
import torch
from torch import Tensor, nn
from torch.nn import functional

from vaezoo import read_recipe
from vaezoo.core import VAE, seeded
from vaezoo.data import Dataset, binarize, load_dataset
from vaezoo.evaluation import paired_difference
from vaezoo.evaluation.test_sets import limited
from vaezoo.recipe import Recipe
from vaezoo.trainer import Trainer, build_model
from vaezoo.trainer.batches import BatchStream

Posterior = Callable[[Tensor], tuple[Tensor, Tensor]]  # x (B, *shape) -> mean and log scale (B, D)
Logits = Callable[[Tensor], Tensor]  # z (K, B, D) -> (K, B, pixels)
FIGURES = {
    "evidence": ("log-evidence, nats", 2),
    "difference": ("above the straight loop", 2),
    "error": ("standard error of that", 2),
    "seconds": ("processor, s", 0),
}


@torch.no_grad()
def log_evidence(posterior: Posterior, logits: Logits, x: Tensor, samples: int) -> Tensor:
    """Returns importance-weighted estimates of log p(x), (B,), nats, under a standard normal prior."""
    mean, log_scale = posterior(x)
    noise = torch.randn(samples, *mean.shape)
    z = mean + log_scale.exp() * noise
    out = logits(z).flatten(2)
    pixels = -functional.binary_cross_entropy_with_logits(out, x.flatten(1).expand_as(out), reduction="none").sum(-1)
    return (pixels + (0.5 * (noise.square() - z.square()) + log_scale).sum(-1)).logsumexp(0) - math.log(samples)


def recipe_of(seed: int, steps: int, batch: int) -> Recipe:
    """Returns the recipe of the runs."""
    backbone = {"name": "mlp", "hidden": [400], "activation": "relu"}
    return read_recipe(
        {
            "variant": "vae",
            "seed": seed,
            "architecture": {"latent": 20, "backbone": backbone, "likelihood": "bernoulli"},
            "data": {"name": "mnist", "binarize": "static"},
            "train": {"steps": steps, "batch_size": batch, "learning_rate": 1e-3},
        }
    )


def plain_copy(model: VAE) -> straight.VAE:
    """Returns the straight model with the weights of vaezoo's."""
    plain = straight.mlp()
    with torch.no_grad():
        for value, own in zip(plain.parameters(), model.parameters(), strict=True):
            value.copy_(own)
    return plain


class LogVariance(nn.Module):
    """Doubles the second half of its input: log scale to log variance."""

    def forward(self, x: Tensor) -> Tensor:
        mean, log_scale = x.chunk(2, -1)
        return torch.cat([mean, 2.0 * log_scale], -1)


def straight_run(plain: straight.VAE, images: Tensor, order: Sequence[Tensor]) -> None:
    """Trains by a loop of ten lines."""
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    for indices in order:
        loss = plain(images[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def pythae_run(plain: straight.VAE, images: Tensor, order: Sequence[Tensor]) -> None:
    """Trains the same layers by pythae's loss and trainer, in one epoch that has the batches of `order`."""
    from pythae.data.datasets import DatasetOutput
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from torch.utils.data import DataLoader

    class Ordered(torch.utils.data.Dataset[object]):
        def __len__(self) -> int:
            return len(order)

        def __getitem__(self, number: int) -> object:
            return DatasetOutput(data=images[order[number]])

    class OrderedTrainer(BaseTrainer):
        def get_train_dataloader(self, train_dataset: Ordered) -> DataLoader[object]:
            return DataLoader(train_dataset, batch_size=None)

    layers = straight.VAE(nn.Sequential(plain.encoder, LogVariance()), plain.decoder)  # the very modules of `plain`
    with peers.quiet() as folder:
        config = BaseTrainerConfig(output_dir=folder, num_epochs=1, learning_rate=1e-3, no_cuda=True)
        model = peers.pythae_model(lambda: layers, 20)
        OrderedTrainer(model, Ordered(), training_config=config).train()


def vaezoo_run(model: VAE, recipe: Recipe, data: Dataset) -> None:
    """Trains by vaezoo's trainer, from the weights that the model has."""
    with warnings.catch_warnings(action="ignore"):  # of unused latents, in short runs
        Trainer(recipe, model, data, fresh=()).fit()


def evidences(model: straight.VAE, x: Tensor, samples: int) -> Tensor:
    """Returns the estimate for each image, (N,), nats."""
    with seeded(0):
        parts = [
            log_evidence(lambda each: model.encoder(each).chunk(2, -1), model.decoder, part, samples)
            for part in x.split(50)
        ]
    return torch.cat(parts)


def run(
    row: str, seed: int, training: Dataset, x: Tensor, options: argparse.Namespace, keep: dict[tuple[str, int], Tensor]
) -> dict[str, float]:
    """Returns the figures of one run; `keep` has the evidences of the straight loop's."""
    recipe = recipe_of(seed, options.steps, options.batch)
    model = build_model(recipe, training)
    stream = BatchStream(training, options.batch, torch.device("cpu"), seed=seed, context=0)
    order = [stream.indices(number) for number in range(options.steps)]
    images, plain = training.batch(torch.arange(len(training))), plain_copy(model)
    torch.manual_seed(seed)
    begun = time.process_time()
    if row == "vaezoo":
        vaezoo_run(model, recipe, training)
        plain = plain_copy(model)
    elif row == "pythae":
        pythae_run(plain, images, order)
    else:
        straight_run(plain, images, order)
    seconds = time.process_time() - begun
    keep[row, seed] = evidences(plain, x, options.samples)
    if ("straight loop", seed) not in keep:
        run("straight loop", seed, training, x, options, keep)
    found = paired_difference(keep[row, seed], keep["straight loop", seed])
    return {
        "evidence": keep[row, seed].mean().item(),
        "difference": found.mean or 0.0,
        "error": found.error or 0.0,
        "seconds": seconds,
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--results", type=Path, default=Path("quality.jsonl"))
    options = parser.parse_args()
    training = binarize(load_dataset("mnist", "train"), "static")
    test = limited(binarize(load_dataset("mnist", "test"), "static"), options.images)[0]
    x, keep = test.batch(torch.arange(len(test))), dict[tuple[str, int], Tensor]()
    setting = {key: getattr(options, key) for key in ("steps", "batch", "images", "samples")}
    rows = ["straight loop", "vaezoo", *(["pythae"] if peers.installed("pythae") else [])]
    wanted = [(row, seed) for seed in range(options.seeds) for row in rows]
    lines = series.completed(
        options.results, wanted, setting, lambda row, seed: run(row, seed, training, x, options, keep)
    )
    print(series.table(sorted(lines, key=lambda line: rows.index(str(line["row"]))), FIGURES))


if __name__ == "__main__":
    main()
