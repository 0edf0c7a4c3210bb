"""Trains the classifier of color images of `vaezoo.networks.features`, and writes its weights.

    python benchmarks/color_features.py vaezoo/networks/features/color64.safetensors

Prints the error on both test sets with the stored weights, and the SHA-256 for `vaezoo/networks/features/color.py`. The
data are the training images of emoji, flipped and shifted, and of Fashion-MNIST in random colors; some of them are
blurred or noisy. About ten minutes on one core of a CPU.
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, interpolate, pad

from vaezoo.data import Dataset, load_dataset
from vaezoo.networks.features.color import CLASSES, FEATURES, GROUPS, SIDE, WIDTHS, ColorClassifier
from vaezoo.storage.json_files import sha256

BATCH, RATE, SHIFT, NOISE = 64, 2e-3, 6, 0.15
LARGE = 1024  # elements; larger tensors are stored in half precision


class Trained(nn.Module):
    """The classifier with batch normalization, which `folded` removes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in pairwise((3, *WIDTHS))
        )
        self.hidden = nn.Linear(4 * WIDTHS[-1], FEATURES)
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(0.3), nn.Linear(FEATURES, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, 20) of images (B, 3, 64, 64) with pixels in [0, 1]."""
        found, layers = 2.0 * images - 1.0, iter(self.convolutions)
        for place, count in enumerate(GROUPS):
            found = nn.functional.avg_pool2d(found, 2) if place else found
            for _ in range(count):
                found = next(layers)(found)
        logits: Tensor = self.head(self.hidden(nn.functional.adaptive_avg_pool2d(found, 2).flatten(1)))
        return logits

    def folded(self) -> dict[str, Tensor]:
        """Returns the tensors that `ColorClassifier` reads."""
        result = {}
        for number, (convolution, normalization, _) in enumerate(self.convolutions):
            scale = normalization.weight / (normalization.running_var + normalization.eps).sqrt()
            result[f"weight_{number}"] = convolution.weight * scale.view(-1, 1, 1, 1)
            result[f"bias_{number}"] = normalization.bias - normalization.running_mean * scale
        for name, layer in (("hidden", self.hidden), ("head", self.head[-1])):
            result |= {f"{name}_weight": layer.weight, f"{name}_bias": layer.bias}
        return {key: tensor.detach().contiguous() for key, tensor in result.items()}


def colored(gray: Tensor, generator: torch.Generator) -> Tensor:
    """Returns gray images (B, 1, 28, 28) of [0, 1] at 64 x 64 in a random color on white or another color."""
    large = interpolate(gray, (SIDE, SIDE), mode="bilinear")
    ink, paper = torch.rand(2, len(gray), 3, 1, 1, generator=generator)
    paper[: len(gray) // 2] = 1.0
    return paper + (ink - paper) * large


def changed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns images, half of them flipped, all shifted, a third blurred, a third with noise of random strength."""
    flip = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = pad(torch.where(flip, images.flip(3), images), (SHIFT,) * 4, mode="replicate")
    offsets = torch.randint(2 * SHIFT + 1, (len(images), 2), generator=generator).tolist()
    images = torch.stack([x[:, i : i + SIDE, j : j + SIDE] for x, (i, j) in zip(images, offsets, strict=True)])
    order = torch.randperm(len(images), generator=generator).chunk(3)
    kernel = torch.outer(*[torch.tensor([1.0, 2.0, 1.0]) / 4] * 2).expand(3, 1, 3, 3)
    images[order[0]] = conv2d(images[order[0]], kernel, padding=1, groups=3)
    strength = NOISE * torch.rand(len(order[1]), 1, 1, 1, generator=generator)
    images[order[1]] += strength * torch.randn(images[order[1]].shape, generator=generator)
    return images.clamp(0, 1)


def batch_of(data: Dataset, offset: int, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns images (B, 3, 64, 64) and classes (B,), which start at `offset`."""
    assert data.labels is not None
    images = data.images[rows].float() / 255
    return colored(images, generator) if images.shape[1] == 1 else images, data.labels[rows] + offset


def train(steps: int, seed: int) -> Trained:
    """Returns the trained classifier, in eval mode; three fifths of each batch are emoji."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    sets = [(load_dataset("emoji"), 0, BATCH * 3 // 5), (load_dataset("fashion-mnist"), 10, BATCH * 2 // 5)]
    net, start = Trained(), time.time()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for step in range(1, steps + 1):
        parts = [
            batch_of(data, offset, torch.randint(len(data), (count,), generator=generator), generator)
            for data, offset, count in sets
        ]
        x, labels = (torch.cat(each) for each in zip(*parts, strict=True))
        x = changed(x, generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(x)
        loss = cross_entropy(logits.float(), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}, {time.time() - start:.0f} s", flush=True)
    return net.eval()


@torch.no_grad()
def report(net: ColorClassifier) -> None:
    """Prints the error on each test set."""
    generator = torch.Generator().manual_seed(0)
    for name, offset in (("emoji", 0), ("fashion-mnist", 10)):
        data = load_dataset(name, "test")
        wrong = []
        for rows in torch.arange(len(data)).split(250):
            x, labels = batch_of(data, offset, rows, generator)
            wrong.append(net.logits(x).argmax(1) != labels)
        print(f"{name}: {100 * torch.cat(wrong).double().mean().item():.2f} % of {len(data):,} test images wrong")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=1_800)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    net = train(options.steps, options.seed)
    stored = {key: each.half() if each.numel() >= LARGE else each for key, each in net.folded().items()}
    report(ColorClassifier(stored))
    data = save(stored)
    options.file.write_bytes(data)
    print(f"{options.file}: {len(data):,} bytes, SHA-256 {sha256(data)}")


if __name__ == "__main__":
    main()
