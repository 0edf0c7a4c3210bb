"""Measures reconstructions of image autoencoders on test images, without the rest of an evaluation.

    python benchmarks/autoencoders.py MODEL … --data emoji:fluent [--picture FILE.png]

Prints a row of a table for each model, a name or a folder: parameters, PSNR, SSIM and perceptual distance. The picture
shows eight test images and their reconstructions by each model.
"""

import argparse
import math

import torch

import vaezoo
from vaezoo.data import load_dataset
from vaezoo.evaluation.similarity import structural_similarity
from vaezoo.networks.features import PerceptualDistance
from vaezoo.pictures import comparison

SHOWN = 8


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", default="emoji")
    parser.add_argument("--picture")
    given = parser.parse_args()
    images = load_dataset(given.data, "test").images
    distance = PerceptualDistance()
    chosen = torch.arange(SHOWN) * (len(images) // SHOWN)
    shown = {"test images": images[chosen].float() / 255.0}
    for name in given.models:
        model = vaezoo.load(name).eval()
        errors, similarities, distances = [], [], []
        for part in images.split(64):
            x = part.float() / 255.0
            y = model.reconstruct(x)
            errors.append((x - y).square().flatten(1).double().mean(1))
            similarities.append(structural_similarity(x, y))
            distances.append(distance(x, y))
        psnr = -10.0 * math.log10(float(torch.cat(errors).mean()))
        count = sum(each.numel() for each in model.parameters())
        ssim, perceptual = (float(torch.cat(each).double().mean()) for each in (similarities, distances))
        print(f"| {name} | {count:,} | {psnr:.2f} | {ssim:.4f} | {perceptual:.4f} |", flush=True)
        shown[name.rpartition("/")[2]] = model.reconstruct(shown["test images"])
    if given.picture:
        comparison(shown, given.picture)


if __name__ == "__main__":
    main()
