"""Files of CIFAR-10 and CelebA in the published formats, with few random images, and their MD5 sums."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, CelebA


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar10(cache: Path, monkeypatch: pytest.MonkeyPatch, each: int = 12) -> None:
    """Writes six batches of so many images, with the labels 0 to 9 in turn."""
    folder, draw = cache / "torchvision" / "CIFAR10" / CIFAR10.base_folder, np.random.default_rng(0)
    folder.mkdir(parents=True)
    for kind in ("train_list", "test_list"):
        names = [name for name, _ in getattr(CIFAR10, kind)]
        for name in names:
            rows = {
                "data": draw.integers(256, size=(each, 3072), dtype=np.uint8),
                "labels": [i % 10 for i in range(each)],
            }
            (folder / name).write_bytes(pickle.dumps(rows))
        monkeypatch.setattr(CIFAR10, kind, [[name, md5(folder / name)] for name in names])
    meta = folder / str(CIFAR10.meta["filename"])
    meta.write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(meta)})


def write_celeba(cache: Path, monkeypatch: pytest.MonkeyPatch, train: int = 24, test: int = 4) -> None:
    """Writes aligned images of 178 x 218 pixels, the lists of attributes, identities, boxes, landmarks and splits."""
    folder, draw = cache / "torchvision" / "CelebA" / CelebA.base_folder, np.random.default_rng(0)
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06}.jpg" for i in range(train + test)]
    for name in names:
        coarse = Image.fromarray(draw.integers(256, size=(5, 4, 3), dtype=np.uint8))
        coarse.resize((178, 218)).save(folder / "img_align_celeba" / name)
    rows = {  # the header lines of each list, and the numbers of one row
        "list_attr_celeba.txt": ([str(len(names)), "5_o_Clock_Shadow Young"], "-1  1"),
        "identity_CelebA.txt": ([], "7"),
        "list_bbox_celeba.txt": ([str(len(names)), "image_id x_1 y_1 width height"], "95  71 226 313"),
        "list_landmarks_align_celeba.txt": ([str(len(names)), "lefteye_x lefteye_y"], "69  109"),
        "list_eval_partition.txt": ([], "0"),
    }
    for file, (head, numbers) in rows.items():
        splits = ["0"] * train + ["2"] * test if file == "list_eval_partition.txt" else [numbers] * len(names)
        lines = [*head, *(f"{name} {values}" for name, values in zip(names, splits, strict=True))]
        (folder / file).write_text("\n".join(lines) + "\n", encoding="ascii")
    sums = [(key, md5(folder / name) if name in rows else kept, name) for key, kept, name in CelebA.file_list]
    monkeypatch.setattr(CelebA, "file_list", sums)
