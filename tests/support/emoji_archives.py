"""Archives of emoji in the form of the published ones, in a folder that is their only source."""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from vaezoo.data.download.sources import DataFile, Folder
from vaezoo.data.sets import emoji


def picture(size: tuple[int, int], format: str) -> bytes:
    """A red square with a transparent right half."""
    image = Image.new("RGBA", size, (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (size[0] // 2, 0, *size))
    out = io.BytesIO()
    image.save(out, format, lossless=True)
    return out.getvalue()


def write_archives(folder: Path, names: Mapping[str, Sequence[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes one archive for each artist, with a picture for each of its file names."""
    archives = {}
    for artist, own in names.items():
        path = folder / emoji.ARCHIVES[artist][0].name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w:gz") as archive:
            for name in own:
                inside = f"package/assets/{name}.webp" if artist == "fluent" else f"package/img/{artist}/64/{name}.png"
                side = (256, 264) if artist == "fluent" else (64, 64)
                data = picture(side, "WEBP" if artist == "fluent" else "PNG")
                member = tarfile.TarInfo(inside)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        data = path.read_bytes()
        file = DataFile(name=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        archives[artist] = (file, Folder(path.parent))
    monkeypatch.setattr(emoji, "ARCHIVES", archives)
