"""Total correlation, MIG and FactorVAE score on dSprites, over seeds, with published figures.

    python benchmarks/disentanglement.py [--variants vae factor-vae beta-tc-vae] [--seeds 3] [--steps 30000]
        [--backbone conv|mlp|small] [--results disentanglement.jsonl]

Trains each variant once per seed on the drawn dSprites (train split) and measures the posterior means of held-out
images (test split). Variants that are not registered are left out. Each finished run is a line of the results file
and is not trained again, so that an interrupted series can be continued.
"""

import argparse
import time
import warnings
from pathlib import Path

from series import completed, table

import vaezoo
from vaezoo.data import load_dataset
from vaezoo.evaluation import disentanglement

# FactorVAE score and MIG with ten latents from the literature; protocols differ in detail.
PUBLISHED = {
    "vae": (0.63, 0.10),
    "beta-vae": (0.63, 0.21),
    "beta-tc-vae": (0.62, 0.45),
    "factor-vae": (0.83, 0.40),  # gamma = 10
}
OPTIONS: dict[str, dict[str, object]] = {"factor-vae": {"gamma": 10.0}, "beta-tc-vae": {"beta": 6.0}}
BACKBONES: dict[str, dict[str, object]] = {
    "conv": {"name": "conv", "channels": [32, 32, 64, 64], "dense": [256]},
    "mlp": {"name": "mlp", "hidden": [1200, 1200]},
    "small": {"name": "conv", "channels": [16, 32, 32, 64], "dense": [128]},  # for a processor
}
# A decaying learning rate lets unused latents collapse; with a little noise left they correlate with all others.
TRAIN = {"batch_size": 64, "schedule": "cosine", "final_learning_rate": 1e-5, "precision": "bf16"}
CRITICS = {"small": [256, 256, 256]}  # FactorVAE's; the paper's five layers of 1,000 elsewhere
FIGURES = {
    "total_correlation": ("TC of the means, nats", 3),
    "total_correlation_active": ("of the active ones", 3),
    "mig": ("MIG", 3),
    "published_mig": ("published", 2),
    "factor_vae_score": ("FactorVAE score", 3),
    "published_score": ("published", 2),
    "bound": ("bound, nats", 2),
    "rate": ("rate, nats", 2),
}


def recipe_of(variant: str, seed: int, steps: int, backbone: str, rate: float) -> dict[str, object]:
    """Returns the recipe of a run, the same for all variants except for their own options."""
    options = dict(OPTIONS.get(variant, {}))
    if variant == "factor-vae" and backbone in CRITICS:
        options["critic_hidden"] = CRITICS[backbone]
    return {
        "variant": variant,
        "seed": seed,
        "options": options,
        "architecture": {"latent": 10, "backbone": BACKBONES[backbone]},
        "data": {"name": "dsprites"},
        "train": TRAIN | {"steps": steps, "learning_rate": rate},
    }


def run(variant: str, seed: int, steps: int, backbone: str, rate: float, examples: int) -> dict[str, object]:
    """Trains and measures once."""
    start = time.perf_counter()
    with warnings.catch_warnings(action="ignore"):  # of unused latents; the figures show them
        model = vaezoo.train(recipe_of(variant, seed, steps, backbone, rate), out=None, trackers=()).model
    test = load_dataset("dsprites", "test")
    found = disentanglement(model, test, examples=examples)
    report = vaezoo.evaluate(model, test, samples=0, limit=examples)
    return {
        **found.as_dict(),
        "bound": report.bound.mean,
        "rate": report.rate.mean,
        "seconds": round(time.perf_counter() - start),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=["vae", "factor-vae", "beta-tc-vae"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--backbone", choices=sorted(BACKBONES), default="conv")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--examples", type=int, default=10_000, help="held-out images that are measured")
    parser.add_argument("--results", type=Path, default=Path("disentanglement.jsonl"))
    given = parser.parse_args()
    setting = {
        "steps": given.steps,
        "backbone": given.backbone,
        "learning_rate": given.learning_rate,
        "schedule": TRAIN["schedule"],
    }
    known = set(vaezoo.list_variants())
    wanted = [(variant, seed) for seed in range(given.seeds) for variant in given.variants if variant in known]
    lines = completed(
        given.results,
        wanted,
        setting,
        lambda variant, seed: run(variant, seed, given.steps, given.backbone, given.learning_rate, given.examples),
    )
    for line in lines:
        line["published_score"], line["published_mig"] = PUBLISHED.get(str(line["row"]), (None, None))
    print(table(lines, FIGURES))
    for variant in sorted(set(given.variants) - known):
        print(f"{variant}: not registered, left out")


if __name__ == "__main__":
    main()
