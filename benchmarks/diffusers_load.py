"""Compares loading the common f8 autoencoder of latent diffusion (84 million parameters) here and in diffusers.

    python benchmarks/diffusers_load.py [--runs 5] [--folder FOLDER]

Each load runs in a process of its own, in turns. Prints medians of processor seconds: of the load after its imports; of
the load and the first use of each weight, since diffusers maps the file into memory and reads it then, while vaezoo
first compares it with names, shapes and types and computes its hash; and of the whole process. Then the peak resident
memory after the imports, and after the first use.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 256,
}
UNITS = {
    "load": "s",
    "load and first use": "s",
    "whole process": "s",
    "memory after imports": "MB",
    "peak memory": "MB",
}


def peak() -> float:
    """Returns the peak resident memory of this process, in megabytes (Linux)."""
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def measure(library: str, folder: str) -> dict[str, float]:
    """Loads the model once, and returns figures of this process."""
    if library == "diffusers":
        from diffusers import AutoencoderKL

        load = AutoencoderKL.from_pretrained
    else:
        import vaezoo

        load = vaezoo.load
    imports, start = peak(), time.process_time()
    model = load(folder)
    loaded = time.process_time()
    assert all(bool(each.sum().isfinite()) for each in model.parameters())
    used = time.process_time()
    figures = [loaded - start, used - start, used, imports, peak()]
    assert sum(each.numel() for each in model.parameters()) == 83_653_863
    return dict(zip(UNITS, figures, strict=True))


def main() -> None:
    """Measures in turns, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder")
    parser.add_argument("--measure", choices=("vaezoo", "diffusers"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or f"{scratch}/model"
        if not Path(folder).exists():
            from diffusers import AutoencoderKL

            AutoencoderKL(**SETTINGS).save_pretrained(folder)
        found: dict[str, list[dict[str, float]]] = {"vaezoo": [], "diffusers": []}
        for _ in range(given.runs):
            for library, figures in found.items():
                command = [sys.executable, __file__, "--measure", library, "--folder", folder]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                figures.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"| figure | {' | '.join(found)} | ratio |\n| --- | --- | --- | --- |")
    for key, unit in UNITS.items():
        ours, theirs = (statistics.median(each[key] for each in figures) for figures in found.values())
        print(f"| {key} | {ours:.2f} {unit} | {theirs:.2f} {unit} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
