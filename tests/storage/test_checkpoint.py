"""Checkpoints: complete or absent, damage refused, no pickle."""

import json
import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as pack_tensors
from support.forks import at_change, ended, forked

from vaezoo.errors import CheckpointError, CorruptWeightsError
from vaezoo.storage import checkpoint
from vaezoo.storage.checkpoint import Checkpoint, listed, newest, prune, read_folder, remove_stale_files, write_folder
from vaezoo.storage.files import write_file
from vaezoo.storage.json_files import canonical, parse_json, sha256


def content(value: float = 1.0) -> Checkpoint:
    return Checkpoint(
        tensors={
            "model": {"w": torch.full((3, 2), value), "step": torch.tensor(value), "n": torch.tensor([1, 2])},
            "averages": {"w": torch.full((3, 2), value, dtype=torch.bfloat16)},
        },
        state={"value": value, "none": None, "list": [1, "a"]},
    )


def same(a: Checkpoint, b: Checkpoint) -> bool:
    one, other = ({group: pack_tensors(dict(each)) for group, each in one.tensors.items()} for one in (a, b))
    return a.state == b.state and one == other


def test_written_checkpoint_is_read_back(tmp_path: Path) -> None:
    write_folder(tmp_path / "deep" / "step-1", content())
    assert same(read_folder(tmp_path / "deep" / "step-1"), content())
    write_folder(tmp_path / "deep" / "step-1", content(2.0))
    assert same(read_folder(tmp_path / "deep" / "step-1"), content(2.0))
    assert os.listdir(tmp_path / "deep") == ["step-1"]
    write_folder(tmp_path / "again", content(2.0))
    for path in (tmp_path / "again").iterdir():
        assert path.suffix in (".safetensors", ".json")
        assert path.read_bytes() == (tmp_path / "deep" / "step-1" / path.name).read_bytes()


def test_damaged_checkpoint_is_refused_or_has_the_same_values(tmp_path: Path) -> None:
    folder = tmp_path / "step-1"
    write_folder(folder, content())
    generator = torch.Generator().manual_seed(0)
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        for place in torch.randint(len(data), (40,), generator=generator).tolist():
            flipped = bytearray(data)
            flipped[place] ^= 1 << (place % 8)
            for damaged in (bytes(flipped), data[:place]):
                path.write_bytes(damaged)
                try:  # the manifest may have another layout
                    assert same(read_folder(folder), content()) and path.name == checkpoint.MANIFEST
                except CorruptWeightsError as error:
                    assert "step-1" in str(error)
        path.write_bytes(data)
        os.rename(path, path.with_suffix(".away"))
        with pytest.raises(CorruptWeightsError, match="cannot be read"):
            read_folder(folder)
        os.rename(path.with_suffix(".away"), path)
    assert same(read_folder(folder), content())


def test_manifest_with_a_path_or_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "step-1", content())
    path = tmp_path / "step-1" / checkpoint.MANIFEST
    (tmp_path / "step-1" / "model.safetensors").write_bytes(b"no tensors")
    record = {"size": 10, "sha256": sha256(b"no tensors")}
    listing = json.loads(path.read_text())["files"] | {"model.safetensors": record}
    path.write_text(canonical({"format": 1, "files": listing}))
    with pytest.raises(CorruptWeightsError, match="holds no tensors"):
        read_folder(tmp_path / "step-1")
    for name in ("../step-1/state.json", "/etc/passwd", "a/b.json", "..", ".json", "a.pt"):
        path.write_text(canonical({"format": 1, "files": {name: record}}))
        with pytest.raises(CorruptWeightsError, match="outside its folder"):
            read_folder(tmp_path / "step-1")


# A crash at any point


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("keep", [pytest.param(1, marks=pytest.mark.full), 2])
def test_crash_at_any_point_leaves_as_many_valid_checkpoints_as_are_kept(keep: int, quick_path: Path) -> None:
    seen = set()
    for limit in range(200):
        place = quick_path / str(limit)
        for step in range(1, keep + 1):
            write_folder(place / f"step-{step:09d}", content(step))

        def save(place: Path = place, limit: int = limit) -> None:
            at_change(limit, die)
            write_folder(place / f"step-{keep + 1:09d}", content(keep + 1))
            prune(place, keep, keep + 1)

        status = ended(forked(save))
        found = newest(place)
        assert found is not None and not found[2]
        assert same(found[1], content(found[1].state["value"]))
        seen.add(found[1].state["value"])
        assert len([read_folder(path) for path in listed(place)]) >= keep
        prune(place, keep)
        assert len(listed(place)) == keep and not list(place.glob(".*"))
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert seen == {keep, keep + 1} and status == 0 and limit >= 18


def test_crash_in_write_file_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    seen = set()
    for limit in range(20):
        path.write_bytes(b"old")

        def save(limit: int = limit) -> None:
            at_change(limit, die)
            write_file(path, b"new")

        status = ended(forked(save))
        seen.add(path.read_bytes())
        remove_stale_files(tmp_path)
        assert os.listdir(tmp_path) == ["metrics.jsonl"]
        if status == 0:
            break
    assert seen == {b"old", b"new"} and path.read_bytes() == b"new" and status == 0


# What can go wrong without a crash


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_a_clear_error_and_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    write_folder(tmp_path / "step-1", content())
    (tmp_path / "file").write_bytes(b"old")
    large = Checkpoint(tensors={"model": {"w": torch.zeros(10_000)}}, state={})
    for path in (tmp_path / "step-1", tmp_path / "step-2"):
        with files_of_at_most(4096), pytest.raises(CheckpointError, match=r"bytes\).*intact.*Free space"):
            write_folder(path, large)
    with files_of_at_most(4096), pytest.raises(CheckpointError, match=r"40,000 bytes"):
        write_file(tmp_path / "file", bytes(40_000))
    assert same(read_folder(tmp_path / "step-1"), content()) and (tmp_path / "file").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["file", "step-1"]


def test_unwritable_path_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="Could not write"):
        write_folder(tmp_path / "file" / "step-1", content())
    with pytest.raises(CheckpointError, match="Could not write"):
        write_file(tmp_path / "missing" / "file", b"")


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_folder(tmp_path / "step-1", content())
        write_file(tmp_path / "file", b"")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (*(tmp_path / "step-1").iterdir(), tmp_path / "file")}
    assert modes == {0o640} and stat.S_IMODE((tmp_path / "step-1").stat().st_mode) == 0o750


def test_write_file_replaces_a_symlink_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"old" and (tmp_path / "link").read_bytes() == b"new"


# Several of them


def test_newest_valid_checkpoint_is_chosen(tmp_path: Path) -> None:
    assert newest(tmp_path / "missing") is None and newest(tmp_path) is None
    for step in (9, 10, 100):
        write_folder(tmp_path / f"step-{step}", content(step))
    (tmp_path / "step-1000").mkdir()
    (tmp_path / "step-x").mkdir()
    (tmp_path / "step-100" / "state.json").write_text("{}")
    found = newest(tmp_path)
    assert found is not None and found[0].name == "step-10" and same(found[1], content(10))
    assert len(found[2]) == 2 and "step-1000" in found[2][0] and "step-100/state.json" in found[2][1]
    for step in (9, 10):
        (tmp_path / f"step-{step}" / checkpoint.MANIFEST).write_text("{}")
    with pytest.raises(CheckpointError, match="None of the 4 checkpoints"):
        newest(tmp_path)


def test_prune_keeps_the_highest_steps(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        write_folder(tmp_path / f"step-{step}", content(step))
    (tmp_path / ".tmp-step-11-0123abcd").mkdir()
    (tmp_path / ".tmp-mine").mkdir()
    prune(tmp_path, 2)
    assert sorted(os.listdir(tmp_path)) == [".tmp-mine", "step-10", "step-100"]  # other folders are kept


# JSON from outside


def test_invalid_json_is_refused_and_canonical_json_read_back() -> None:
    large = b'"' + b"x" * checkpoint.LARGEST_JSON + b'"'
    for data in (b"", b"NaN", b"1e999", b'"\\ud800"', b"9" * 5000, b"[" * 33 + b"]" * 33, large):
        with pytest.raises(CorruptWeightsError, match=r"config\.json"):
            parse_json(data, "config.json")
    value = {"b": [1, 2.5, None, True, "ä"], "a": {}}
    assert parse_json(canonical(value).encode(), "x") == value
    assert canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1})
