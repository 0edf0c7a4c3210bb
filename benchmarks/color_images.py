"""Measures models of color images on the test set of their data, and what general formats of files need.

    python benchmarks/color_images.py [MODEL …] [--data emoji] [--n 1273]

Prints a row of a table for each model: bits per dimension where the likelihood is a probability mass; PSNR, SSIM and
perceptual distance of reconstructions; Fréchet distances of reconstructions, of samples of the prior, and of samples of
a normal distribution fitted to the latents. Then the bits per dimension of PNG and lossless WebP by artist.
"""

import argparse
import io

import torch
from PIL import Image
from torch import Tensor

import vaezoo
from vaezoo.data import Dataset, load_dataset
from vaezoo.errors import ConfigError
from vaezoo.evaluation import frechet_distance

FORMATS = {"PNG": {"optimize": True}, "WebP": {"lossless": True, "quality": 100, "method": 6}}


def row(name: str, data: str | Dataset, n: int) -> str:
    """Returns the row of a model: a name, or the path of a folder."""
    model = vaezoo.load(name).eval()
    report = vaezoo.evaluate(model, data, samples=0)
    bits = None if report.bits_per_dimension is None else report.bits_per_dimension.mean
    figures = [bits, report.psnr, report.ssim, report.perceptual_distance]
    texts = ["–" if each is None else f"{each:.3f}" for each in figures]
    with torch.no_grad():
        texts += [f"{frechet_distance(model, data, of='reconstructions', n=n):.2f}"]
        texts += [f"{frechet_distance(model, data, n=n):.2f}"]
        try:
            sampler = vaezoo.fit_sampler(model, data, "normal")
            torch.manual_seed(0)
            drawn = torch.cat([sampler.sample(min(64, n - start)) for start in range(0, n, 64)])
            texts += [f"{frechet_distance(drawn, data, n=n):.2f}"]
        except ConfigError:  # codes, or a conditional model
            texts += ["–"]
    return f"| {name} | " + " | ".join(texts) + " |"


def bits_in_files(images: Tensor, name: str) -> float:
    """Returns the mean bits per value of images uint8 (N, C, H, W) as files of a format, headers included."""
    total = 0
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, name.lower(), **FORMATS[name])
        total += len(file.getvalue())
    return 8.0 * total / images.numel()


def formats(data: Dataset) -> list[str]:
    """Returns a row for each artist, and one for all images."""
    lines = []
    assert data.factors is not None
    artists = data.factors.values()[:, data.factors.names.index("artist")]
    for number, artist in enumerate(("google", "twitter", "fluent", "all")):
        images = data.images if artist == "all" else data.images[artists == number]
        lines.append(
            f"| {artist} | {len(images):,} | "
            + " | ".join(f"{bits_in_files(images, each):.3f}" for each in FORMATS)
            + " |"
        )
    return lines


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--data", default="emoji")
    parser.add_argument("--n", type=int, default=1_273, help="images of each Fréchet distance")
    options = parser.parse_args()
    print("| model | bits/dim | PSNR | SSIM | perceptual | Fréchet, reconstructions | samples | fitted normal |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.models:
        print(row(name, options.data, options.n), flush=True)
    data = load_dataset(options.data, "test")
    if data.factors is not None and "artist" in data.factors.names:
        print(f"\n| images | count | {' | '.join(FORMATS)} |\n| --- | --- | --- | --- |")
        print("\n".join(formats(data)))


if __name__ == "__main__":
    main()
