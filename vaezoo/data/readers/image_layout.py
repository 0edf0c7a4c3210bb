"""Files, classes and splits of an image folder."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from vaezoo.data.splits import check_split, fixed_split
from vaezoo.errors import DataError, warn

SPLIT_SEED: Final = 1
"""Seed that chooses the test tenth of a folder without folders for its splits."""

SPLIT_FOLDERS: Final = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validate": "validation", "validation": "validation",
    "dev": "validation", "eval": "validation", "evaluation": "validation",
    "test": "test", "testing": "test", "holdout": "test", "heldout": "test",
}  # fmt: skip
"""Names of folders that are splits; see `split_of`."""

SUFFIXES: Final = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff",
    ".pbm", ".pgm", ".ppm", ".pnm",
})  # fmt: skip
"""Suffixes of image files, in lower case."""


LEFT_BY_SYSTEMS: Final = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
"""Files and folders that operating systems leave behind; they count as hidden."""


_REMARKED: Final[set[Path]] = set()


def end_remarks(path: Path) -> None:
    """Ends the warnings about a folder in this process, once a training has given them."""
    _REMARKED.add(path.absolute())


def remark(path: Path, text: str) -> None:
    """Warns about a folder, unless `end_remarks` was called for it."""
    if path.absolute() not in _REMARKED:
        warn(text)


def split_of(folder: str) -> str | None:
    """Returns the split that a folder's name states, such as "train" for "Training_set" or "train2017", or None."""
    letters = re.sub(r"[^a-z]", "", folder.lower())
    return SPLIT_FOLDERS.get(re.sub(r"(set|data|images|split)$", "", letters))


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Image files in sorted order, and their class numbers (N,), or None without classes."""

    files: list[Path]
    labels: Tensor | None

    def subset(self, index: Tensor) -> "Listing":
        """Returns the files at `index`."""
        labels = None if self.labels is None else self.labels[index]
        return Listing(files=[self.files[i] for i in index.tolist()], labels=labels)


class Layout:
    """An image folder: a folder for each split, each with one folder per class or none; or classes or images alone.

    Args:
        path: The folder.
        name: Name of the data set in errors.

    Raises:
        DataError: There are two folders for one split, images beside classes, or no images.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.roots = self._split_folders()
        places = list(self.roots.values()) or [path]
        self.classes = tuple(sorted({folder.name for root in places for folder in _subfolders(root)}))
        self._ignored: Counter[str] = Counter()
        self._listings = {root: self._listing(root) for root in places}
        self._warn_of_ignored()

    @property
    def files(self) -> list[Path]:
        """All image files, of every split."""
        return [file for listing in self._listings.values() for file in listing.files]

    def split(self, split: str) -> Listing:
        """Returns the files of a split.

        Args:
            split: `"train"`; `"test"`: its folder, else that of the validation split, else a fixed tenth of the
                training images, stratified by class; `"validation"`: its folder; or `"all"`.

        Raises:
            DataError: There is no such split.
        """
        if split == "all":
            listings = list(self._listings.values())
            labels = [each.labels for each in listings if each.labels is not None]
            return Listing(files=self.files, labels=torch.cat(labels) if labels else None)
        if split in self.roots and (split != "train" or len(self.roots) > 1):
            return self._listings[self.roots[split]]
        check_split(self.name, split)
        if split == "test" and "validation" in self.roots:
            return self._listings[self.roots["validation"]]
        if self.roots and "train" not in self.roots:
            raise DataError(
                f"{self.name}: got the folders {', '.join(sorted(root.name for root in self.roots.values()))}, which "
                "are splits; expected one named train beside them. Rename a folder, or put all into one more folder."
            )
        (whole,) = self._listings.values()
        if len(whole.files) < 2:
            raise DataError(f"{self.path}: got one image; expected at least two, for train and test. Add images.")
        return whole.subset(fixed_split(whole.labels, len(whole.files), every=10, seed=SPLIT_SEED)[split])

    def _split_folders(self) -> dict[str, Path]:
        """Returns the folders of the splits by split; none if the subfolders are classes."""
        found: dict[str, Path] = {}
        folders = _subfolders(self.path)
        for folder in folders:
            split = split_of(folder.name)
            if split in found:
                raise DataError(
                    f"{self.path}: got the folders {found[split].name} and {folder.name} for one split; expected one. "
                    "Rename or merge them."
                )
            if split is not None:
                found[split] = folder
        others = [folder.name for folder in folders if folder not in found.values()]
        loose = [file.name for file in _files(self.path, "*") if _is_image(file)]
        if not found or ((others or loose) and not ("train" in found and len(found) > 1)):
            return {}
        if others or loose:
            shown = ", ".join([*others, *loose][:5])
            remark(
                self.path,
                f"{self.name}: got {len(others)} folders and {len(loose)} images beside the folders of the splits "
                f"({', '.join(folder.name for folder in found.values())}): {shown}. They are ignored.",
            )
        return {split: found[split] for split in ("train", "validation", "test") if split in found}

    def _listing(self, root: Path) -> Listing:
        loose = self._images_in(root, "*")
        if self.classes and loose:
            raise DataError(
                f"{root}: got both class subfolders and an image beside them ({loose[0].name}); expected one or the "
                "other. Move the image into a subfolder."
            )
        files, labels = loose, list[int]()
        for folder in _subfolders(root):
            found = self._images_in(folder, "**/*")
            if not found:
                raise DataError(
                    f"{folder}: got a class folder without images; expected at least one. Remove or fill it."
                    f"{self._ignored_text()}"
                )
            files += found
            labels += [self.classes.index(folder.name)] * len(found)
        if not files:
            raise DataError(
                f"{root}: got no images; expected files that end in one of {', '.join(sorted(SUFFIXES))}. Check the "
                f"path.{self._ignored_text()}"
            )
        return Listing(files=files, labels=torch.tensor(labels) if self.classes else None)

    def _images_in(self, root: Path, pattern: str) -> list[Path]:
        """Returns the image files under a folder in sorted order; counts the others."""
        found = _files(root, pattern)
        self._ignored.update(file.suffix.lower() or "no suffix" for file in found if not _is_image(file))
        return [file for file in found if _is_image(file)]

    def _ignored_text(self) -> str:
        count = sum(self._ignored.values())
        kinds = ", ".join(f"{suffix}: {number:,}" for suffix, number in self._ignored.most_common(8))
        files = "1 file that is no image" if count == 1 else f"{count:,} files that are no images"
        return f" Ignored {files} ({kinds})." if count else ""

    def _warn_of_ignored(self) -> None:
        if self._ignored:
            remark(self.path, f"{self.name}:{self._ignored_text()} If they are images, convert them to PNG or JPEG.")


def _subfolders(root: Path) -> Sequence[Path]:
    return sorted(child for child in root.iterdir() if child.is_dir() and not _is_hidden(child))


def _files(root: Path, pattern: str) -> list[Path]:
    """Returns the files that match a pattern, without hidden ones, in sorted order."""
    return sorted(file for file in root.glob(pattern) if not _is_hidden(file) and file.is_file())


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in LEFT_BY_SYSTEMS


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES
