"""Sparse files, which take no space on the disk and gigabytes of memory, and states of the wrong form."""

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.mutations import small

import vaezoo
from vaezoo.errors import CheckpointError, CorruptWeightsError, VaezooError
from vaezoo.hub.cache import check_copy
from vaezoo.storage.checkpoint import MANIFEST, Checkpoint, listed, read_folder, write_folder
from vaezoo.storage.figures import METRICS
from vaezoo.storage.json_files import canonical, parse_json
from vaezoo.storage.model_folder import CARD
from vaezoo.workflows.load import pull

SPARSE = 3 * 2**30  # bytes
RECIPE: dict[str, Any] = {
    "variant": "vae",
    "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [4]}},
    "data": {"name": "digits", "binarize": "dynamic"},
    "train": {"steps": 4, "batch_size": 8},
}


@pytest.fixture
def little_memory() -> Any:
    """Checks that the peak of the memory grows by less than 256 MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18


def extend(path: Path) -> None:
    """Makes a file sparse and large."""
    os.truncate(path, SPARSE)


def recorded(folder: Path, name: str) -> None:
    """Makes a file of a checkpoint sparse, with the size in the manifest."""
    extend(folder / name)
    manifest: Any = parse_json((folder / MANIFEST).read_bytes(), MANIFEST)
    manifest["files"][name]["size"] = SPARSE
    (folder / MANIFEST).write_text(canonical(manifest))


def run(folder: Path) -> Path:
    """Returns the newest checkpoint of a short run."""
    vaezoo.train(RECIPE, out=folder)
    return listed(folder / "checkpoints")[0]


def longer() -> dict[str, Any]:
    return {**RECIPE, "train": {**RECIPE["train"], "steps": 8}}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["model.safetensors", "optimizers.safetensors", "state.json"])
def test_sparse_checkpoint_is_refused_before_memory_is_taken(name: str, tmp_path: Path) -> None:
    newest = run(tmp_path / "run")
    for path in listed(newest.parent):
        recorded(path, name)
    with pytest.raises(CheckpointError, match=r"more than|bytes of tensors"):
        vaezoo.train(longer(), out=tmp_path / "run", extend=True)
    with pytest.raises(VaezooError, match=r"more than|bytes of tensors"):
        vaezoo.load(newest)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sparse_sampler_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    fitted = vaezoo.fit_sampler(vaezoo.load(folder), torch.rand(30, 2, 3).round(), "normal")
    place = vaezoo.save_sampler(fitted, folder)
    (name,) = (path.name for path in place.glob("*.safetensors"))
    recorded(place, name)
    with pytest.raises(CorruptWeightsError, match="bytes of tensors; expected at most"):
        vaezoo.load_sampler(folder, "normal")


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", METRICS, CARD])
def test_sparse_model_folder_is_refused_before_memory_is_taken(name: str, tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    (folder / METRICS).write_text("{}")
    extend(folder / name)
    with pytest.raises(CorruptWeightsError):
        pull(f"{folder}/", to=tmp_path / "copy")
    if name in ("config.json", "model.safetensors"):
        with pytest.raises(CorruptWeightsError):
            check_copy(folder)


@pytest.mark.parametrize("name", ["large", "wrong size", "missing"])
def test_limit_depends_on_the_state(name: str, tmp_path: Path) -> None:
    content = Checkpoint(tensors={"model": {"a": torch.zeros(100)}}, state={"numbers": 100})
    write_folder(tmp_path / "step-1", content)
    limits: dict[str, Callable[[Any], int]] = {
        "large": lambda state: 4 * int(state["numbers"]),  # the header is not in it
        "wrong size": lambda state: 0,
        "missing": lambda state: -1,
    }
    with pytest.raises(CorruptWeightsError, match="expected at most"):
        read_folder(tmp_path / "step-1", limits[name])
    assert torch.equal(read_folder(tmp_path / "step-1", lambda state: 1000).tensors["model"]["a"], torch.zeros(100))


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        3,
        {"format": 1},
        {"format": 1, "files": []},
        {"format": 1, "files": {"state.json": 3}},
        {"format": 1, "files": {"state.json": {"size": "1", "sha256": "0" * 64}}},
        {"format": 1, "files": {"state.json": {"size": -1, "sha256": "0" * 64}}},
        {"format": 1, "files": {"state.json": {"size": 1, "sha256": "x"}}},
        {"format": 1, "files": {}, "more": 1},
        {"format": 2, "files": {}},
        {"format": 1, "files": {}},
    ],
    ids=str,
)
def test_manifest_of_the_wrong_form_is_one_error(manifest: object, tmp_path: Path) -> None:
    write_folder(tmp_path / "step-1", Checkpoint(tensors={}, state={}))
    (tmp_path / "step-1" / MANIFEST).write_text(canonical(manifest))
    with pytest.raises(CorruptWeightsError):
        read_folder(tmp_path / "step-1")


EVERY: list[object] = [[], {}, "x", -1, [1], {"a": []}, [[0]], True]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("values", [["x"], pytest.param(EVERY, marks=pytest.mark.full)], ids=["text", "every"])
def test_state_of_the_wrong_form_raises_vaezoo_errors_only(values: list[object], tmp_path: Path) -> None:
    path = run(tmp_path / "run")
    saved = read_folder(path)
    for other in listed(path.parent)[1:]:
        os.rename(other, tmp_path / other.name)
    for key in saved.state:
        for value in values:
            write_folder(path, Checkpoint(tensors=saved.tensors, state={**saved.state, key: value}))
            try:
                vaezoo.train(longer(), out=tmp_path / "run", extend=True)
            except VaezooError:
                continue
            # Without meaning for this run, which does not read the config of its checkpoint.
            assert value in (saved.state[key], [], {}, True) or key == "config", (key, value)
            shutil.rmtree(tmp_path / "run")
            run(tmp_path / "run")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("group", "changed"),
    [("model", {}), ("model", {"other": torch.zeros(3)}), ("optimizers", {"other": torch.zeros(3)})],
)
def test_tensors_of_another_run_are_one_error(group: str, changed: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = run(tmp_path / "run")
    saved = read_folder(path)
    for other in listed(path.parent)[1:]:
        os.rename(other, tmp_path / other.name)
    write_folder(path, Checkpoint(tensors={**saved.tensors, group: changed}, state=saved.state))
    with pytest.raises(CheckpointError, match="are not those of this run"):
        vaezoo.train(longer(), out=tmp_path / "run", extend=True)
