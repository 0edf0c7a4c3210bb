"""`vaezoo latents`: what it prints, and the factors that it stores in a model's folder."""

import json
from pathlib import Path

import pytest
import torch
from support.mutations import config_of, write_config

import vaezoo
from vaezoo.cli import main
from vaezoo.errors import ConfigError, CorruptWeightsError
from vaezoo.evaluation import latent_report
from vaezoo.storage.config import CONFIG, WEIGHTS
from vaezoo.storage.model_folder import read_metrics

ARGUMENTS = ["digits", "--limit", "60", "--device", "cpu"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that is stored in half precision, with figures."""
    torch.manual_seed(0)
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=3, backbone={"name": "mlp", "hidden": [5]}).eval()
    folder = vaezoo.save(model, tmp_path / "model", dtype="float16")
    report = vaezoo.evaluate(vaezoo.load(folder), "digits", samples=0, limit=20)
    return vaezoo.save(model, folder, dtype="float16", metrics=report.as_dict())


def test_the_command_prints_a_report_and_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["latents", str(folder), *ARGUMENTS, "--json"]) == 0
    expected = latent_report(vaezoo.load(folder), "digits", limit=60)
    assert json.loads(capsys.readouterr().out) == [{"name": str(folder), **expected.as_dict()}]
    assert main(["latents", str(folder), *ARGUMENTS, "--no-noise", "--batch-size", "7"]) == 0
    printed = capsys.readouterr().out
    centers = latent_report(vaezoo.load(folder), "digits", limit=60, noise=False)
    assert centers.verdict in printed and "60 train examples of digits" in printed
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("per_channel", [False, True])
def test_write_stores_the_factors_and_leaves_weights_and_figures(folder: Path, per_channel: bool) -> None:
    weights, figures = (folder / WEIGHTS).read_bytes(), read_metrics(folder)
    old = config_of(folder)
    assert main(["latents", str(folder), *ARGUMENTS, "--write", *["--per-channel"] * per_channel]) == 0
    report = latent_report(vaezoo.load(folder), "digits", limit=60)
    facts = report.factors(per_channel=per_channel)
    assert config_of(folder) == {**old, "latents": facts}
    assert (folder / WEIGHTS).read_bytes() == weights and read_metrics(folder) == figures
    card = (folder / "README.md").read_text()
    assert "## Figures" in card and "scaling_factor" in card and "60 train examples of digits" in card
    assert f"{report.channel_shift_factors[0] if per_channel else report.shift_factor:.6g}" in card
    model = vaezoo.load(folder)
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    shift, scale = (torch.tensor(facts[key]) for key in ("shift_factor", "scaling_factor"))
    torch.testing.assert_close(model.latents(x, scaled=True), (model.encode(x).mean - shift) * scale)
    assert (
        "## Latents"
        not in (vaezoo.save(vaezoo.create("vae", shape=(2,)), folder.parent / "x") / "README.md").read_text()
    )


def test_published_models_are_not_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latents", "vae-mnist", *ARGUMENTS, "--write"]) == 1
    assert "published model, whose files are not changed" in capsys.readouterr().err
    assert main(["latents", "vae-mnist", *ARGUMENTS, "--per-channel"]) == 1
    assert "--write" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"scaling_factor": 0.0},
        {"scaling_factor": -1.0},
        {"scaling_factor": 1e300},
        {"scaling_factor": "1"},
        {"scaling_factor": [1.0, 1.0]},
        {"scaling_factor": []},
        {"shift_factor": [0.0] * 4},
        {"shift_factor": 1e13},
        {"shift_factor": None},
        {"noise": 1},
        {"other": 1},
    ],
    ids=str,
)
def test_factors_of_a_config_are_validated(folder: Path, change: dict[str, object]) -> None:
    facts = {"scaling_factor": 1.0, "shift_factor": 0.0, "noise": True, "data": "x", "split": "train", "examples": 2}
    write_config(folder, config_of(folder) | {"latents": {**facts, "scaling_factor": [1.0, 2.0, 3.0]}})
    loaded = vaezoo.load(folder)
    loaded.config = {**loaded.config, "latents": {**facts, **change}}
    with pytest.raises(ConfigError, match="latents"):
        vaezoo.save(loaded, folder.parent / "other")
    write_config(folder, config_of(folder) | {"latents": {**facts, **change}})
    with pytest.raises(CorruptWeightsError, match="latents"):
        vaezoo.load(folder)
    assert (folder / CONFIG).exists() and not (folder.parent / "other").exists()
