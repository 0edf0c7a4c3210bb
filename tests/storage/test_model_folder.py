"""Writing model folders: reproducible bytes, half precision, file modes, symlinks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from storage.test_hostile import cached
from support.cases import ONE_EACH, Case
from support.hub_server import same
from support.mutations import config_of, small, write_config, write_weights

import vaezoo
from vaezoo.errors import CheckpointError, ConfigError, CorruptWeightsError, UnknownNameError
from vaezoo.storage.config import CONFIG
from vaezoo.storage.figures import METRICS
from vaezoo.storage.model_folder import CARD, WEIGHTS, published_state, read_metrics
from vaezoo.workflows import bundle
from vaezoo.zoo import index
from vaezoo.zoo.index import PACKAGE_FOLDER

FIGURES = {"data": "digits", "split": "test", "examples": 10, "samples": 5, "psnr": 1.0, "parameters": 10}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_saving_a_loaded_model_writes_the_same_bytes(case: Case, quick_path: Path) -> None:
    model = case.build()
    one = vaezoo.save(model, quick_path / "one" / "model", metrics=FIGURES)
    again = vaezoo.save(vaezoo.load(one), quick_path / "two" / "model", metrics=FIGURES)
    assert contents(one) == contents(again) and set(contents(one)) == {CONFIG, WEIGHTS, CARD, METRICS}
    vaezoo.save(vaezoo.load(one), one, metrics=FIGURES)  # onto its own source
    assert contents(one) == contents(again)


@pytest.mark.full
def test_load_and_sample_import_no_training_code() -> None:
    script = "import sys, vaezoo; vaezoo.load('vae-mnist').sample(1); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    unwanted = {f"vaezoo.{name}" for name in ("trainer", "data", "pictures")}
    unwanted |= {"rich", "matplotlib", "scipy", "sklearn", "torchvision"}
    assert "vaezoo.storage.model_folder" in done.stdout.split() and not unwanted & set(done.stdout.split())


@pytest.mark.parametrize("kind", [torch.float16, "bfloat16"])
def test_half_precision_is_stored_and_loaded_as_float32(tmp_path: Path, kind: str | torch.dtype) -> None:
    model = vaezoo.create("vq-vae", shape=(1, 8, 8), latent=(4, 2, 2)).eval()
    whole = vaezoo.save(model, tmp_path / "whole")
    half = vaezoo.save(model, tmp_path / "half", dtype=kind, shard_size=9000)
    sizes = [sum(path.stat().st_size for path in folder.glob("*.safetensors")) for folder in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0] and len(list(half.glob("*.safetensors"))) > 1
    loaded, stored = vaezoo.load(half), torch.float16 if kind is torch.float16 else torch.bfloat16
    for key, tensor in published_state(model).items():
        expected = tensor.to(stored).float() if tensor.is_floating_point() else tensor
        assert torch.equal(loaded.state_dict()[key], expected)
    assert loaded.config == vaezoo.load(whole).config
    again = vaezoo.save(loaded, tmp_path / "again", dtype=kind, shard_size=9000)
    assert all(path.read_bytes() == (half / path.name).read_bytes() for path in again.iterdir() if path.name != CARD)
    assert "dtype" not in json.loads((vaezoo.save(loaded, tmp_path / "wide") / CONFIG).read_text())


def test_a_config_that_could_not_be_read_again_is_refused(tmp_path: Path) -> None:
    columns = ["negative-binomial"] * 3000
    model = vaezoo.create("vae", shape=3000, latent=1, backbone={"name": "mlp", "hidden": [1]},
                          likelihood={"name": "mixed", "columns": columns})  # fmt: skip
    with pytest.raises(ConfigError, match=r"config\.json of [\d,]+ bytes; expected at most 65,536"):
        vaezoo.save(model, tmp_path / "wide")
    assert not list(tmp_path.iterdir())


def test_half_precision_refuses_what_it_cannot_store(tmp_path: Path) -> None:
    model = vaezoo.create("vae", shape=4, latent=2)
    for kind in ("float64", torch.float32, "int8", 16):
        with pytest.raises(ConfigError, match="expected float16 or bfloat16"):
            vaezoo.save(model, tmp_path / "x", dtype=kind)  # type: ignore[arg-type]
    double = vaezoo.load(vaezoo.save(model, tmp_path / "y"), dtype=torch.float64)
    with pytest.raises(ConfigError, match="only float32"):
        vaezoo.save(double, tmp_path / "x", dtype="float16")
    with torch.no_grad():
        next(model.parameters()).fill_(70_000.0)
    with pytest.raises(ConfigError, match="use bfloat16"):
        vaezoo.save(model, tmp_path / "x", dtype="float16")
    assert not (tmp_path / "x").exists()
    assert vaezoo.load(vaezoo.save(model, tmp_path / "x", dtype="bfloat16")).config is not None


def test_only_a_config_with_a_dtype_accepts_narrower_tensors(tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    tensors = parse_tensors((folder / WEIGHTS).read_bytes())
    first = next(iter(tensors))
    write_weights(folder, pack_tensors({**tensors, first: tensors[first].half()}))
    with pytest.raises(CorruptWeightsError, match="Different"):
        vaezoo.load(folder)
    write_config(folder, config_of(folder) | {"dtype": "float32"})
    assert {tensor.dtype for tensor in vaezoo.load(folder).parameters()} == {torch.float32}
    for kind in (torch.float64, torch.int32):
        write_weights(folder, pack_tensors({**tensors, first: tensors[first].to(kind)}))
        with pytest.raises(CorruptWeightsError, match="Different"):
            vaezoo.load(folder)
    write_config(folder, config_of(folder) | {"dtype": "float64"})
    with pytest.raises(CorruptWeightsError, match="dtype"):
        vaezoo.load(folder)


def test_bundled_weights_take_100_megabytes_and_load_as_float32() -> None:
    assert sum(path.stat().st_size for path in PACKAGE_FOLDER.glob("*/*.safetensors")) < 100e6
    assert {tensor.dtype for tensor in vaezoo.load("vae-mnist").parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["vq-vae-mnist", "ae-mnist"])
def test_halve_keeps_codes_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    metrics, model = read_metrics(PACKAGE_FOLDER / name), vaezoo.load(name)
    for module in (bundle, index):
        monkeypatch.setattr(module, "PACKAGE_FOLDER", tmp_path)
    folder = vaezoo.save(model, tmp_path / name, metrics=metrics)
    size = (folder / WEIGHTS).stat().st_size
    index.read_index.cache_clear()
    try:
        bundle.reindex()
        line, halved = bundle.halve(name), vaezoo.load(name)
    finally:
        index.read_index.cache_clear()
    assert line.startswith(f"{name}: bound ") and "codes equal; half precision" in line
    assert (folder / WEIGHTS).stat().st_size < 0.9 * size
    assert name == "ae-mnist" or torch.equal(halved.encoder.codebook, model.encoder.codebook)


def test_saving_into_a_hub_snapshot_does_not_change_its_blobs(tmp_path: Path) -> None:
    model = vaezoo.create("vae", shape=4, latent=2)
    files = contents(vaezoo.save(model, tmp_path / "model", metrics=FIGURES))
    commit = cached(tmp_path / "cache", "them/tiny", files)
    place = tmp_path / "cache" / "models--them--tiny"
    snapshot, blobs = place / "snapshots" / commit, contents(place / "blobs")
    assert all(path.is_symlink() for path in snapshot.iterdir()) and contents(snapshot) == files
    other = vaezoo.create("vae", shape=4, latent=2)
    vaezoo.save(other, snapshot, metrics=FIGURES)
    assert contents(place / "blobs") == blobs
    assert not any(path.is_symlink() for path in snapshot.iterdir()) and contents(snapshot) != files
    assert torch.equal(vaezoo.load(snapshot).sample(3, seed=0), other.eval().sample(3, seed=0))
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError):
        vaezoo.save(other, tmp_path / "file")


@pytest.mark.parametrize("name", ["x.pt", "model.SAFETENSORS", "last.ckpt"])
def test_names_of_files_become_folders_with_a_warning(name: str, tmp_path: Path) -> None:
    model = vaezoo.create("vae", shape=(1, 4, 4), latent=2)
    with pytest.warns(UserWarning, match=r"becomes a folder with config.*torch\.save\(model\.state_dict\(\)"):
        folder = vaezoo.save(model, tmp_path / name)
    assert same(vaezoo.load(folder), model)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UnknownNameError, match=r"weights\.pth is a file: `vaezoo convert`.*load_state_dict"):
        vaezoo.load(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"variant": "their-vae"}, "variant"), ({"backbone": {"name": "theirs"}}, "backbone")],
)
def test_names_of_other_packages_in_a_config_give_a_hint(change: dict[str, object], kind: str, tmp_path: Path) -> None:
    folder = vaezoo.save(vaezoo.create("vae", shape=(1, 4, 4), latent=2), tmp_path / "model")
    config = config_of(folder)
    inner = {**config["architecture"], **change} if kind != "variant" else config["architecture"]
    write_config(folder, {**config, "architecture": inner, **(change if kind == "variant" else {})})
    with pytest.raises(UnknownNameError, match=rf"Unknown {kind} 'their.*another package may bring it"):
        vaezoo.load(folder)
