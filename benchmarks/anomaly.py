"""Separates the test images of one data set from those of another by scores of pretrained models.

    python benchmarks/anomaly.py [--models vae-fashion-mnist vamp-vae-fashion-mnist] [--usual fashion-mnist]
        [--unusual mnist] [--n 10000] [--samples 5]

Prints the area under the ROC curve, the average precision and the false alarms at 95 % detections for each score. Both
sets are binarized as the model's training data. The reference of typicality are 10,000 training images.
"""

import argparse

import torch

import vaezoo
from vaezoo.data import Dataset, load_dataset
from vaezoo.evaluation import anomaly_scores, detection


def chosen(name: str, split: str, n: int) -> Dataset:
    """Returns a random part of a split."""
    data = load_dataset(name, split)
    return data.subset(torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:n])


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vae-fashion-mnist", "vamp-vae-fashion-mnist"])
    parser.add_argument("--usual", default="fashion-mnist")
    parser.add_argument("--unusual", default="mnist")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=5)
    options = parser.parse_args()
    usual, unusual = (chosen(name, "test", options.n) for name in (options.usual, options.unusual))
    reference = chosen(options.usual, "train", options.n)
    print("| model | score | AUROC | average precision | false alarms at 95 % |\n| --- | --- | --- | --- | --- |")
    for name in options.models:
        model = vaezoo.load(name)
        for score in ("bound", "distortion", "rate", "typicality"):
            given = {"reference": reference} if score == "typicality" else {}
            scores = [anomaly_scores(model, data, score, samples=options.samples, **given) for data in (usual, unusual)]
            found = detection(*scores)
            print(f"| {name} | {score} | {found.auroc:.3f} | {found.aupr:.3f} | {found.fpr95:.3f} |", flush=True)


if __name__ == "__main__":
    main()
