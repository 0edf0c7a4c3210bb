"""Conversion of hostile files: refused with one error, and no code of theirs runs."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from support.foreign import Example, pythae_folder, saved, small

from vaezoo.errors import ConversionError, CorruptWeightsError, VaezooError
from vaezoo.storage.conversion import state_dict
from vaezoo.storage.conversion.convert import convert
from vaezoo.storage.conversion.state_dict import read_source


class System:
    """The content of a malicious pickle: a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


AUDIT = r"""
import sys, json
from pathlib import Path
import vaezoo, vaezoo.storage.conversion
place, seen, results = sys.argv[1], [], {}
def hook(event, arguments):
    if event in ("os.system", "subprocess.Popen", "socket.connect", "os.exec", "os.fork"):
        seen.append([event, repr(arguments)])
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(place + "/theirs"):
        seen.append(["open", str(Path(arguments[0]).relative_to(place + "/theirs"))])
sys.addaudithook(hook)
for source in sys.argv[2:]:
    seen.clear()
    try:
        result = str(vaezoo.convert(f"{place}/theirs/{source}", f"{place}/mine/{source}"))
    except vaezoo.VaezooError as error:
        result = type(error).__name__
    results[source] = [result, sorted(map(list, {tuple(each) for each in seen}))]
print(json.dumps(results))
"""


def test_malicious_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    """In a process with an audit hook; of a pythae folder only the settings and the state dict are opened."""
    theirs, bomb = tmp_path / "theirs", System(f"touch {tmp_path}/ran")
    folder = pythae_folder(theirs / "pythae")
    for name in ("encoder.pkl", "decoder.pkl", "environment.json", "README.md"):
        (folder / name).write_bytes(pickle.dumps(bomb))
    state = Example(12, 8, 3).state_dict()
    saved(theirs / "alone", bomb)
    saved(theirs / "beside tensors", {**state, "x": bomb})
    saved(theirs / "a module", {**state, "x": Example(2, 2, 2)})
    torch.save(bomb, theirs / "legacy", _use_new_zipfile_serialization=False)
    (theirs / "bare").write_bytes(pickle.dumps(bomb))
    names = sorted(path.name for path in theirs.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(tmp_path), *names], capture_output=True, text=True, timeout=200, check=True
    )
    results = json.loads(done.stdout)
    assert not (tmp_path / "ran").exists() and [path.name for path in (tmp_path / "mine").iterdir()] == ["pythae"]
    result, seen = results.pop("pythae")
    assert result.startswith("Wrote") and seen == [["open", "pythae/model.pt"], ["open", "pythae/model_config.json"]]
    assert results == {name: ["ConversionError", [["open", name]]] for name in names if name != "pythae"}


def test_error_names_the_content_of_a_malicious_pickle(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"holds no plain state dict.*Nothing of it was run"):
        read_source(small(tmp_path / "vae.pt", x=System("true")))


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
