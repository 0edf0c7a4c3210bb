"""Trains the classifier whose features the Fréchet distance uses, and writes its weights.

    python benchmarks/features.py vaezoo/networks/features/gray28.safetensors

Prints the error on both test sets with the stored weights, and the SHA-256 for `vaezoo/networks/features/gray.py`. The
data are the training images of MNIST and Fashion-MNIST, shifted, some of them blurred or noisy; about five minutes on
one core of a CPU.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy, pad

from vaezoo.data import load_dataset
from vaezoo.networks.features.gray import GrayClassifier
from vaezoo.storage.json_files import sha256

SETS = ("mnist", "fashion-mnist")  # classes 0-9 and 10-19
BATCH, RATE, SHIFT, NOISE = 256, 3e-3, 2, 0.2
LARGE = 1024  # elements; larger tensors are stored in half precision


def images_of(split: str) -> tuple[Tensor, Tensor]:
    """Returns uint8 images (N, 1, 28, 28) and classes (N,) of both data sets."""
    sets = [load_dataset(name, split) for name in SETS]
    labels = [each.labels + 10 * place for place, each in enumerate(sets) if each.labels is not None]
    return torch.cat([each.images for each in sets]), torch.cat(labels)


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns images (B, 1, H, W), each shifted, some blurred or noisy in each direction."""
    high, wide = images.shape[-2:]
    windows = pad(images, (SHIFT,) * 4).unfold(2, high, 1).unfold(3, wide, 1)[:, 0]
    down, right = torch.randint(2 * SHIFT + 1, (2, len(images)), generator=generator)
    return windows[torch.arange(len(images)), down, right].unsqueeze(1)


def disturbed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns images (B, 1, H, W), the first third blurred, the last half with Gaussian noise of random strength.

    Without them a classifier's features change far more by faint noise than by a wrong shape.
    """
    third, half = len(images) // 3, len(images) // 2
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    blurred = conv2d(images[:third], torch.outer(kernel, kernel)[None, None], padding=1)
    strength = NOISE * torch.rand(half, 1, 1, 1, generator=generator)
    noisy = images[-half:] + strength * torch.randn(images[-half:].shape, generator=generator)
    return torch.cat([blurred, images[third:-half], noisy.clamp(0, 1)])


def train(epochs: int, seed: int) -> GrayClassifier:
    """Returns the trained classifier, in eval mode."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images, labels = images_of("train")
    net, steps = GrayClassifier(), epochs * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    start = time.time()
    for epoch in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(BATCH)[: len(images) // BATCH]:
            x = disturbed(shifted(images[rows].float() / 255, generator), generator)
            loss = cross_entropy(net(x), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, {time.time() - start:.0f} s", flush=True)
    return net.eval()


@torch.no_grad()
def report(net: GrayClassifier) -> None:
    """Prints the error on each test set."""
    images, labels = images_of("test")
    found = torch.cat([net(each.float() / 255).argmax(1) for each in images.split(1_000)])
    for name, wrong in zip(SETS, (found != labels).double().split(10_000), strict=True):
        print(f"{name}: {100 * wrong.mean().item():.2f} % of {len(wrong):,} test images wrong")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    net = train(options.epochs, options.seed)
    state = {key: each for key, each in net.state_dict().items() if each.is_floating_point()}
    stored = {key: each.half() if each.numel() >= LARGE else each for key, each in state.items()}
    net.load_state_dict({key: each.float() for key, each in stored.items()}, strict=False)
    report(net)
    data = save(stored)
    options.file.write_bytes(data)
    print(f"{options.file}: {len(data):,} bytes, SHA-256 {sha256(data)}")


if __name__ == "__main__":
    main()
