"""Reader of image folders: one class per subfolder, or images without labels if there are no subfolders."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vaezoo.data.dataset import Dataset
from vaezoo.data.readers.image_layout import SPLIT_SEED as SPLIT_SEED
from vaezoo.data.readers.image_layout import Layout, remark
from vaezoo.data.readers.pixels import Header, draft, image_tensor, open_image, read_header
from vaezoo.data.streaming.dataset import StreamedDataset, stream
from vaezoo.data.streaming.limits import memory_limit
from vaezoo.data.transforms.image_options import ImageOptions
from vaezoo.errors import DataError

T = TypeVar("T")
R = TypeVar("R")

_LISTED = 10  # files named in an error


def load_folder(
    path: Path,
    split: str,
    *,
    options: ImageOptions | None = None,
    limit: int | None = None,
    workers: int | None = None,
) -> Dataset:
    """Returns the images under `path`, in sorted order, as `uint8` of shape (N, C, H, W).

    C is 1 if every image is gray, otherwise 3, unless the options state it. Without a size in the options, all images
    must have one. Subfolders named like splits (`train`, `val`, `test`) are these; see `Layout.split`. Hidden files are
    ignored; other files than images are counted in a warning.

    Args:
        path: A folder of images, or of one subfolder per class, or of one subfolder per split.
        split: `"train"`, `"test"`, `"all"`, or `"validation"` if there is a folder for it.
        options: Size, crop, channels and background of the images.
        limit: See `memory_limit`. Only the headers of a streamed split are read here.
        workers: See `worker_count`.

    Raises:
        DataError: The folder or split does not exist, there is no image, images are corrupt, or sizes differ; the
            message names up to ten files.
        MissingExtraError: Pillow is not installed.
    """
    name, options = f"folder:{path}", options or ImageOptions()
    if not path.is_dir():
        raise DataError(f"{name}: got no folder at this path; expected a folder of images. Check the path.")
    layout = Layout(path, name)
    listing = layout.split(split)
    # All splits determine the channels, so that a gray test set fits a color training set.
    headers = dict(zip(layout.files, for_each(read_header, layout.files, name), strict=True))
    chosen = [headers[file] for file in listing.files]
    _check_sizes(listing.files, chosen, options, name)
    _warn_of_changes(path, chosen, options, name)
    source = FolderImages(listing.files, chosen[0], options, gray=_all_gray(headers.values(), options))
    facts: dict[str, Any] = {  # Any: arguments of Dataset
        "labels": listing.labels,
        "classes": len(layout.classes) or None,
        "class_names": layout.classes or None,
        "names": [file.relative_to(path).as_posix() for file in listing.files],
    }
    if len(source) * math.prod(source.shape) > memory_limit(limit):
        return StreamedDataset(name=name, split=split, reader=stream(source), workers=workers, **facts)
    return Dataset(name=name, split=split, images=source.read(torch.arange(len(source))), **facts)


class FolderImages:
    """Image files, decoded when they are read (an `ImageSource`).

    Args:
        files: At least one file.
        first: Facts of the first one, whose size is that of all without a size in the options.
        options: Size, crop and background.
        gray: Whether the images have one channel or three.
    """

    def __init__(self, files: Sequence[Path], first: Header, options: ImageOptions, *, gray: bool) -> None:
        self.files, self.options, self.gray = [str(file) for file in files], options, gray
        self.shape: tuple[int, ...] = (1 if gray else 3, *(options.size or first.size))

    def __len__(self) -> int:
        """Returns the number of files."""
        return len(self.files)

    def read(self, positions: Tensor) -> Tensor:
        """Returns the images at `positions` (B,) as `uint8` (B, C, H, W)."""
        images = torch.empty(len(positions), *self.shape, dtype=torch.uint8)
        places = positions.tolist()

        def copy(row: int) -> None:
            images[row] = self._pixels(Path(self.files[places[row]]))

        for_each(copy, range(len(places)), "Images")
        return images

    def _pixels(self, file: Path) -> Tensor:
        with open_image(file) as image:
            draft(image, self.options)
            pixels = image_tensor(image, str(file), self.options, gray=self.gray)
        if tuple(pixels.shape) != self.shape:
            raise DataError(
                f"{file}: got an image of {pixels.shape[2]} x {pixels.shape[1]} pixels; expected {self.shape[2]} x "
                f"{self.shape[1]}, as when the folder was listed. Do not change files during a run, or set size."
            )
        return pixels


def for_each(work: Callable[[T], R], items: Iterable[T], name: str) -> list[R]:
    """Returns the results of `work` for each item.

    Raises:
        DataError: `work` raised it for some items: the only error, or one that lists the first ten.
    """
    found, failed = list[R](), list[DataError]()
    for item in items:
        try:
            found.append(work(item))
        except DataError as error:
            failed.append(error)
    if len(failed) > 1:
        lines = "\n".join(f"  {error}" for error in failed[:_LISTED])
        more = f"\n  and {len(failed) - _LISTED:,} more" if len(failed) > _LISTED else ""
        raise DataError(f"{name}: got {len(failed):,} images that cannot be used:\n{lines}{more}")
    if failed:
        raise failed[0]
    return found


def _all_gray(headers: Iterable[Header], options: ImageOptions) -> bool:
    if options.channels is not None:
        return options.channels == "gray"
    colored = len(set(options.fill)) > 1  # a background in color makes transparent images colored
    return all(header.gray and not (colored and header.transparent) for header in headers)


def _check_sizes(files: Sequence[Path], headers: Sequence[Header], options: ImageOptions, name: str) -> None:
    if options.size is not None or len(sizes := {header.size for header in headers}) == 1:
        return
    height, width = headers[0].size
    odd = [
        f"{file} ({header.size[1]} x {header.size[0]})"
        for file, header in zip(files, headers, strict=True)
        if header.size != (height, width)
    ]
    more = f" and {len(odd) - _LISTED:,} more" if len(odd) > _LISTED else ""
    raise DataError(
        f"{name}: got images of {len(sizes):,} different sizes; expected {width} x {height} pixels, the size of the "
        f"first one, {files[0]}. Others are {', '.join(odd[:_LISTED])}{more}. Set a size to resize all: size = 64 in "
        "[data] of a recipe, size=64 of load_dataset."
    )


def _warn_of_changes(path: Path, headers: Sequence[Header], options: ImageOptions, name: str) -> None:
    """Warns once about images of which less remains than their files have."""
    counts = {
        "with transparency, which becomes black: set background = 'white' or another color, or 'black' to confirm": (
            0 if options.background else sum(header.transparent for header in headers)
        ),
        "with several images in one file, of which only the first is read": sum(header.animated for header in headers),
        "with 16 bits per channel, which become 8 (65535 becomes 255): for full precision pass floating tensors in "
        "[0, 1] to from_tensors": sum(header.deep for header in headers),
    }
    notes = [f"{count:,} {text}" for text, count in counts.items() if count]
    if notes:
        remark(path, f"{name}: got {len(headers):,} images, {'; '.join(notes)}.")
