"""Publishing a model of one's own: commands on its card, licenses, the recipe, and no path of the user."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.cases import example_of
from support.hub_server import Hub, same

import vaezoo
from vaezoo import pictures
from vaezoo.cli import main
from vaezoo.core import public_name
from vaezoo.errors import ConfigError
from vaezoo.registry import variants, with_requirements
from vaezoo.storage.model_folder import write_metrics
from vaezoo.storage.replace import put_config
from vaezoo.storage.terms import LICENSES, Terms
from vaezoo.workflows.publish import preview
from vaezoo.zoo.index import PACKAGE_FOLDER

pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active", "ignore:.*trained on all images")
FIGURES = {"data": "folder:pets", "split": "test", "examples": 4, "samples": 2, "distortion": 1.0, "rate": 1.0}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a user with a folder of images; also the working folder."""
    home = tmp_path / "home" / "secret-user"
    (home / "photos" / "pets").mkdir(parents=True)
    for number in range(12):
        color = (20 * number, 100, 255 - 20 * number)
        Image.new("RGB", (6, 6), color).save(home / "photos" / "pets" / f"{number}.png")
    monkeypatch.setattr(pictures, "samples", lambda model, count, path, *_: path.write_bytes(b"picture"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


def recipe_of(home: Path, **more: object) -> dict[str, object]:
    return {
        "name": "pets",
        "variant": "vae",
        "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [8]}, "likelihood": {"name": "gaussian"}},
        "data": {"name": f"folder:{home / 'photos' / 'pets'}", "split": "all"},
        "train": {"steps": 2, "batch_size": 4},
        **more,
    }


def run_card(card: str, **words: str) -> None:
    """Runs the Python blocks and the commands of a card as they are printed, but for words in capitals."""
    for code in re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE):
        space: dict[str, torch.Tensor] = {}
        exec(code, space)
        assert torch.isfinite(space["x"]).all() and len(space["x"]) == 16
    for block in re.findall(r"^```sh\n(.*?)^```$", card, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            for word, value in words.items():
                arguments = [argument.replace(word, value) for argument in arguments]
            assert program == "vaezoo" and main(arguments) == 0, line


def test_commands_of_the_card_of_a_run_work(home: Path) -> None:
    run = vaezoo.train(recipe_of(home), out=home / "pets")
    assert main(["evaluate", "./pets", "--write", "--samples", "2"]) == 0
    card = Path("pets/README.md").read_text(encoding="utf-8")
    assert 'vaezoo.load("./pets")' in card and "vaezoo train ./pets/recipe.json" in card
    run_card(card)
    again = vaezoo.load("runs/pets")
    assert same(again, run.model), "the recipe of the card gives the same weights"
    for name in ("README.md", "config.json", "metrics.json"):
        assert "secret-user" not in Path("pets", name).read_text(encoding="utf-8"), name
    assert json.loads(Path("pets/config.json").read_bytes())["data"]["name"] == "folder:pets"


def test_the_card_of_a_run_on_a_relative_folder_states_that_its_path_is_needed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = vaezoo.train(recipe_of(home, data={"name": "folder:photos/pets", "split": "all"}), out=home / "runs/pets")
    card = Path("runs/pets/README.md").read_text(encoding="utf-8")
    assert "vaezoo train ./pets/recipe.json --data folder:PATH\n" in card and "PATH is that of yours" in card
    monkeypatch.chdir("runs")  # the folder in which the commands of the card are run
    run_card(card, PATH=str(home / "photos" / "pets"))
    assert same(vaezoo.load("runs/pets"), run.model)


@pytest.mark.full
@pytest.mark.parametrize("name", variants.names())
def test_the_card_of_every_variant_loads_and_samples(name: str, home: Path) -> None:
    contexts = [3] if variants.get(name).context != "optional" else [0, 3]
    for context in contexts:
        whole = with_requirements(name)
        model = vaezoo.create(whole, shape=(1, 8, 8), context=context, examples=100, **example_of(whole))
        run_card((vaezoo.save(model, home / "mine", metrics=FIGURES) / "README.md").read_text())


def test_published_run_has_recipe_license_and_no_path(home: Path, hub: Hub, tmp_path: Path) -> None:
    run = vaezoo.train(recipe_of(home), out=home / "pets")
    figures = vaezoo.evaluate(run.model, f"folder:{home / 'photos' / 'pets'}", samples=2).as_dict()
    terms = {"license": "other", "license_name": "pets-1.0", "license_link": "https://example.org/terms"}
    place = vaezoo.push(home / "pets", "them/pets", metrics=figures, data_license="CC0 1.0", dataset="me/pets", **terms)
    repository = hub.repositories["them/pets"]
    files = repository.commits[repository.names["main"]]
    assert set(files) == {"README.md", "config.json", "metrics.json", "model.safetensors", "recipe.json", "samples.png"}
    assert not [name for name, data in files.items() if b"secret-user" in data or str(tmp_path).encode() in data]
    card = files["README.md"].decode()
    front = card.split("---")[1]
    assert "license: other\nlicense_name: pets-1.0\nlicense_link: https://example.org/terms\n" in front
    assert "datasets:\n- me/pets\n" in front and front.count("- vae\n") == 1
    assert "The weights have the license [pets-1.0](https://example.org/terms)." in card
    assert "`pets`, a folder of images, license: CC0 1.0;" in card
    own = json.loads(files["recipe.json"])
    assert own == {**run.recipe.as_dict(), "data": {**own["data"], "name": "folder:pets"}}
    run_card(card, PATH=str(home / "photos" / "pets"))
    assert same(vaezoo.load("runs/pets"), run.model) and same(vaezoo.load(place), run.model)


def test_cards_link_to_no_page_of_the_package() -> None:
    """It is on no index."""
    for card in (preview("vae-mnist", "me/vae-mnist").card, (PACKAGE_FOLDER / "vae-mnist" / "README.md").read_text()):
        assert "http" not in card.partition("## Citation")[0] and "made with vaezoo 0." in card


def test_dry_run_prints_card_and_files(home: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    vaezoo.train(recipe_of(home), out=home / "runs/pets")
    assert main(["evaluate", "runs/pets", "--write", "--samples", "2"]) == 0
    capsys.readouterr()
    assert main(["push", "runs/pets", "--owner", "them", "--dry-run"]) == 0
    out = capsys.readouterr().out
    size = Path("runs/pets/model.safetensors").stat().st_size
    assert f"model.safetensors  {size:,} bytes" in out and "recipe.json" in out and "hf:them/pets" in out
    assert "library_name: vaezoo" in out and "No license is stated for the weights" in out and "--license mit" in out
    assert main(["push", "runs/pets", "--owner", "them", "--dry-run", "--license", "mit"]) == 0
    out = capsys.readouterr().out
    assert "\nlicense: mit\n" in out and "The weights have the license `mit`." in out and "--license" not in out
    assert not hub.requests


def test_paths_written_by_earlier_versions_are_not_published(home: Path) -> None:
    model = vaezoo.create("vae", shape=(1, 4, 4), latent=2)
    folder = vaezoo.save(model, home / "old")
    path = f"folder:{home / 'photos' / 'pets'}"
    config = json.loads((folder / "config.json").read_bytes())
    body = {key: value for key, value in config.items() if key != "digest"}
    put_config(folder, {**body, "data": {"name": path, "binarize": "none"}})
    assert str(home) in (folder / "config.json").read_text()
    write_metrics(folder, {**FIGURES, "data": path})
    found = preview(folder, "me/old")
    assert "secret-user" not in found.card and "`pets`, a folder of images; their license is not stated" in found.card
    with pytest.raises(ConfigError, match=r"README\.md would publish"):
        preview(folder, "me/old", terms=Terms(data_license=f"see {home}/LICENSE"))


def test_recipe_of_other_weights_is_not_published(home: Path) -> None:
    run = vaezoo.train(recipe_of(home), out=home / "pets")
    other = json.loads((home / "pets" / "recipe.json").read_bytes())
    (home / "pets" / "recipe.json").write_text(json.dumps({**other, "seed": 5}))
    assert "recipe.json" not in preview(home / "pets", "me/pets", metrics={**FIGURES}).files
    in_memory = preview(run.model, "me/pets", metrics={**FIGURES})
    assert "recipe.json" not in in_memory.files and "Trained by the recipe `pets`, which is not" in in_memory.card
    changed = vaezoo.train("vae-digits", "train.steps=2", "train.epochs=0", out=home / "digits")
    found = preview(home / "digits", "me/digits", metrics={**FIGURES, "data": "digits"})
    assert "vaezoo train digits/recipe.json\n" in found.card and "vaezoo train vae-digits`" not in found.card
    assert changed.recipe.digest[:12] in found.card
    assert "`vaezoo train vae-mnist` makes it again" in preview("vae-mnist", "me/vae-mnist").card


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("mnist", "mnist"),
        ("torchvision:CIFAR10", "torchvision:CIFAR10"),
        ("folder:/home/me/cats", "folder:cats"),
        ("folder:~/cats/", "folder:cats"),
        ("folder:../data/my cats", "folder:my cats"),
        (r"folder:C:\Users\me\cats", "folder:cats"),
        ("folder:/home/me", "folder:images"),
        ("folder:/Users/me/", "folder:images"),
        ("folder:~", "folder:images"),
        ("folder:.", "folder:images"),
        ("folder:C:\\", "folder:images"),
        ("/home/me/table.csv", "table.csv"),
        ("[bold]name[/] :smile:", "[bold]name[/] :smile:"),
        ("cats / dogs", "cats / dogs"),
    ],
)
def test_public_names_of_data_have_no_path(name: str, public: str) -> None:
    assert public_name(name) == public


def test_licenses_are_identifiers_of_the_hub() -> None:
    assert {"mit", "apache-2.0", "cc-by-4.0", "cc-by-nc-sa-4.0", "gpl-3.0", "bsd-3-clause", "cc0-1.0"} < LICENSES
    for given, text in (
        ({"license": "MIT"}, "Did you mean 'mit'"),
        ({"license": "CC BY 4.0"}, "expected an identifier of the Hub"),
        ({"license": "other"}, "expected a name with the license 'other'"),
        ({"license": "mit", "license_name": "mine"}, "expected a name with the license 'other'"),
        ({"license": "other", "license_name": "My Terms"}, "lower-case letters"),
        ({"license": "mit", "license_link": "https://x.org"}, "with 'other' alone"),
        ({"license": "other", "license_name": "x", "license_link": "file:///etc/passwd"}, "an https:// address"),
        ({"data_license": "free\ninjected: 1"}, "one line of text"),
        ({"dataset": "cats"}, "owner/name of a data set"),
    ):
        with pytest.raises(ConfigError, match=text):
            Terms(**given)
