"""The cost of a training, and the sections of cards on use, training and papers."""

import json
from pathlib import Path

import pytest
import torch

import vaezoo
from vaezoo.storage.model_card import model_card
from vaezoo.storage.model_folder import read_metrics
from vaezoo.workflows.measure import measure
from vaezoo.workflows.training_cost import machine_of, training_cost

pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")
RECIPE = {
    "name": "mine",
    "variant": "beta-vae+vamp-vae",
    "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [6]}},
    "data": {"name": "digits", "binarize": "static", "validation": 20},
    "stage": [
        {"steps": 120, "batch_size": 4, "options": {"beta": 2.0}},
        {"steps": 90, "batch_size": 5, "accumulation": 2},
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cost") / "mine"
    vaezoo.train(RECIPE, out=folder, trackers=())
    return folder


def test_the_cost_has_steps_images_seconds_and_machine(run: Path) -> None:
    cost = training_cost(run)
    assert cost is not None
    assert (cost["steps"], cost["images"]) == (210, 120 * 4 + 90 * 10)
    assert cost["machine"] == machine_of(torch.device("cpu")) and "thread" in str(cost["machine"])
    lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
    speeds = {line["step"]: line["images_per_second"] for line in lines if "step" in line}
    assert list(speeds) == [100, 120, 210]
    assert cost["seconds"] == round(400 / speeds[100] + 80 / speeds[120] + 900 / speeds[210])


def test_a_folder_without_times_has_no_cost(run: Path, tmp_path: Path) -> None:
    assert training_cost(tmp_path) is None
    for name in ("recipe.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    for damaged in ("", "[]\n", "{", '{"step": 100, "images_per_second": 0}\n'):
        (tmp_path / "timing.jsonl").write_text(damaged)
        assert training_cost(tmp_path) is None


def test_the_card_has_use_command_cost_and_papers(run: Path) -> None:
    measure(run, samples=2, write=True)
    figures, card = read_metrics(run), (run / "README.md").read_text(encoding="utf-8")
    assert figures is not None and figures["training"] == training_cost(run)
    titles = [line for line in card.splitlines() if line.startswith("#")]
    assert titles == [
        "# mine",
        *(f"## {each}" for each in ("Intended use", "Figures", "Training", "Data", "Config", "Citation")),
    ]
    assert "`beta-vae`: Use it " in card and "`vamp-vae`: Use it " in card
    assert "It expects images of shape (1, 8, 8) with values in [0, 1]. Its figures hold for digits alone" in card
    assert "```sh\nvaezoo evaluate ./mine --samples 2\n```" in card
    minutes = f"{figures['training']['seconds'] / 60:.0f} minutes"
    assert f"It took 210 steps, 1,380 images, {minutes} on {machine_of(torch.device('cpu'))}." in card
    assert card.count("@inproceedings") + card.count("@article") >= 2 and "@software{vaezoo," in card
    assert "model-index:" in card and "- name: mine" in card


def test_figures_with_another_cost_have_no_sentence_on_it(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    for cost in (None, 3, {"steps": 1}, {"steps": "a", "images": 2, "seconds": 3}):
        card = model_card("mine", config, {"training": cost}, recipe="./mine/recipe.json")
        assert "It took" not in card and "## Training" in card
    guessed = {"steps": 10, "images": 40, "seconds": 300, "machine": "a CPU", "estimated_from": 20}
    card = model_card("mine", config, {"training": guessed}, recipe="./mine/recipe.json")
    sentence = "It takes 10 steps, 40 images, 5 minutes on a CPU, estimated from the time of 20 steps of each stage."
    assert sentence in card and "It took" not in card
