"""All quantizers on the same network, data, steps and size of the codes, over seeds.

    python benchmarks/quantizers.py [--rows vq-vae sq-vae …] [--seeds 3] [--steps 1000] [--prior-steps 150]
        [--data mnist] [--results quantizers.jsonl]

Images of 32 x 32 pixels are encoded as 8 x 8 positions of 9 bits each: one code out of 512, or their product. The
encoder and decoder are trained first, then a transformer as prior over the codes. Figures are those of 2,000 test
images. A finished run is a line of the results file and is not trained again, so that an interrupted series can be
continued.
"""

import argparse
import time
import warnings
from pathlib import Path

import torch
from series import completed, table

import vaezoo
from vaezoo.data import load_dataset

# options and the dimension of a latent, for 512 codes at each position
ROWS: dict[str, tuple[dict[str, object], int]] = {
    "vq-vae": ({"codes": 512}, 64),
    "sim-vq-vae": ({"codes": 512}, 64),
    "ibq-vae": ({"codes": 512}, 64),
    "sq-vae": ({"codes": 512}, 64),
    "vq-wae": ({"codes": 512}, 64),
    "gumbel-vq-vae": ({"codes": 512, "beta": 0.1}, 64),
    "grouped-vq-vae": ({"codes": 8, "groups": 3}, 63),
    "residual-vq-vae": ({"codes": 8, "depth": 3}, 64),
    "fsq-vae": ({"levels": [8, 8, 8]}, 3),
    "lfq-vae": ({}, 9),
    "bsq-vae": ({}, 9),
}
FIGURES = {
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "used": ("codes in use, %", 1),
    "perplexity": ("perplexity", 0),
    "quantization_error": ("quantization error, %", 1),
    "prior_rate": ("rate, bits", 0),
    "codes_per_second": ("codes/s", 0),
    "seconds": ("training, s", 0),
}
TRAIN = {"batch_size": 32, "schedule": "cosine", "final_learning_rate": 1e-5}
PRIOR = {"prior_width": 64, "prior_depth": 2, "prior_heads": 4}
MEASURED = 2_000  # test images
TIMED = 512  # images that are encoded to measure the time


def recipe_of(row: str, seed: int, steps: int, prior_steps: int, data: str) -> dict[str, object]:
    """Returns the recipe of a run, the same for all quantizers except for their own options."""
    options, dimension = ROWS[row]
    first = {"steps": steps, "train": ["encoder", "decoder"], "learning_rate": 1e-3, "warmup": 100}
    second = {"steps": prior_steps, "train": ["prior"], "learning_rate": 2e-3, "warmup": 100, "clip": 1.0}
    return {
        "variant": f"{row}+code-prior",
        "seed": seed,
        "options": options | PRIOR,
        "architecture": {
            "latent": [dimension, 8, 8],
            "backbone": {"name": "conv", "channels": [16, 32], "blocks": 1, "activation": "relu"},
            "likelihood": {"name": "gaussian", "scale": 0.1, "scale_kind": "optimal"},
        },
        "data": {"name": data, "size": 32},
        "stage": [TRAIN | first, TRAIN | second],
    }


def run(row: str, seed: int, steps: int, prior_steps: int, data: str) -> dict[str, object]:
    """Trains and measures once."""
    start = time.perf_counter()
    with warnings.catch_warnings(action="ignore"):  # of unused codes; the figures show them
        model = vaezoo.train(recipe_of(row, seed, steps, prior_steps, data), out=None, trackers=()).model
    seconds = time.perf_counter() - start
    test = load_dataset(data, "test", size=32)
    report = vaezoo.evaluate(model, test, samples=0, limit=MEASURED)
    assert report.codes and report.used_codes
    error = report.quantization_error  # None if codes are drawn from probabilities, without a vector that they replace
    return {
        "psnr": report.psnr,
        "ssim": report.ssim,
        "used": 100.0 * report.used_codes / report.codes,
        "perplexity": report.perplexity,
        "quantization_error": None if error is None else 100.0 * error,
        "prior_rate": report.rate.mean / 0.6931471805599453,
        "codes_per_second": encoded_per_second(model, test.images[:TIMED].float() / 255.0),
        "seconds": seconds,
    }


@torch.no_grad()
def encoded_per_second(model: vaezoo.VAE, images: torch.Tensor) -> float:
    """Returns the positions that the encoder and its quantizer process a second, the median of five passes."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        model.encode(images)
        times.append(time.perf_counter() - start)
    return 64 * len(images) / sorted(times)[2]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--prior-steps", type=int, default=150)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--results", type=Path, default=Path("quantizers.jsonl"))
    given = parser.parse_args()
    setting = {"steps": given.steps, "prior_steps": given.prior_steps, "data": given.data}
    wanted = [(row, seed) for seed in range(given.seeds) for row in given.rows]
    lines = completed(given.results, wanted, setting, lambda row, seed: run(row, seed, **setting))
    print(table(lines, FIGURES))


if __name__ == "__main__":
    main()
