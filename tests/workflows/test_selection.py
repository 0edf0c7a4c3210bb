"""Which pretrained models are listed, in which order; and pictures of half blocks."""

import json
from pathlib import Path

import pytest
import torch

import vaezoo
from vaezoo.cli import main
from vaezoo.errors import UnknownNameError
from vaezoo.workflows.listing import Selection
from vaezoo.workflows.terminal import SIDE, half_blocks, sample_strip
from vaezoo.zoo.index import list_models, read_index


def evidence(name: str) -> float | None:
    found = read_index()[name]["metrics"].get("log_evidence") or {}  # type: ignore[attr-defined]
    return found.get("mean")  # type: ignore[no-any-return]


def test_models_are_sorted_by_a_figure_and_those_without_it_come_last() -> None:
    names = Selection(sort="log-evidence").names()
    assert sorted(names) == sorted(read_index())
    values = [evidence(name) for name in names]
    known = [each for each in values if each is not None]
    assert known == sorted(known, reverse=True) and values[: len(known)] == known and len(known) < len(values)
    ascending = [evidence(name) for name in Selection(sort="log-evidence", ascending=True).names()]
    assert ascending[: len(known)] == known[::-1]
    sizes = [read_index()[name]["files"]["model.safetensors"]["size"] for name in Selection(sort="size").names()]  # type: ignore[index]
    assert sizes == sorted(sizes, reverse=True)


def test_models_are_chosen_by_data_and_variant() -> None:
    fashion = Selection(data="fashion-mnist").names()
    assert "vae-fashion-mnist" in fashion and all(name.endswith("fashion-mnist") for name in fashion)
    assert Selection(variant="code-prior").names() == ["code-prior-mnist", "vq-gan-emoji", "vq-vae-emoji"]
    assert Selection(pattern="vq*", data="mnist", variant="vq-vae").names() == ["vq-vae-mnist", "vq-vae-mnist32"]
    assert Selection().names() == list_models()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": "minst"}, "data set 'minst'. Did you mean 'mnist'"),
        ({"variant": "vq-vea"}, "variant 'vq-vea'. Did you mean 'vq-vae'"),
        ({"sort": "evidence"}, "order 'evidence'"),
    ],
)
def test_unknown_names_have_a_suggestion(given: dict[str, str], words: str) -> None:
    with pytest.raises(UnknownNameError, match=words):
        Selection(**given).names()  # type: ignore[arg-type]  # by name


def test_the_command_sorts_and_filters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--data", "mnist", "--variant", "vae", "--sort", "log-evidence", "--json"]) == 0
    names = [record["name"] for record in json.loads(capsys.readouterr().out)]
    assert names == Selection(data="mnist", variant="vae", sort="log-evidence").names()
    assert main(["list", "--variants", "--sort", "psnr"]) == 1
    assert "an option of the list of models" in capsys.readouterr().err.replace("\n", " ")
    assert main(["list", "--datasets"]) == 0 and "emoji" in capsys.readouterr().out


def test_half_blocks_have_two_pixels_in_each_character() -> None:
    images = torch.zeros(2, 3, SIDE, SIDE)
    images[0, 0, 0, 0], images[0, 1, 1, 0], images[1, 2] = 1.0, 0.5, 1.0
    text = half_blocks(images)
    lines = text.split()
    assert len(lines) == SIDE // 2 and {line.cell_len for line in lines} == {2 * SIDE + 1}
    styles = [str(span.style) for span in lines[0].spans]
    assert styles[0] == "rgb(255,0,0) on rgb(0,128,0)" and styles[1] == "rgb(0,0,0) on rgb(0,0,0)"
    assert styles[SIDE + 1] == "rgb(0,0,255) on rgb(0,0,255)"


def test_larger_gray_images_are_reduced_to_their_means() -> None:
    images = torch.zeros(1, 1, 2 * SIDE, 2 * SIDE)
    images[0, 0, 0, 0] = 1.0
    assert str(half_blocks(images).split()[0].spans[0].style) == "rgb(64,64,64) on rgb(0,0,0)"


@pytest.mark.parametrize("name", ["vae-mnist", "cvae-mnist"])
def test_strips_of_samples_fit_the_terminal(name: str) -> None:
    lines = sample_strip(name, 80).split()
    assert {line.cell_len for line in lines} == {4 * (SIDE + 1) - 1}
    assert len({str(span.style) for line in lines for span in line.spans}) > 10


@pytest.mark.parametrize(
    ("name", "kind", "key"),
    [
        ("vae-mnist", "models", "log_evidence"),
        ("beta-vae", "variants", "options"),
        ("own-autoencoder", "recipes", "name"),
        ("laplace", "likelihoods", "options"),
        ("digits", "datasets", "options"),
    ],
)
def test_descriptions_as_json(name: str, kind: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == name and found["kind"] == kind and key in found
    assert main(["show", "no-such-name", "--json"]) == 1


def test_description_of_a_folder_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = vaezoo.create("vae", shape=(6,), latent=2)
    vaezoo.save(model, tmp_path / "mine", metrics={"parameters": 7})
    assert main(["show", f"{tmp_path}/mine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["variant"] == "vae" and found["metrics"]["parameters"] == 7
