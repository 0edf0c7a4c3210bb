"""Converting what strangers made: nothing of it is run, whatever it holds, and memory stays bounded."""

import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from support.foreign import Example, pythae_folder, saved, small
from torch import nn

from vaezoo.errors import ConversionError, CorruptWeightsError, VaezooError
from vaezoo.storage.conversion import state_dict as reading
from vaezoo.storage.conversion.convert import convert
from vaezoo.storage.conversion.state_dict import read_source


class System:
    """What a hostile pickle holds: a call of the shell."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


class Custom(nn.Linear):
    """A whole module pickled, as many people save their models."""


def archive(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED, **records: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in {"data.pkl": pickled, "version": b"3\n", **records}.items():
            file.writestr(f"archive/{name}", data)
    return path


def pickle_of(state: object, path: Path) -> bytes:
    torch.save(state, path)
    with zipfile.ZipFile(path) as file:
        return file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))


WATCHER = r"""
import sys, json
from pathlib import Path
import torch, vaezoo, vaezoo.storage.conversion, vaezoo.variants.vae, vaezoo.backbones.mlp
import vaezoo.likelihoods.bernoulli
place = sys.argv[1]
seen = []
def watch(event, arguments):
    if event in ("os.system", "subprocess.Popen", "socket.connect", "pickle.find_class", "os.exec", "os.fork"):
        seen.append([event, repr(arguments)])
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(place + "/theirs"):
        seen.append(["open", str(Path(arguments[0]).relative_to(place + "/theirs"))])
sys.addaudithook(watch)
results = {}
for source in sys.argv[2:]:
    seen.clear()
    try:
        result = str(vaezoo.convert(f"{place}/theirs/{source}", f"{place}/mine/{source}"))
    except vaezoo.VaezooError as error:
        result = type(error).__name__
    results[source] = [result, list(seen)]
print(json.dumps(results))
"""

BESIDE = ("encoder.pkl", "decoder.pkl", "environment.json", "README.md", "training_config.json")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[list[str]]]]:
    """Converts in a process of its own; for each source, what came of it, and what was run or opened there."""
    place = tmp_path_factory.mktemp("watched")
    theirs, bomb = place / "theirs", System(f"touch {place}/ran")
    folder = pythae_folder(theirs / "pythae")
    for name in BESIDE:
        (folder / name).write_bytes(pickle.dumps(bomb))
    state = Example(12, 8, 3).state_dict()
    saved(theirs / "alone", bomb)
    saved(theirs / "wrapped", {"model_state_dict": bomb})
    saved(theirs / "beside tensors", {**state, "x": bomb})
    saved(theirs / "a module", {**state, "x": Custom(2, 2)})
    torch.save(bomb, theirs / "legacy", _use_new_zipfile_serialization=False)
    (theirs / "bare").write_bytes(pickle.dumps(bomb))
    names = sorted(path.name for path in theirs.iterdir())
    command = [sys.executable, "-c", WATCHER, str(place), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert not (place / "ran").exists()
    assert [path.name for path in (place / "mine").iterdir()] == ["pythae"]
    results: dict[str, tuple[str, list[list[str]]]] = json.loads(done.stdout)
    return results


class TestHostileFiles:
    def test_of_a_pythae_folder_two_files_are_opened_and_nothing_runs(self, watched: dict[str, object]) -> None:
        result, seen = watched["pythae"]
        assert result.startswith("Wrote")
        assert seen == [["open", "pythae/model_config.json"], ["open", "pythae/model.pt"]]

    @pytest.mark.parametrize("name", ["alone", "wrapped", "beside tensors", "a module", "legacy", "bare"])
    def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
        self, watched: dict[str, object], name: str
    ) -> None:
        assert watched[name] == ["ConversionError", [["open", name]]]

    def test_torch_refuses_it_too_should_our_own_reading_fail(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "check_pickle", lambda data, name: None)
        source = small(tmp_path / "vae.pt", x=System(f"touch {tmp_path}/ran"))
        with pytest.raises(ConversionError, match="torch says"):
            read_source(source)
        assert not (tmp_path / "ran").exists()

    def test_the_message_names_what_it_holds(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"holds '(posix|nt|os).system'.*Nothing of it was run"):
            read_source(small(tmp_path / "vae.pt", x=System("true")))

    def test_a_compressed_archive_is_refused_before_it_is_unpacked(self, tmp_path: Path) -> None:
        pickled = pickle_of({}, tmp_path / "empty.pt")
        zeros = bytes(2**26)
        path = archive(tmp_path / "bomb.pt", pickled, zipfile.ZIP_DEFLATED, **{"data/0": zeros})
        del zeros
        tracemalloc.start()
        with pytest.raises(ConversionError, match="compressed"):
            read_source(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()

    def test_more_numbers_than_there_are_bytes(self, tmp_path: Path) -> None:
        """One number stretched over a huge tensor, and a record that is shorter than the pickle says."""
        wide = torch.zeros(1).expand(2**20, 2**20)
        with pytest.raises(ConversionError, match="more than their file"):
            read_source(saved(tmp_path / "wide.pt", {"x.weight": wide}))
        pickled = pickle_of({"x.weight": torch.zeros(1000, 1000)}, tmp_path / "zeros.pt")
        for size in (0, 4, 4000):
            with pytest.raises(ConversionError):
                read_source(archive(tmp_path / "short.pt", pickled, **{"data/0": bytes(size)}))

    def test_dictionaries_made_of_dictionaries(self, tmp_path: Path) -> None:
        """A few bytes each, and each a copy of all that came before."""
        many = OrderedDict((str(number), number) for number in range(100))
        body = pickle.dumps(list(many.items()), protocol=2)[2:-1] + b"q\xfe0"
        copies = b"ccollections\nOrderedDict\nq\xff(h\xfetR0" + b"h\xff(h\xfetR0" * 100
        for pickled in (
            b"\x80\x02" + body + copies + b"}.",
            b"\x80\x02" + body.replace(b"q\xfe0", b"") + copies + b".",
        ):
            with pytest.raises(ConversionError, match="plain state dict"):
                read_source(archive(tmp_path / "copies.pt", pickled))

    def test_limits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = small(tmp_path / "vae.pt")
        with monkeypatch.context() as patch:
            patch.setattr(reading, "LARGEST_FILE", source.stat().st_size - 1)
            with pytest.raises(ConversionError, match="too many to be"):
                read_source(source)
        many = {f"x{number}": torch.zeros(1) for number in range(3000)}
        with pytest.raises(ConversionError, match=r"records|describes its tensors"):
            read_source(saved(tmp_path / "many.pt", many))
        folder = pythae_folder(tmp_path / "theirs")
        (folder / "model_config.json").write_text("[" * 100_000)
        with pytest.raises(CorruptWeightsError):
            read_source(folder)
        (folder / "model_config.json").write_text("[1]")
        with pytest.raises(ConversionError, match="no exact counterpart"):
            convert(folder, tmp_path / "mine")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"\x08" + bytes(7) + b"{}      ", bytes(64)])
    def test_no_state_dict_at_all(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(ConversionError):
            convert(tmp_path / "x.pt", tmp_path / "mine")

    @pytest.mark.parametrize("content", [3, [torch.zeros(2)], {"state_dict": {"a": 1}}, {1: torch.zeros(2)}, {}])
    def test_no_table_of_tensors(self, tmp_path: Path, content: object) -> None:
        with pytest.raises(ConversionError, match=r"state dict|no name"):
            read_source(saved(tmp_path / "x.pt", content))

    def test_no_such_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for name, words in (("none.pt", "cannot be read"), ("pipe", "is no file"), ("", "model_config.json")):
            with pytest.raises(ConversionError, match=words):
                read_source(tmp_path / name)
        with pytest.raises(ConversionError, match="cannot be read"):
            read_source(Path("a\0b"))

    def test_every_cut_and_many_changed_bytes_give_our_errors_alone(self, tmp_path: Path) -> None:
        tensors = {"x.weight": torch.ones(2, 2)}
        whole = saved(tmp_path / "whole.pt", tensors).read_bytes()
        broken = [whole[:length] for length in range(0, len(whole), 7)]
        broken += [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(0, len(whole), 5)]
        read = 0
        for data in broken:
            (tmp_path / "broken.pt").write_bytes(data)
            try:
                found = read_source(tmp_path / "broken.pt").tensors
            except VaezooError:
                continue
            read += 1
            assert all(torch.equal(tensor, torch.ones(2, 2)) for tensor in found.values())
        assert 0 < read < len(broken) / 2  # what lies between the records says nothing
