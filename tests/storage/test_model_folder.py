"""Writing model folders: the same bytes each time, the umask's modes, and never through a link of the Hub's cache."""

import os
import stat
from pathlib import Path

import pytest
import torch
from storage.test_hostile import cached
from support.cases import ONE_EACH, Case

import vaezoo
from vaezoo.errors import CheckpointError
from vaezoo.storage.config import CONFIG
from vaezoo.storage.model_folder import CARD, METRICS, WEIGHTS

FIGURES = {"data": "digits", "split": "test", "examples": 10, "samples": 5, "psnr": 1.0, "parameters": 10}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_saved_loaded_and_saved_again_is_the_same_to_the_byte(case: Case, quick_path: Path) -> None:
    model = case.build()
    one = vaezoo.save(model, quick_path / "one" / "model", metrics=FIGURES)
    again = vaezoo.save(vaezoo.load(one), quick_path / "two" / "model", metrics=FIGURES)
    assert contents(one) == contents(again) and set(contents(one)) == {CONFIG, WEIGHTS, CARD, METRICS}
    vaezoo.save(vaezoo.load(one), one, metrics=FIGURES)  # onto its own source
    assert contents(one) == contents(again)


@pytest.mark.parametrize("name", vaezoo.list_models())
def test_a_bundled_model_saved_again_has_the_same_weights(name: str, quick_path: Path) -> None:
    from vaezoo.zoo.index import PACKAGE_FOLDER

    saved = contents(vaezoo.save(vaezoo.load(name), quick_path / name))
    assert saved[WEIGHTS] == (PACKAGE_FOLDER / name / WEIGHTS).read_bytes()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_modes_follow_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    model = vaezoo.create("vae", shape=4, latent=2)
    before = os.umask(mask)
    try:
        folder = vaezoo.save(model, tmp_path / "model", metrics=FIGURES)
    finally:
        os.umask(before)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
        (CONFIG, WEIGHTS, CARD, METRICS), mode
    )


def test_saving_into_a_hub_snapshot_leaves_its_blobs_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = vaezoo.create("vae", shape=4, latent=2)
    files = contents(vaezoo.save(model, tmp_path / "model", metrics=FIGURES))
    commit = cached(tmp_path / "cache", "them/tiny", files)
    place = tmp_path / "cache" / "models--them--tiny"
    snapshot, blobs = place / "snapshots" / commit, contents(place / "blobs")
    assert all(path.is_symlink() for path in snapshot.iterdir()) and contents(snapshot) == files
    torch.manual_seed(1)
    other = vaezoo.create("vae", shape=4, latent=2)
    vaezoo.save(other, snapshot, metrics=FIGURES)
    assert contents(place / "blobs") == blobs
    assert not any(path.is_symlink() for path in snapshot.iterdir()) and contents(snapshot) != files
    assert torch.equal(vaezoo.load(snapshot).sample(3, seed=0), other.eval().sample(3, seed=0))


def test_a_file_in_the_way_of_a_link_is_left_alone(tmp_path: Path) -> None:
    """A link to nowhere, or to somebody's file, is replaced; what it leads to is neither made nor changed."""
    model = vaezoo.create("vae", shape=4, latent=2)
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "mine").write_text("mine")
    (folder / CONFIG).symlink_to(tmp_path / "mine")
    (folder / WEIGHTS).symlink_to(tmp_path / "missing")
    vaezoo.save(model, folder)
    assert (tmp_path / "mine").read_text() == "mine" and not (tmp_path / "missing").exists()
    assert vaezoo.load(folder).config == model.config | {"data": None, "recipe": None}
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError):
        vaezoo.save(model, tmp_path / "file")
