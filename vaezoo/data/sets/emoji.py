"""Emoji: about 10,900 drawings of 64x64 pixels in color, by three artists, on white."""

import hashlib
import io
import json
import logging
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import avg_pool2d

from vaezoo.core import require
from vaezoo.data.dataset import Dataset
from vaezoo.data.download.cache import Collection, ensure, locked
from vaezoo.data.download.registries import NpmPackage
from vaezoo.data.download.sources import DataFile
from vaezoo.data.factors import Factors
from vaezoo.errors import DataError, did_you_mean, shorten

ARTISTS: Final = ("google", "twitter", "fluent")
LICENSES: Final = {
    "google": "Noto Emoji: Google, Apache-2.0",
    "twitter": "Twemoji: Twitter and contributors, CC BY 4.0",
    "fluent": "Fluent Emoji: Microsoft, MIT",
}
CATEGORIES: Final = (
    "Activities", "Animals & Nature", "Component", "Flags", "Food & Drink", "Objects", "People & Body",
    "Smileys & Emotion", "Symbols", "Travel & Places",
)  # fmt: skip
SIZES: Final = (32, 64)
SPLITS: Final = ("train", "validation", "test", "all")

_SKIN_TONES: Final = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
# skin tone, style, joiner, gender, end of a tag, facing right
_MODIFIERS: Final = frozenset({*_SKIN_TONES, "fe0f", "200d", "2640", "2642", "e007f", "27a1"})
_ADULTS: Final = frozenset({"1f468", "1f469"})  # man, woman: drawn almost like 1f9d1, the adult
_CHILDREN: Final = frozenset({"1f466", "1f467", "1f9d2"})
_TWINS: Final = {  # drawn alike by at least one of the artists
    "1f46b": "1f9d1-1f91d-1f9d1", "1f46c": "1f9d1-1f91d-1f9d1", "1f46d": "1f9d1-1f91d-1f9d1",  # holding hands
    "1f48f": "1f9d1-2764-1f48b-1f9d1", "1f491": "1f9d1-2764-1f9d1", "1f471": "1f9d1", "1f63a": "1f431",
    "1faf1-1faf2": "1f91d",
    "1f1ed-1f1f2": "1f1e6-1f1fa", "1f1e7-1f1fb": "1f1f3-1f1f4", "1f1f8-1f1ef": "1f1f3-1f1f4",  # flags
    "1f1e8-1f1f5": "1f1eb-1f1f7", "1f1f2-1f1eb": "1f1eb-1f1f7", "1f1e8-1f1f6": "1f1f8-1f1e6",
    "1f1ee-1f1f4": "1f1e9-1f1ec", "1f1ea-1f1e6": "1f1ea-1f1f8", "1f1fa-1f1f2": "1f1fa-1f1f8",
}  # fmt: skip

ARCHIVES: Final = {
    artist: (DataFile(name=f"{package.lstrip('@').replace('/', '-')}-{version}.tgz", size=size, sha256=sha256),
             NpmPackage(package, version))
    for artist, package, version, size, sha256 in (
        ("google", "emoji-datasource-google", "16.0.0", 74_344_091,
         "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"),
        ("twitter", "emoji-datasource-twitter", "16.0.0", 61_683_754,
         "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"),
        ("fluent", "@lobehub/fluent-emoji-3d", "1.1.0", 15_792_027,
         "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"),
    )
}  # fmt: skip


def emoji(split: str, *, cache: Path, download: bool, choice: str = "") -> Dataset:
    """Returns emoji as `uint8` images (N, 3, 64, 64) on white; labels are the ten Unicode categories.

    Factors are the artist (google, twitter, fluent) and the skin tone (0 for none, 1 to 5 from light to dark; the first
    one of several). Splits are by character: a hash of the code points without skin tone, gender and style sends a
    tenth to the test set and a tenth to the validation set, so that no drawing of a test character, by any artist, is
    in the training set. All families count as one character, and so do flags that are equal.

    Licenses: Noto Emoji, Apache-2.0; Twemoji, CC BY 4.0; Fluent Emoji, MIT. The drawings come from the npm packages
    emoji-datasource-google, emoji-datasource-twitter and @lobehub/fluent-emoji-3d.

    Args:
        split: "train", "validation", "test" or "all".
        cache: Root of the cache; it keeps one file of tensors for each artist.
        download: Whether missing archives may be downloaded.
        choice: A size, artists, or both, separated by commas, such as "32" (each pixel is the mean of four) or
            "64,google". All artists and 64 by default.

    Raises:
        DataError: The split or the choice is unknown.
        DownloadError: No source has a verified copy.
        MissingExtraError: Pillow is not installed.
    """
    if split not in SPLITS:
        raise DataError(
            f"emoji: got split {shorten(split)}; expected one of {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}"
        )
    artists, size = chosen(choice)
    parts = [drawings(artist, cache=cache, download=download) for artist in artists]
    facts = [fact for _, part in parts for fact in part]
    keep = torch.tensor([split in ("all", split_of(fact["character"])) for fact in facts])
    images = torch.cat([images for images, _ in parts])[keep]
    facts = [fact for fact, kept in zip(facts, keep.tolist(), strict=True) if kept]
    values = torch.tensor([[ARTISTS.index(fact["artist"]), fact["tone"]] for fact in facts])
    if size != images.shape[-1]:
        images = torch.cat([avg_pool2d(part.float(), 64 // size).round_().byte() for part in images.split(256)])
    return Dataset(
        name=f"emoji:{choice}" if choice else "emoji",
        split=split,
        images=images,
        labels=torch.tensor([CATEGORIES.index(fact["category"]) for fact in facts]),
        classes=len(CATEGORIES),
        class_names=CATEGORIES,
        licence=licence(choice),
        factors=Factors.of(values, ["artist", "skin tone"], [len(ARTISTS), 1 + len(_SKIN_TONES)]),
    )


def licence(choice: str = "") -> str:
    """Returns the licenses and the attribution of the drawings of a choice; raises DataError as `emoji` does."""
    return "Emoji: " + "; ".join(LICENSES[artist] for artist in chosen(choice)[0])


def chosen(choice: str) -> tuple[list[str], int]:
    """Returns the artists and the size of a choice such as "32,google"; raises DataError for an unknown word."""
    words = choice.split(",") if choice else []
    known = [*ARTISTS, *map(str, SIZES)]
    sizes = [int(word) for word in words if word in map(str, SIZES)]
    wrong = [word for word in words if word not in known]
    if wrong or len(sizes) > 1:
        raise DataError(
            f"Got emoji:{shorten(choice)}; expected one size and any artists of {', '.join(known)}, separated by "
            f"commas, such as emoji:32 or emoji:64,google.{did_you_mean(wrong[0], known) if wrong else ''}"
        )
    return [artist for artist in ARTISTS if artist in words] or list(ARTISTS), sizes[0] if sizes else 64


def split_of(character: str) -> str:
    """Returns the split of a character: that of its hash."""
    place = int.from_bytes(hashlib.sha256(character.encode()).digest()[:4]) % 10
    return {0: "test", 1: "validation"}.get(place, "train")


def points_of(name: str) -> str:
    """Returns the code points in a file name without skin tone, gender and style, which artists hardly draw."""
    points = [point.lstrip("0") for point in re.split("[-_]", name.lower())]
    kept = ["1f9d1" if point in _ADULTS else point for point in points if point not in _MODIFIERS]
    if kept == ["1f46a"] or (len(kept) > 1 and _CHILDREN & {*kept}):
        return "1f46a"
    return "-".join(kept) or ("tone" if points[0] in _SKIN_TONES else points[0])


def character_of(name: str) -> str:
    """Returns the character in a file name: `points_of`, or those of the character that is drawn alike."""
    points = points_of(name)
    return _TWINS.get(points, points)


def drawings(artist: str, *, cache: Path, download: bool) -> tuple[Tensor, list[dict[str, Any]]]:
    """Returns all images of an artist, (N, 3, 64, 64), and the facts of each, from one file in the cache.

    The file is made from the verified archive, which is then removed; a damaged file is made again.

    Raises:
        DownloadError: No source has a verified copy of the archive.
    """
    folder = cache / "data" / "emoji"
    file = folder / f"{artist}.safetensors"
    if (found := _read(file)) is None:
        archive, source = ARCHIVES[artist]
        [path] = ensure(Collection(name="emoji", files=(archive,), sources=(source,)), cache=cache, download=download)
        with locked(folder):
            if (found := _read(file)) is None:
                found = _drawn(artist, path)
                _write(file, *found)
            path.unlink(missing_ok=True)
    return found


def _read(file: Path) -> tuple[Tensor, list[dict[str, Any]]] | None:
    """Returns images and facts of a file in the cache, or None if it is missing or damaged."""
    try:
        tensors = load_file(file)
        facts = tensors["facts"].numpy().tobytes()
        whole = hashlib.sha256(tensors["images"].numpy().data)
        whole.update(facts)
        if whole.digest() == tensors["sha256"].numpy().tobytes():
            return tensors["images"], json.loads(facts)
        logging.getLogger(__name__).warning("%s is damaged and is made again.", file)
    except FileNotFoundError:
        pass
    except Exception as error:  # safetensors raises its own types for a file that is cut
        logging.getLogger(__name__).warning("%s cannot be read (%s) and is made again.", file, error)
    return None


def _write(file: Path, images: Tensor, facts: list[dict[str, Any]]) -> None:
    text = json.dumps(facts).encode()
    whole = hashlib.sha256(images.numpy().data)
    whole.update(text)
    pieces = {"facts": text, "sha256": whole.digest()}
    tensors = {key: torch.frombuffer(bytearray(piece), dtype=torch.uint8) for key, piece in pieces.items()}
    work = file.with_name(f".{file.name}.{os.getpid()}")
    work.write_bytes(save({"images": images, **tensors}))
    os.replace(work, file)


def _drawn(artist: str, archive: Path) -> tuple[Tensor, list[dict[str, Any]]]:
    """Returns images and facts of all drawings in an archive, in the order of their names."""
    images, facts, categories = list[Tensor](), list[dict[str, Any]](), _categories()
    for name, data in _pictures(archive):
        tones = [_SKIN_TONES.index(point) + 1 for point in re.split("[-_]", name) if point in _SKIN_TONES]
        fact = {"name": name, "character": character_of(name), "category": categories[points_of(name)]}
        facts.append({**fact, "artist": artist, "tone": tones[0] if tones else 0})
        images.append(_pixels(data))
    return torch.stack(images), facts


def _categories() -> dict[str, str]:
    """Returns the Unicode category of the code points of each character, from a table beside this file."""
    lines = Path(__file__).with_name("emoji_categories.txt").read_text().splitlines()
    rows = (line.partition(": ") for line in lines)
    return {points: category for category, _, known in rows for points in known.split()}


def _pictures(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yields name and bytes of the drawings in an archive, sorted by name."""
    with tarfile.open(archive, "r:gz") as opened:
        found = {}
        for member in opened:
            path = PurePosixPath(member.name)
            if member.isfile() and (path.parent.name == "64" or path.suffix == ".webp"):
                found[path.stem] = opened.extractfile(member).read()  # type: ignore[union-attr]  # a file has a reader
    yield from sorted(found.items())


def _pixels(data: bytes) -> Tensor:
    """Returns a drawing on a white square, 64x64: each pixel is the mean of those that it covers."""
    pillow = require("PIL.Image", "Pillow", "The data set emoji")
    with pillow.open(io.BytesIO(data), formats=("PNG", "WEBP")) as image:
        clear = image.convert("RGBA")
    side = max(clear.size)
    canvas = pillow.new("RGBA", (side, side), "white")
    canvas.alpha_composite(clear, ((side - clear.width) // 2, (side - clear.height) // 2))
    square = canvas.convert("RGB").resize((64, 64), pillow.Resampling.BOX)
    return torch.from_numpy(np.array(square).transpose(2, 0, 1).copy())
