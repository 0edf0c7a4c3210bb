"""The gallery: pictures of each model, the reasons of those that are missing, and pictures of all models."""

import re
from pathlib import Path

import pytest
import torch

import vaezoo
from vaezoo.cli import main
from vaezoo.errors import UnknownNameError
from vaezoo.workflows import gallery as module
from vaezoo.workflows.gallery import gallery


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model_folder(name: str, variant: str, **options: object) -> str:
    """Writes a small model of 8 x 8 digits, and returns its folder."""
    torch.manual_seed(0)
    model = vaezoo.create(variant, shape=(1, 8, 8), **options)
    model.config["data"] = {"name": "digits", "binarize": "none"}
    vaezoo.save(model, name)
    return f"./{name}"


def test_each_model_has_pictures_or_the_reason_why_not(here: Path) -> None:
    plain = model_folder("plain", "vae", latent=2, likelihood="gaussian")
    codes = model_folder("codes", "vq-vae", latent=(4, 2, 2), likelihood="gaussian", codes=8)
    classes = model_folder("classes", "cvae", latent=2, likelihood="gaussian", context=10)
    seen: list[str] = []
    index = gallery([plain, codes, classes], "shown", seen.append)
    assert index == Path("shown/index.md") and seen == [plain, codes, classes]
    text = index.read_text()
    linked = set(re.findall(r"!\[.+?\]\((.+?)\)", text))
    assert linked == {str(path.relative_to("shown")) for path in Path("shown").rglob("*.png")}
    every = {"reconstructions", "samples", "interpolation", "traversal", "map"}
    assert {Path(each).stem for each in linked if each.startswith("plain/")} == every
    assert {Path(each).stem for each in linked if each.startswith("classes/")} == every
    assert {Path(each).stem for each in linked if each.startswith("codes/")} == {"reconstructions", "samples"}
    assert re.search(r"No interpolation: .*discrete codes", text) and "samples.png" in linked
    assert "rate-distortion.png" not in linked  # none of them is published


def test_published_models_of_the_same_images_are_in_the_planes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, dict[str, tuple[float, float]]] = {}

    def keep(points: dict[str, tuple[float, float]], path: Path, **_: object) -> None:
        drawn[path.stem] = points

    monkeypatch.setattr(module, "named_points", keep)
    monkeypatch.setattr(module, "training_seconds", lambda name: 90.0)
    names = ["vae-mnist", "beta-vae-mnist", "cvae-mnist", "vae-fashion-mnist", "vq-vae-mnist", "aae-mnist"]
    lines = module.together({}, names, here)
    assert {*drawn["rate-distortion"]} == {"vae-mnist", "beta-vae-mnist"}  # no contexts, no other images, no densities
    found = vaezoo.info("vae-mnist")["metrics"]
    assert drawn["rate-distortion"]["vae-mnist"] == (found["rate"]["mean"], found["distortion"]["mean"])
    assert drawn["evidence-parameters"]["vae-mnist"] == (425_284, found["log_evidence"]["mean"])
    assert drawn["evidence-training-time"]["vae-mnist"] == (1.5, found["log_evidence"]["mean"])
    assert len([line for line in lines if line]) == 3


def test_unknown_models_are_refused_before_anything_is_written(here: Path) -> None:
    with pytest.raises(UnknownNameError, match="vae-mnst"):
        gallery(["vae-mnst"], "shown")
    assert not Path("shown").exists()


def test_the_command_prints_the_path(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", model_folder("plain", "vae", latent=2, likelihood="gaussian"), "--out", "mine"]) == 0
    assert "mine/index.md" in capsys.readouterr().out and Path("mine/plain/map.png").exists()
