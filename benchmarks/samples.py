"""Confidence of an MNIST classifier in a model's samples, in samples of the uniform prior, and in test images.

    python benchmarks/samples.py MODEL [MODEL …] [--samples 1000] [--epochs 3] [--seed 0]
        [--temperature 1] [--top-p 1]

Trains a small convolutional classifier on the training images (padded like the model's), and prints the share of
samples whose most probable class has a probability of at least 0.8, and the Fréchet distance of the samples from the
test images. A model of codes is measured a second time, with the uniform prior of its first training stage.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import vaezoo
from vaezoo.core import VAE
from vaezoo.data import Dataset, load_dataset, pad
from vaezoo.evaluation import frechet_distance
from vaezoo.quantization import CodeSource, UniformCodePrior

SURE = 0.8


def classifier(data: Dataset, epochs: int, seed: int = 0, batch: int = 100) -> nn.Module:
    """Returns a network from images (B, *shape) to logits (B, classes), trained on `data` with Adam."""
    assert data.labels is not None and data.classes is not None
    torch.manual_seed(seed)
    channels, high, wide = data.shape
    flat = 32 * -(-high // 4) * -(-wide // 4)
    network = nn.Sequential(
        nn.Conv2d(channels, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(flat, 64), nn.ReLU(), nn.Linear(64, data.classes),
    )  # fmt: skip
    steps = epochs * (len(data) // batch)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        if step % (len(data) // batch) == 0:
            order = torch.randperm(len(data)).split(batch)
        indices = order[step % (len(data) // batch)]
        loss = cross_entropy(network(data.batch(indices)), data.labels[indices])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own has no types
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, data: Dataset) -> float:
    """Returns the share of examples that are classified correctly."""
    assert data.labels is not None
    parts = torch.arange(len(data)).split(1000)
    predicted = torch.cat([network(data.batch(each)).argmax(1) for each in parts])
    return float((predicted == data.labels).double().mean())


@torch.no_grad()
def sureness(network: nn.Module, x: Tensor) -> float:
    """Returns the share of images (B, *shape) whose most probable class has at least probability `SURE`."""
    sure: Tensor = network(x).softmax(1).amax(1) >= SURE
    return float(sure.double().mean())


def drawn(model: VAE, count: int, seed: int, temperature: float = 1.0, top_p: float | None = None) -> Tensor:
    """Returns samples (count, *shape); those of a conditional model cycle through the classes."""
    c = torch.arange(count) % model.context if model.context else None
    return model.sample(count, c, seed=seed, temperature=temperature, top_p=top_p)


def under_uniform_codes(model: VAE) -> VAE | None:
    """Returns a model of codes with the uniform prior over them, None for other models."""
    if not isinstance(model.encoder, CodeSource) or isinstance(model.prior, UniformCodePrior):
        return None
    return model.replace(prior=UniformCodePrior()).eval()


def figures(
    name: str, count: int, epochs: int, seed: int, temperature: float = 1.0, top_p: float | None = None
) -> dict[str, float]:
    """Returns the classifier's accuracy, its confidence in test images and samples, and their Fréchet distance."""
    model = vaezoo.load(name)
    margin = (model.shape or (1, 28, 28))[-1] - 28
    training, test = (pad(load_dataset("mnist", split), margin // 2) for split in ("train", "test"))
    network = classifier(training, epochs, seed)
    found = {"accuracy": accuracy(network, test), "test images": sureness(network, test.batch(torch.arange(count)))}
    samples = drawn(model, count, seed, temperature, top_p)
    found["samples"] = sureness(network, samples)
    found["Fréchet distance"] = frechet_distance(samples, test.batch(torch.arange(len(test))))
    uniform = under_uniform_codes(model)
    return found if uniform is None else found | {"uniform codes": sureness(network, drawn(uniform, count, seed))}


def main() -> None:
    """Prints a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float)
    given = parser.parse_args()
    for name in given.models:
        found = figures(name, given.samples, given.epochs, given.seed, given.temperature, given.top_p)
        print(name, ", ".join(f"{key} {value:.3f}" for key, value in found.items()))


if __name__ == "__main__":
    main()
