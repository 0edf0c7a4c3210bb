"""Conversion of hostile files: refused with one error, and no code of theirs runs."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from support.foreign import pythae_folder, saved, small

from vaezoo.errors import ConversionError, CorruptWeightsError, VaezooError
from vaezoo.storage.conversion import state_dict
from vaezoo.storage.conversion.convert import convert
from vaezoo.storage.conversion.state_dict import read_source


def test_oversized_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their size, by compression, and by tensors that are larger than their file."""
    source = small(tmp_path / "vae.pt")
    with monkeypatch.context() as patch:
        patch.setattr(state_dict, "LARGEST_FILE", source.stat().st_size - 1)
        with pytest.raises(ConversionError, match=r"more than .* bytes"):
            read_source(source)
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(ConversionError, match="compressed"):
        read_source(tmp_path / "bomb.pt")
    with pytest.raises(ConversionError, match="more than their file"):
        read_source(saved(tmp_path / "wide.pt", {"x.weight": torch.zeros(1).expand(2**20, 2**20)}))


def test_invalid_pythae_settings_are_refused(tmp_path: Path) -> None:
    folder = pythae_folder(tmp_path / "theirs")
    (folder / "model_config.json").write_text("[" * 100_000)
    with pytest.raises(CorruptWeightsError):
        read_source(folder)
    (folder / "model_config.json").write_text("[1]")
    with pytest.raises(ConversionError, match="no exact counterpart"):
        convert(folder, tmp_path / "mine")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"\x08" + bytes(7) + b"{}      ", bytes(64)])
def test_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ConversionError):
        convert(tmp_path / "x.pt", tmp_path / "mine")


@pytest.mark.parametrize("content", [3, [torch.zeros(2)], {"state_dict": {"a": 1}}, {1: torch.zeros(2)}, {}])
def test_archive_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ConversionError, match=r"state dict|expected a name"):
        read_source(saved(tmp_path / "x.pt", content))


def test_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("none.pt", "pipe", "", "a\0b"):
        with pytest.raises(ConversionError, match="cannot be read"):
            read_source(tmp_path / name)


def test_damaged_archive_raises_vaezoo_errors_only(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.pt", {"x.weight": torch.ones(2, 2)}).read_bytes()
    broken = [whole[:length] for length in range(0, len(whole), 31)]
    broken += [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(0, len(whole), 13)]
    for data in broken:
        (tmp_path / "broken.pt").write_bytes(data)
        try:
            read_source(tmp_path / "broken.pt")
        except VaezooError:
            continue
