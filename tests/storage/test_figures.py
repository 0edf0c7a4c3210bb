"""Figures of a model folder: those of its present weights only, validated before anything is written."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from support.hub_server import Hub
from support.mutations import small

import vaezoo
from vaezoo.cli import main
from vaezoo.errors import ConfigError, CorruptWeightsError
from vaezoo.storage.config import CONFIG
from vaezoo.storage.figures import METRICS
from vaezoo.storage.model_folder import CARD, WEIGHTS, read_metrics
from vaezoo.workflows.fit_sampler import fit_and_save
from vaezoo.zoo.index import PACKAGE_FOLDER

FIGURES = {"data": "digits", "split": "test", "examples": 10, "samples": 5, "psnr": 1.0, "rate": {"mean": 1.0}}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def other(folder: Path) -> vaezoo.VAE:
    """Returns the model of a folder with one other weight."""
    model = vaezoo.load(folder)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1.0
    return model


def digest_of(weights: Path) -> str:
    """Returns the digest of a file of weights: name, type, shape and bytes of each tensor, sorted by name."""
    total = hashlib.sha256()
    with safe_open(weights, framework="numpy") as file:
        for key in sorted(file.keys()):
            array = file.get_tensor(key)
            shape = f"({', '.join(map(str, array.shape))}{',' if array.ndim == 1 else ''})"
            total.update(f"{key}:torch.{array.dtype};".replace(";", f":{shape};").encode() + array.tobytes())
    return total.hexdigest()


def test_figures_carry_the_digest_of_the_weights_that_were_measured(tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    x = torch.rand(20, 2, 3, generator=torch.Generator().manual_seed(0)).round()
    report = vaezoo.evaluate(vaezoo.load(folder), x, samples=2)
    assert report.weights == digest_of(folder / WEIGHTS)
    vaezoo.save(vaezoo.load(folder), folder, metrics=report.as_dict())
    assert json.loads((folder / METRICS).read_text())["weights"] == report.weights
    vaezoo.save(vaezoo.load(folder), folder, shard_size=50)  # the same weights in other files: the figures are kept
    found = read_metrics(folder)
    assert found is not None and found["bound"] == report.as_dict()["bound"]


def test_stale_figures_are_dropped_and_never_published(tmp_path: Path, hub: Hub) -> None:
    folder = small(tmp_path / "model")
    vaezoo.save(vaezoo.load(folder), folder, metrics={**FIGURES, "bound": {"mean": -90.52}, "distortion": 89.52})
    stale = (folder / METRICS).read_bytes()
    assert vaezoo.push(folder, "them/tiny", dry_run=True) == "hf:them/tiny"
    changed = other(folder)
    with pytest.warns(UserWarning, match="figures of the previous weights and is removed"):
        vaezoo.save(changed, folder)
    assert not (folder / METRICS).exists() and "90.52" not in (folder / CARD).read_text()
    (folder / METRICS).write_bytes(stale)  # as an older version left them
    with pytest.warns(UserWarning, match="was measured on other weights and is not used"):
        assert read_metrics(folder) is None
    with pytest.warns(UserWarning, match="not used"), pytest.raises(ConfigError, match="has no figures"):
        vaezoo.push(folder, "them/tiny")
    unknown = {key: value for key, value in json.loads(stale).items() if key != "weights"}
    (folder / METRICS).write_text(json.dumps(unknown))
    with pytest.warns(UserWarning, match="records no weights"):
        assert read_metrics(folder) is None
    for model in (changed, folder):
        with pytest.raises(ConfigError, match="measured on other weights"):
            vaezoo.push(model, "them/tiny", metrics=json.loads(stale))
    assert not hub.requests


def test_extended_run_loses_the_figures_of_its_first_part(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "variant": "vae",
        "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [4]}},
        "data": {"name": "digits", "binarize": "dynamic"},
        "train": {"steps": 3, "batch_size": 8},
    }
    vaezoo.train(recipe, out=tmp_path / "run")
    assert main(["evaluate", f"{tmp_path}/run", "--write", "--samples", "1", "--limit", "5"]) == 0
    assert read_metrics(tmp_path / "run") is not None
    recipe["train"]["steps"] = 6
    with pytest.warns(UserWarning, match="figures of the previous weights"):
        vaezoo.train(recipe, out=tmp_path / "run", extend=True)
    assert read_metrics(tmp_path / "run") is None


@pytest.mark.parametrize(
    "figures",
    [
        {"bound": float("nan")},
        {"rate": {"mean": float("inf")}},
        {"bound": "best"},
        {"bound": {"mean": 1.0, "more": 1}},
        {"psnr": [1.0]},
        {"psnr": np.float32(1.0)},
        {"data": 3},
        {"data": "mnist\x1b[2J"},
        {"examples": -1},
        {"samples": True},
        {"weights": "0"},
        {"plug-in": slice(None)},
        {1: 2.0, "1": 3.0},
        {"a": {"b": "\x1b]0;title\x07"}},
        "figures",
        [1],
    ],
    ids=str,
)
def test_malformed_figures_are_refused_before_anything_is_replaced(figures: Any, tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    before = contents(folder)
    with pytest.raises(ConfigError):
        vaezoo.save(other(folder), folder, metrics=figures)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "text",
    ["[]", "1", '"x"', "{", '{"bound": "best"}', '{"examples": "ten"}', '{"bound": NaN}', '{"data": "\\u001b[2J"}'],
)
def test_malformed_figures_in_a_folder_are_one_error(text: str, tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    (folder / METRICS).write_text(text)
    with pytest.raises(CorruptWeightsError, match=METRICS):
        read_metrics(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_load_would_refuse_are_not_saved(value: float, tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    before, model = contents(folder), vaezoo.load(folder)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = value
    with pytest.raises(ConfigError, match="NaN or infinite weights"):
        vaezoo.save(model, folder)
    assert contents(folder) == before


def test_module_that_was_changed_inside_is_not_saved(tmp_path: Path) -> None:
    folder = small(tmp_path / "model")
    before, model = contents(folder), vaezoo.load(folder)
    name, _ = next(iter(model.decoder.named_parameters()))
    owner = model.decoder.get_submodule(name.rpartition(".")[0])
    setattr(owner, name.rpartition(".")[2], torch.nn.Parameter(torch.zeros(7, 7)))
    with pytest.raises(ConfigError, match="tensors that differ"):
        vaezoo.save(model, folder)
    assert contents(folder) == before


def test_evaluate_writes_into_own_folders_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = PACKAGE_FOLDER / "vae-mnist"
    before = contents(place)
    link = tmp_path / "link"
    link.symlink_to(place)
    for name in ("vae-mnist", f"{place}/", f"{link}/"):
        assert main(["evaluate", name, "--write", "--limit", "1", "--samples", "1"]) == 1
        assert "is a published model, whose files are not changed" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="whose files are not changed"):
        fit_and_save(f"{place}/", "normal", data="digits")
    assert contents(place) == before


@pytest.mark.parametrize("name", ["vae-mnist", "vq-vae-mnist"])
def test_bundled_figures_are_those_of_the_bundled_weights(name: str) -> None:
    metrics = vaezoo.info(name)["metrics"]
    assert isinstance(metrics, dict) and metrics == read_metrics(PACKAGE_FOLDER / name)


def test_replacing_a_model_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small(tmp_path / "model")
    model = other(folder)

    def link(*_: object) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", link)
    found, fresh = (contents(vaezoo.save(model, place)) for place in (folder, tmp_path / "fresh" / "model"))
    assert found == fresh and set(found) == {CONFIG, WEIGHTS, CARD}
