"""Hostile configs, recipes and names: refused, without any side effect."""

import os
import pickle
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.auditing import audited
from support.foreign import Example, System, pythae_folder, saved
from support.mutations import KEYS, NAMES, config_of, small, write_config

import vaezoo
from vaezoo.errors import ConfigError, RecipeError, VaezooError
from vaezoo.hub.client import Repository
from vaezoo.recipe import read_recipe
from vaezoo.storage.checkpoint import Checkpoint, write_folder
from vaezoo.storage.config import CONFIG
from vaezoo.storage.json_files import sha256
from vaezoo.storage.model_folder import WEIGHTS
from vaezoo.workflows.measure import data_of

Table = dict[str, Any]


@pytest.fixture
def folder(quick_path: Path) -> Path:
    return small(quick_path / "model")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "empty"


# Configs whose digest is right

TABLES: dict[str, Callable[[Table], Table]] = {
    "the config": lambda config: config,
    "architecture": lambda config: config["architecture"],
    "backbone": lambda config: config["architecture"]["backbone"],
    "likelihood": lambda config: config["architecture"]["likelihood"],
    "options": lambda config: config["options"],
    "data": lambda config: config["data"],
    "recipe": lambda config: config["recipe"],
    "weights": lambda config: config["weights"],
}
CODE = {"_target_": "os.system", "command": "touch pwned"}


def full(folder: Path) -> Table:
    """Returns a config with all fields."""
    config = config_of(folder)
    config["data"] = {"name": "mnist", "binarize": "static", "digest": "0" * 64}
    config["recipe"] = {"name": "vae-mnist", "digest": "0" * 64, "extensions": []}
    return config


def refused(folder: Path, config: object) -> str:
    """Returns the error of a folder with this config."""
    write_config(folder, config)
    with pytest.raises(VaezooError) as caught:
        vaezoo.load(folder)
    assert len(str(caught.value)) < 2000 and "Traceback" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("table", TABLES)
def test_unknown_key_is_refused(folder: Path, elsewhere: Path, table: str) -> None:
    for key in KEYS:
        for value in ("os.system", CODE, [CODE], None, 1):
            config = full(folder)
            if key in TABLES[table](config):  # `name` and the like, which are checked themselves
                continue
            TABLES[table](config)[key] = value
            refused(folder, config)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("table", ["the config", "architecture", "data", "recipe", "weights"])
def test_missing_key_is_refused(folder: Path, table: str) -> None:
    optional = {"data": {"digest"}, "recipe": {"extensions"}}.get(table, set())
    for key in TABLES[table](full(folder)).keys() - optional:
        config = full(folder)
        del TABLES[table](config)[key]
        refused(folder, config)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:30]))
def test_unregistered_name_in_a_config_is_refused(folder: Path, elsewhere: Path, name: str) -> None:
    good = full(folder)
    for table, key in (
        ("the config", "variant"), ("backbone", "name"), ("backbone", "activation"), ("likelihood", "name"),
        ("weights", "file"),
    ):  # fmt: skip
        config = deepcopy(good)
        TABLES[table](config)[key] = name
        refused(folder, config)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**63, 2**64, 10**400, 1e-320, -1, True])
def test_number_out_of_range_is_refused(folder: Path, value: object) -> None:
    good = full(folder)
    architecture = [("architecture", key) for key in ("shape", "context", "examples")]
    for table, key in (("the config", "format"), *architecture, ("weights", "size")):
        config = deepcopy(good)
        TABLES[table](config)[key] = [value] if key == "shape" else value
        refused(folder, config)
    refused(folder, good | {"variant": "beta-vae", "options": {"beta-vae.beta": value if value != 1e-320 else -1e-9}})


@pytest.mark.parametrize(
    "old, new",
    [
        ('"format": 1', '"format": 1, "format": 1'),
        ('"variant": "vae"', '"variant": "vae", "variant": "iwae"'),
        ('"context": 0', '"context": NaN'),
        ('"context": 0', '"context": -Infinity'),
        ('"context": 0', '"context": 1e999'),
        ('"context": 0', '"context": 0x0'),
        ('"vae"', "!!python/object/apply:os.system ['true']"),
        ('"vae"', '"\\ud800"'),
        ('"vae"', "'vae'"),
        ('"vae"', "${env:HOME}"),
        ("{", "// a comment\n{"),
        ("{", "{} {"),
        ("\n", ",\n"),
    ],
)
def test_invalid_json_is_refused(folder: Path, old: str, new: str) -> None:
    text = (folder / CONFIG).read_text()
    assert old in text
    (folder / CONFIG).write_text(text.replace(old, new, 1))
    with pytest.raises(VaezooError, match=r"config\.json"):
        vaezoo.load(folder)


def test_options_named_like_arguments_are_refused(folder: Path) -> None:
    write_config(folder, full(folder))
    assert vaezoo.load(folder).config is not None
    for name in ("shape", "latent", "variant", "backbone", "examples"):
        assert name in refused(folder, full(folder) | {"options": {name: "vae"}})


def test_data_of_a_config_are_read_only_if_registered(folder: Path) -> None:
    for name in ("folder:/etc", "torchvision:CIFAR10"):
        config = full(folder)
        config["data"]["name"] = name
        write_config(folder, config)
        model = vaezoo.load(folder)  # nothing has been read
        with pytest.raises(ConfigError, match="expected a registered data set"):
            data_of(model, None)
        assert data_of(model, name) == name


@pytest.mark.parametrize("names", [[], ["a"], ["/etc/passwd"], ["a" * 65], ["a\nb"], [1], "a", ["a"] * 1001])
def test_names_of_classes_and_columns_that_do_not_fit_the_model_are_refused(folder: Path, names: object) -> None:
    config = full(folder)
    config["data"]["class_names"] = names  # of an unconditional model
    refused(folder, config)
    config = full(folder)
    config["data"]["columns"] = names  # of a model of images
    refused(folder, config)


def test_config_that_could_not_be_read_is_not_saved(folder: Path) -> None:
    model = vaezoo.load(folder)
    assert model.config is not None
    model.config = {**model.config, "data": {"name": "two\nlines", "binarize": "none"}}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConfigError, match="printable"):
        vaezoo.save(model, folder)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


# Names


@pytest.mark.parametrize("name", [*NAMES, "hf:", None, 5, b"vae-mnist", ["vae-mnist"], "~", "./" + "a" * 5000, "a/\ud800"], ids=lambda name: repr(name)[:30])  # fmt: skip # noqa: E501
def test_hostile_name_is_refused_by_every_function(elsewhere: Path, name: Any) -> None:
    for function in (
        vaezoo.load,
        vaezoo.info,
        lambda name: vaezoo.create(name, shape=4),
        lambda name: vaezoo.create("vae", shape=4, backbone={"name": name}),
        lambda name: vaezoo.create("vae", shape=4, likelihood={"name": name}),
        vaezoo.load_dataset,
        read_recipe,
    ):
        if function is vaezoo.load_dataset and (not isinstance(name, str) or name.startswith("torchvision:")):
            continue  # an existing data set
        with pytest.raises(VaezooError):
            function(name)
    assert not list(elsewhere.iterdir())


def test_path_as_revision_is_refused() -> None:
    """The client uses a branch's name as a path in its cache."""
    for revision in ("/etc/passwd", "/tmp/x", "../x", "C:\\x", "a\0", "a b", "ä", "-x/..", "."):
        for arguments in ((f"hf:a/b@{revision}",), ("hf:a/b", revision)):
            with pytest.raises(ConfigError, match="expected hf:owner/name"):
                Repository.of(*arguments)


def test_malformed_repository_is_refused() -> None:
    paths = ("", "a", "a/b/c", "../x", "a/b@ ", "a/b@..", "a b/c", "a/" + "b" * 300, "a/b@", "a/b\n")
    for name in (*paths, "aä/b", "a/b٣", "\u202ea/b", "-a/b", ".a/b", "a/.b", "a\\b/c", "a/b#c", "a/b?c"):
        with pytest.raises(ConfigError, match="expected hf:owner/name"):
            Repository.of(f"hf:{name}")


# Recipes

RECIPE = 'variant = "vae"\n[data]\nname = "mnist"\n[train]\nsteps = 10\n'
HOSTILE_RECIPES = {
    "_target_": '_target_ = "os.system"\n' + RECIPE,
    "target of options": RECIPE + '[options]\n_target_ = "os.system"\n',
    "class path": RECIPE + '[architecture]\n_class_path = "os.system"\n',
    "backbone": RECIPE + '[architecture.backbone]\nname = "mlp"\n_target_ = "os.system"\n',
    "backbone's name": RECIPE + '[architecture]\nbackbone = "os.system"\n',
    "dunder": RECIPE.replace("steps", "__class__ = 1\nsteps"),
    "private": RECIPE.replace("steps", "_steps = 1\nsteps"),
    "yaml": "!!python/object/apply:os.system ['true']\n" + RECIPE,
    "interpolation": RECIPE.replace("vae", "${env:HOME}"),
    "variant": RECIPE.replace('"vae"', '"os.system"'),
    "path": RECIPE.replace('"vae"', '"../../x"'),
    "data": RECIPE.replace('"mnist"', '"/etc/passwd"'),
    "data's address": RECIPE.replace('"mnist"', '"http://127.0.0.1:9/x"'),
    "escape": RECIPE.replace("vae", "vae\\u0000"),
    "right to left": RECIPE.replace("vae", "\\u202evae"),
    "twice": RECIPE + "steps = 11\n",
    "table twice": RECIPE + '[data]\nname = "digits"\n',
    "nan": RECIPE + "learning_rate = nan\n",
    "infinity": RECIPE + "learning_rate = inf\n",
    "beyond 63 bits": RECIPE.replace("10", "9223372036854775808"),
    "a date": RECIPE.replace("10", "1979-05-27"),
    "no tables": "variant = 1\ndata = 1\ntrain = 1\n",
    "depth": f"variant = {'[' * 4000}",
    "many keys": "".join(f"k{n} = 1\n" for n in range(6000)),
    "many stages": 'variant = "vae"\n' + "[[stage]]\nsteps = 1\n" * 2500,
    "dots": "\n".join(["a" + ".a" * 2000 + " = 1"] * 15),
    "tables of dots": "\n".join(f"[{'.'.join(f'a{n}' for _ in range(800))}]" for n in range(15)),
    "long": RECIPE + "# " + "x" * 2**20,
    "no text": "\ud800",
}


def write_recipe(place: Path, name: str) -> Path:
    path = place / f"{name.replace(' ', '-')}.toml"
    path.write_bytes(HOSTILE_RECIPES[name].encode("utf-8", "surrogatepass"))
    return path


@pytest.mark.parametrize("name", HOSTILE_RECIPES)
@pytest.mark.timeout(20)
def test_hostile_recipe_is_refused(elsewhere: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(write_recipe(tmp_path, name))
    assert len(str(caught.value)) < 100_000 and not list(elsewhere.iterdir())


# Side effects


def cached(cache: Path, name: str, files: dict[str, bytes]) -> str:
    """Writes a repository into a cache in the layout of the Hub's client, and returns its commit."""
    commit = sha256(name.encode())[:40]
    place = cache / f"models--{name.replace('/', '--')}"
    for path in ("blobs", f"snapshots/{commit}", "refs"):
        (place / path).mkdir(parents=True)
    for file, data in files.items():
        (place / "blobs" / sha256(data)).write_bytes(data)
        (place / "snapshots" / commit / file).symlink_to(f"../../blobs/{sha256(data)}")
    (place / "refs" / "main").write_text(commit)
    return commit


@pytest.mark.parametrize("warm", [True, pytest.param(False, marks=pytest.mark.full)], ids=["warm", "cold"])
def test_reading_hostile_files_has_no_side_effects(tmp_path: Path, warm: bool) -> None:
    """After a first load there are no imports; in a fresh process, only of declared dependencies."""
    cache, good = tmp_path / "cache", small(tmp_path / "good")
    weights, config = (good / WEIGHTS).read_bytes(), full(good)
    bad = [tmp_path / "bad" / f"{key} {table}".replace("/", "") for key in KEYS[:10] for table in TABLES]
    for folder, (key, table) in zip(bad, ((key, table) for key in KEYS[:10] for table in TABLES), strict=True):
        folder.mkdir(parents=True)
        (folder / WEIGHTS).write_bytes(weights)
        changed = deepcopy(config)
        TABLES[table](changed)[key] = CODE
        write_config(folder, changed)
    code, pickled = b"open('pwned', 'w').close()\n", b"cposix\nsystem\n(S'touch pwned'\ntR."
    files = {CONFIG: (good / CONFIG).read_bytes(), WEIGHTS: weights, "modeling.py": code, "__init__.py": code}
    files |= {"pytorch_model.bin": pickled, "model.pkl": pickled}
    commit = cached(cache, "them/good", files)
    write_config(tmp_path, config | {"auto_map": {"AutoModel": "modeling.Model"}})
    evil = cached(cache, "them/evil", files | {CONFIG: (tmp_path / CONFIG).read_bytes()})
    write_folder(tmp_path / "step-1", Checkpoint(tensors={"model": {"w": torch.ones(2)}}, state={"step": 1}))
    recipes = [str(write_recipe(tmp_path, name)) for name in HOSTILE_RECIPES if name != "long"]
    (tmp_path / "good.toml").write_text(RECIPE)
    dependencies = {"vaezoo", "torch", "safetensors", "msgspec", "numpy", "einops", "filelock", "rich"}
    models = ["vae-mnist", str(good), f"hf:them/good@{commit}"]
    valid = [*models, str(tmp_path / "good.toml"), str(tmp_path / "step-1")]
    answer = audited(
        tmp_path / "empty",
        read=[tmp_path, Path("/proc/self")],
        modules=[] if warm else sorted(dependencies | set(sys.stdlib_module_names)),
        write=[os.path.realpath(cache)],
        warm=["vae-mnist", "vq-vae-mnist", "cvae-mnist", models[2]] if warm else [],
        load=[*models, f"hf:them/evil@{evil}", *map(str, bad)],
        offline=[f"hf:them/evil@{evil}"],
        recipes=[str(tmp_path / "good.toml"), *recipes],
        checkpoints=[str(tmp_path / "step-1")],
        canaries=warm,
    )
    assert answer["events"] == [], answer["events"]  # no `pickle.find_class` either
    results = answer["results"]
    assert len(results) == len(valid) + 1 + len(bad) + len(recipes)
    assert all(
        result == "done" if name in valid else result.startswith("refused: ") for name, result in results.items()
    )
    assert all(answer["canaries"].values()) and len(answer["canaries"]) == (11 if warm else 0)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.full
def test_images_of_other_formats_start_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow starts Ghostscript for EPS, whatever the suffix."""
    programs, good, bad = tmp_path / "bin", tmp_path / "good", tmp_path / "bad"
    for folder in (programs, good, bad):
        folder.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\necho 10\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # not searched for yet
    for number, suffix in enumerate(("png", "tif", "bmp", "pgm", "jpg", "png", "png", "png", "png", "png")):
        Image.new("L", (28, 28), 20 * number).save(good / f"{number}.{suffix}")
        (bad / f"{number}.{suffix}").write_bytes(EPS)
    with pytest.raises(OSError), Image.open(bad / "0.png") as image:
        image.load()
    (tmp_path / "ran").unlink()  # Pillow has started the program
    answer = audited(
        tmp_path / "empty", [tmp_path], [], images=[str(good), str(bad)], into=str(tmp_path / "into"),
        write=[str(tmp_path / "into")], canaries=False,
    )  # fmt: skip
    dangerous = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess", "socket", "pickle")
    assert not [event for event in answer["events"] if event.startswith(dangerous)] and not (tmp_path / "ran").exists()
    results = answer["results"]
    assert {way: results.pop(f"{way} {good}") for way in ("load", "stream", "evaluate", "reconstruct", "Pillow")} == {
        way: "done" for way in ("load", "stream", "evaluate", "reconstruct", "Pillow")
    }
    assert len(results) == 5 and all(result.startswith("refused: DataError") for result in results.values()), results


@pytest.mark.full
def test_converting_a_malicious_pickle_runs_nothing(tmp_path: Path) -> None:
    """Of a pythae folder only the settings and the state dict are opened."""
    theirs, bomb = tmp_path / "theirs", System(f"touch {tmp_path}/ran")
    folder = pythae_folder(theirs / "pythae")
    for name in ("encoder.pkl", "decoder.pkl", "environment.json", "README.md"):
        (folder / name).write_bytes(pickle.dumps(bomb))
    state = Example(12, 8, 3).state_dict()
    saved(theirs / "alone", bomb)
    saved(theirs / "beside tensors", {**state, "x": bomb})
    saved(theirs / "a module", {**state, "x": Example(2, 2, 2)})
    torch.save(bomb, theirs / "legacy", _use_new_zipfile_serialization=False)
    (theirs / "bare").write_bytes(pickle.dumps(bomb))
    sources = sorted(map(str, theirs.iterdir()))
    readable = [folder / "model.pt", folder / "model_config.json", *theirs.glob("[!p]*"), Path("/proc/self")]
    into = tmp_path / "mine"
    answer = audited(
        tmp_path / "empty", readable, ["any"], convert=sources, into=str(into), write=[str(into)], canaries=False
    )
    dangerous = ("os.system", "subprocess", "socket", "os.exec", "os.fork", "os.posix_spawn", "pickle", "open")
    assert not [event for event in answer["events"] if event.startswith(dangerous)], answer["events"]
    assert not (tmp_path / "ran").exists() and [path.name for path in into.iterdir()] == ["pythae"]
    results = answer["results"]
    assert results.pop(str(folder)) == "done"
    assert len(results) == 5 and all(result.startswith("refused: ConversionError") for result in results.values())
