"""Latents of a data set in a file: values, labels and names; an interrupted call gives the same bytes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from support.cases import Case

import vaezoo
from vaezoo.cli import main
from vaezoo.core import VAE
from vaezoo.data import StreamedDataset, as_dataset
from vaezoo.errors import CheckpointError, ConfigError, MissingExtraError
from vaezoo.trainer.lock import locked
from vaezoo.workflows import embed as module

SUFFIXES = (".npz", ".safetensors", ".parquet")
COUNT, BATCH = 23, 4


@pytest.fixture(scope="module")
def model() -> VAE:
    return Case("vae").build().eval()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of two classes; a name is not ASCII."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8), dtype=np.uint8)
    for number, each in enumerate(pixels):
        place = folder / ("aé" if number % 3 else "b c")
        place.mkdir(exist_ok=True)
        Image.fromarray(each).save(place / f"{number:02}.png")
    return folder


def read(file: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Returns columns, with latents as they are in the file, and facts, by each format's own library."""
    if file.suffix == ".npz":
        with np.load(file) as archive:
            columns = {name: archive[name] for name in archive.files}
        return columns, json.loads(str(columns.pop("facts")))
    if file.suffix == ".parquet":
        table = pyarrow.parquet.read_table(file)
        found = {name: np.array(table[name].to_pylist()) for name in table.column_names}
        return found, json.loads(table.schema.metadata[b"facts"])
    with safe_open(file, "numpy") as tensors:
        columns = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 - no dict
        facts = json.loads(tensors.metadata()["facts"])
    if "names" in columns:
        columns["names"] = np.array(json.loads(columns["names"].tobytes()))
    return columns, facts


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_are_latents_labels_and_names(
    suffix: str, model: VAE, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VAEZOO_MEMORY_LIMIT", "1")  # the images are decoded a batch at a time
    monkeypatch.setattr("vaezoo.storage.array_files.ROWS", 5)
    file = vaezoo.embed(model, f"folder:{images}", tmp_path / f"out{suffix}", batch_size=BATCH)
    columns, facts = read(file)
    data = as_dataset(images, "all")
    assert isinstance(data, StreamedDataset)
    with torch.no_grad():
        wanted = torch.cat([model.latents(data.batch(part)) for part in torch.arange(COUNT).split(BATCH)])
    np.testing.assert_array_equal(columns["latents"], wanted.numpy())
    assert columns["latents"].dtype == np.float32 or suffix == ".parquet"  # whose lists are Python's floats
    assert columns["labels"].tolist() == data.labels.tolist() and len(set(columns["labels"].tolist())) == 2
    assert columns["names"].tolist() == list(data.names or ()) and "aé/01.png" in columns["names"]
    assert facts["class_names"] == ["aé", "b c"] and facts["variant"] == "vae" and facts["split"] == "all"
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interrupted_call_continues_with_equal_bytes(
    suffix: str, model: VAE, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VAEZOO_MEMORY_LIMIT", "1")
    whole = vaezoo.embed(model, images, tmp_path / f"whole{suffix}", batch_size=BATCH)
    file, seen = tmp_path / f"out{suffix}", list[int]()

    def stop(done: int, total: int) -> None:
        if done == 3 * BATCH:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vaezoo.embed(model, images, file, batch_size=BATCH, bar=stop)
    assert not file.exists()
    vaezoo.embed(model, images, file, batch_size=BATCH, bar=lambda done, total: seen.append(done))
    assert seen == [16, 20, 23]  # the rows that were missing, and no others
    assert file.read_bytes() == whole.read_bytes()


def test_a_killed_call_continues_from_its_last_record(
    model: VAE, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "EVERY", 0.0)
    file, part, crashed = tmp_path / "out.npz", tmp_path / "out.npz.part", tmp_path / "crashed"

    def keep(done: int, total: int) -> None:
        if done == 3 * BATCH:  # what is on disk here has a record of two batches
            shutil.copytree(part, crashed)

    vaezoo.embed(model, images, file, batch_size=BATCH, bar=keep)
    wanted = file.read_bytes()
    file.unlink()
    state = json.loads((crashed / "state.json").read_text())
    assert state["done"] == 2 * BATCH
    latents = np.load(crashed / "latents.npy", mmap_mode="r+")
    latents[2 * BATCH :] = np.nan  # rows without a record are never used
    latents.flush()
    crashed.rename(part)
    vaezoo.embed(model, images, file, batch_size=BATCH)
    assert file.read_bytes() == wanted


def test_a_part_of_another_embedding_is_not_continued(model: VAE, images: Path, tmp_path: Path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "out.npz"
    with pytest.raises(KeyboardInterrupt):
        vaezoo.embed(model, images, file, batch_size=BATCH, bar=stop)
    others: list[Callable[[], object]] = [
        lambda: vaezoo.embed(model, images, file, batch_size=BATCH + 1),
        lambda: vaezoo.embed(model, images, file, batch_size=BATCH, split="train"),
        lambda: vaezoo.embed(Case("vae").build(seed=1), images, file, batch_size=BATCH),
    ]
    for other in others:
        with pytest.raises(ConfigError, match="a part of another embedding"):
            other()
    with locked(tmp_path / "out.npz.part"), pytest.raises(CheckpointError, match="in use by another embedding"):
        vaezoo.embed(model, images, file, batch_size=BATCH)
    vaezoo.embed(model, images, file, batch_size=BATCH)


def test_codes_have_indices_and_conditional_models_take_the_labels(tmp_path: Path):
    coded, x = Case("vq-vae").build().eval(), Case("vq-vae").inputs(6)[0]
    columns, _ = read(vaezoo.embed(coded, x, tmp_path / "codes.npz"))
    np.testing.assert_array_equal(columns["indices"], coded.encode_indices(x).numpy())
    assert set(columns) == {"latents", "indices"}
    conditional = Case("cvae", context=3).build().eval()
    x, c = Case("cvae", context=3).inputs(6)
    assert c is not None
    columns, _ = read(vaezoo.embed(conditional, (x, c), tmp_path / "conditional.safetensors"))
    with torch.no_grad():
        np.testing.assert_array_equal(columns["latents"], conditional.latents(x, c).numpy())
    assert columns["labels"].tolist() == c.tolist()


def test_bad_arguments_are_refused_before_any_work(model: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    x = torch.ones(2, 1, 8, 8)
    (tmp_path / "there.npz").touch()
    with pytest.raises(ConfigError, match=r"ending in \.npz, \.parquet, \.safetensors"):
        vaezoo.embed(model, x, tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="which exists; expected a new file"):
        vaezoo.embed(model, x, tmp_path / "there.npz")
    with pytest.raises(ConfigError, match="scaling"):
        vaezoo.embed(model, x, tmp_path / "scaled.npz", scaled=True)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vaezoo\[parquet\]'"):
        vaezoo.embed(model, x, tmp_path / "out.parquet")


def test_the_command_prints_the_path(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    large = tmp_path / "large"
    for file in images.rglob("*.png"):
        place = large / file.parent.name / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).resize((28, 28)).save(place)
    out = tmp_path / "z.npz"
    assert main(["embed", "beta-vae-mnist", f"folder:{large}", "-o", str(out), "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"Wrote {out}\n"
    assert read(out)[0]["latents"].shape == (COUNT, 10)
