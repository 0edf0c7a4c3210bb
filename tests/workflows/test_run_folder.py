"""Folders of runs: their data, recipes and descriptions, and names that a file or a card could not hold."""

import os
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.runs import small_data, small_recipe

import vaezoo
from vaezoo import cli
from vaezoo.errors import ConfigError, RecipeError, UnknownNameError
from vaezoo.recipe import read_recipe
from vaezoo.storage.config import recordable_names
from vaezoo.storage.model_folder import read_model
from vaezoo.workflows import train as training
from vaezoo.workflows.listing import describe
from vaezoo.workflows.measure import measure
from vaezoo.workflows.run_folder import own_data, recorded_data

pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active", "ignore:.*unfinished run")
TABLES = {
    "name": "mine",
    "variant": "vae",
    "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [6]}, "likelihood": "gaussian"},
    "train": {"steps": 4, "batch_size": 4},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on a folder of images, which the recipe gives by a relative path."""
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "test"):
        (tmp_path / "images" / split / "a").mkdir(parents=True)
        for number in range(8):
            pixels = torch.randint(256, (4, 4), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(tmp_path / "images" / split / "a" / f"{number}.png")
    vaezoo.train({**TABLES, "data": {"name": "folder:images"}}, out="runs/mine", trackers=())
    return tmp_path / "runs" / "mine"


def test_a_run_of_this_machine_uses_its_own_data_everywhere(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = f"folder:{run.parents[1] / 'images'}"
    assert recorded_data(run) == own_data("runs/mine", None) == expected
    monkeypatch.chdir(run)  # another directory
    name = str(run)
    assert measure(name, samples=2).metrics["examples"] == 8
    for command in (["reconstruct", "--n", "4"], ["traverse"], ["interpolate", "--pairs", "2"], ["sample", "--n", "4"]):
        more = ["--sampler", "normal"] if command[0] == "sample" else []
        assert cli.main([command[0], name, *command[1:], *more, "--out", "picture.png"]) == 0
    assert cli.main(["fit-sampler", name, "normal"]) == 0
    given = str(run.parents[1] / "images")
    assert cli.main(["sample", name, "--sampler", "normal", "--data", f"folder:{given}", "--out", "picture.png"]) == 0
    shutil.move(run, run.parent / "renamed")
    assert recorded_data(run.parent / "renamed") == expected, "a renamed run is still the same folder"


def test_the_recorded_path_of_another_folder_is_never_opened(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "copied")
    assert recorded_data(copied) is None
    with pytest.raises(ConfigError, match=r"choose|Choose"):
        measure(str(copied), samples=0)
    assert own_data("hf:owner/mine", None) is own_data("vae-mnist", None) is None
    for text in ("", "[]", "{}", '{"data": 1}', '{"data": "folder:/etc"}'):
        (run / "local.json").write_text(text)
        assert recorded_data(run) is None
    vaezoo.save(read_model(run), tmp_path / "saved")
    assert not (tmp_path / "saved" / "local.json").exists()


def test_data_without_a_name_are_not_recorded(tmp_path: Path) -> None:
    recipe = small_recipe()
    vaezoo.train(recipe, data=small_data(recipe), out=tmp_path / "run", trackers=())
    assert recorded_data(tmp_path / "run") is None


@pytest.mark.parametrize("name", ["mine", "digits"])
def test_the_description_of_a_run_on_data_from_python_states_that_training_needs_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    vaezoo.train({**TABLES, "data": {"name": name}}, data=torch.rand(8, 1, 4, 4), out="runs/mine", trackers=())
    (line,) = [line for line in describe("runs/mine").splitlines() if line.startswith("Recipe mine on ")]
    assert "data passed from Python: pass them again, vaezoo.train('runs/mine', data=data), or name a data set" in line
    assert line.count("vaezoo train") == line.count("vaezoo train runs/mine --data NAME") == 1


@pytest.mark.parametrize(
    "command", ["evaluate", "reconstruct", "traverse", "interpolate", "latents", "fit-sampler", "train"]
)
def test_commands_on_a_run_of_data_from_python_state_that_data_are_needed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    vaezoo.train({**TABLES, "data": {"name": "mine"}}, data=torch.rand(8, 1, 4, 4), out="runs/mine", trackers=())
    assert cli.main([command, "runs/mine", *(["normal"] if command == "fit-sampler" else [])]) != 0
    said = capsys.readouterr().err
    assert "passed from Python" in said and "--data" in said and "data)" in said


def test_the_remarks_about_a_folder_are_those_of_the_training_alone(run: Path, tmp_path: Path) -> None:
    images = tmp_path / "others" / "train"
    shutil.copytree(tmp_path / "images" / "train", images)
    (images / "a" / "notes.txt").write_text("")
    with pytest.warns(UserWarning, match=r"Ignored 1 file that is no image \(\.txt: 1\)"):
        vaezoo.load_dataset("folder:others")
    with pytest.warns(UserWarning, match="Ignored 1 file"):
        vaezoo.train({**TABLES, "data": {"name": "folder:others"}}, out="runs/others", trackers=())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measure("runs/others", samples=2).metrics["examples"] == 1


def test_a_conditional_model_of_a_folder_takes_the_names_of_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("food", "flags", "1"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (4, 4), 20 * number).save(tmp_path / "images" / name / f"{number}.png")
    tables = {**TABLES, "variant": "cvae", "data": {"name": "folder:images", "context": True}}
    vaezoo.train(tables, out="runs/mine", trackers=())
    model = vaezoo.load("runs/mine")
    assert model.config is not None and model.config["data"]["class_names"] == ["1", "flags", "food"]  # type: ignore[index]
    assert torch.equal(model.sample(2, c=["food", "flags"], seed=0), model.sample(2, c=[2, 1], seed=0))
    drawn: list[object] = []
    monkeypatch.setattr(vaezoo.pictures, "samples", lambda model, n, path, c, seed, **_: drawn.append(c))
    for given in ("flags", "2", "1"):
        assert cli.main(["sample", "runs/mine", "2", "--c", given]) == 0
    assert drawn == ["flags", 2, "1"], "the text of a number is a name if a class has it"
    monkeypatch.undo()
    assert cli.main(["sample", str(tmp_path / "runs" / "mine"), "2", "--c", "flag", "--out", str(tmp_path)]) != 0
    assert "Did you mean 'flags'? Known: 1, flags, food." in capsys.readouterr().err
    assert cli.main(["sample", str(tmp_path / "runs" / "mine"), "4", "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    "names", [None, ["a"] * 3, ["a", "b"], ["a", "b", "../c"], ["a", "b", "c" * 65], ["a", "b", "\n"]]
)
def test_names_of_classes_that_a_config_cannot_hold_are_not_recorded(names: list[str] | None) -> None:
    assert recordable_names(names, 3) is None
    assert recordable_names(("a", "b", "Größe 3"), 3) == ["a", "b", "Größe 3"]
    assert recordable_names([str(n) for n in range(1000)], 1000) is not None
    assert recordable_names([str(n) for n in range(1001)], 1001) is None
    assert recordable_names([f"{n}{'ö' * 40}" for n in range(100)], 100) is None, "24 kB"


def test_a_run_is_a_recipe_and_has_a_description(run: Path, tmp_path: Path) -> None:
    original = read_recipe({**TABLES, "data": {"name": "folder:images"}})
    for source in ("runs/mine", run, run / "recipe.json"):
        assert read_recipe(source) == original and read_recipe(source).digest == original.digest
    assert read_recipe("runs/mine", seed=3).seed == 3
    assert cli.main(["train", "runs/mine/recipe.json"]) == 0 and (tmp_path / "runs" / "mine-2" / "config.json").exists()
    weights = [(tmp_path / "runs" / name / "model.safetensors").read_bytes() for name in ("mine", "mine-2")]
    assert weights[0] == weights[1]
    assert cli.main(["train", "runs/mine", "--resume", "--extend", "steps=6"]) == 0, "in its own folder"
    assert len(vaezoo.load("runs/mine").config["recipe"]["extensions"]) == 1
    text = describe("runs/mine")
    assert "runs/mine: a trained vae" in text and "vaezoo train runs/mine" in text and "training images" in text
    (run / "config.json").unlink()
    assert "an unfinished run of vae; newest checkpoint after step 6" in describe("runs/mine")
    assert measure("runs/mine", samples=0).metrics["examples"] == 8, "an unfinished run can be measured"
    for refused in (["evaluate", "runs/mine", "--write"], ["fit-sampler", "runs/mine", "normal"]):
        assert cli.main(refused) == 1
    with pytest.raises(ConfigError, match="unfinished run, which has checkpoints but no model files"):
        vaezoo.push("runs/mine", "me/mine", dry_run=True)
    assert not (run / "config.json").exists()
    (run / "recipe.json").write_text("[]")
    with pytest.raises(RecipeError, match="cannot be read as the recipe of a run"):
        read_recipe("runs/mine")
    for missing in ("runs/none", "runs/none.json", Path("none")):
        with pytest.raises(UnknownNameError):
            read_recipe(missing)


NAMES = ["a\u00a0name\u2003of spaces", "n" * 1500, "[bold]name[/] :smile:", "tab\tand\nline", "\u202eright to left"]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_any_name_can_be_saved(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = {**small_recipe().as_dict(), "name": name}
    run = vaezoo.train(tables, data=small_data(small_recipe()), trackers=())
    assert vaezoo.load(run.folder).config["recipe"]["name"] == run.recipe.name
    assert run.recipe.name.isprintable() and len(run.recipe.name) <= 1000


@pytest.mark.parametrize("place", [b"caf\xe9", b"[red]folder[bold]", b"line\nfeed", "a\u00a0b".encode()])
def test_a_run_in_a_folder_of_any_name_can_be_saved_and_is_named_as_it_is(
    place: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path(os.fsdecode(place))
    recipe = tmp_path / f"{os.fsdecode(place)}.toml"
    recipe.write_bytes(b"""variant = "vae"
[architecture]
latent = 2
backbone = { name = "mlp", hidden = [4] }
[data]
name = "digits"
[train]
steps = 3
""")
    assert cli.main(["train", str(recipe), "--out", str(out)]) == 0
    assert vaezoo.load(out.absolute()).config["recipe"]["name"].isprintable()
    if place.startswith(b"["):
        assert "[red]folder[bold]" in capfd.readouterr().out
    assert cli.main(["train", str(recipe)]) == 0, "in an automatic folder"


def test_what_cannot_be_saved_is_refused_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe()
    build = training.build_model

    def with_long_text(*args: object) -> vaezoo.VAE:
        model = build(*args)  # type: ignore[arg-type]  # whatever it is called with
        model.config = {**(model.config or {}), "variant": "v" * 2000}
        return model

    monkeypatch.setattr(training, "build_model", with_long_text)
    with pytest.raises(ConfigError, match="at most 1000 characters"):
        vaezoo.train(recipe, data=small_data(recipe), out=tmp_path / "run", trackers=())
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_the_data_of_a_recipe_are_replaced_on_the_command_line(run: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "images", tmp_path / 'other "images"')
    assert cli.main(["train", "runs/mine", "--data", 'folder:other "images"', "--out", "runs/other"]) == 0
    assert recorded_data(tmp_path / "runs" / "other") == f'folder:{tmp_path / "other "}"images"'
    assert read_recipe("runs/other").data.name == 'folder:other "images"'
