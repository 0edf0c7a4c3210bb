"""Pretrained models on the Hub, and the commands pull, verify and cache."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.hub_server import Hub, flip, same

import vaezoo
from vaezoo.cli import main
from vaezoo.errors import ConfigError, CorruptWeightsError, DownloadError, UnknownNameError
from vaezoo.hub import list_cached, remove, verify
from vaezoo.storage.config import CONFIG
from vaezoo.storage.figures import METRICS
from vaezoo.storage.json_files import sha256
from vaezoo.storage.model_folder import CARD, WEIGHTS
from vaezoo.workflows import bundle
from vaezoo.workflows import publish as publishing
from vaezoo.workflows.load import pull
from vaezoo.zoo import index
from vaezoo.zoo.index import PACKAGE_FOLDER, read_index

BUNDLED, NAME = "vq-vae-mnist", "tiny-digits"
Pinned = tuple[vaezoo.VAE, str]


def drawn(model: vaezoo.VAE, folder: Path) -> dict[str, str]:
    """Writes one file in place of the pictures, which have tests of their own."""
    (folder / "samples.png").write_bytes(b"a picture")
    return {"samples.png": "Samples"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package folder with one bundled model, whose index the test may change."""
    place = tmp_path / "package"
    shutil.copytree(PACKAGE_FOLDER / BUNDLED, place / BUNDLED)
    for module in (index, bundle):
        monkeypatch.setattr(module, "PACKAGE_FOLDER", place)
    monkeypatch.setattr(publishing, "draw_pictures", drawn)
    read_index.cache_clear()
    bundle.reindex()
    yield place
    read_index.cache_clear()


def evaluated_model(latent: int = 2) -> tuple[vaezoo.VAE, dict[str, object]]:
    """Returns a small model and its metrics."""
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=latent)
    model.config = {**(model.config or {}), "data": {"name": "digits", "binarize": "dynamic", "digest": None}}
    return model, vaezoo.evaluate(model, "digits", samples=5, limit=100).as_dict()


@pytest.fixture
def pinned(hub: Hub, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pinned:
    """A published model in the index, with an empty cache: the model and its commit."""
    model, metrics = evaluated_model()
    place = vaezoo.push(model, "them/tiny", metrics=metrics, commit_message="First")
    bundle.pin(place, NAME)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    hub.requests.clear()
    hub.elsewhere.clear()
    return model, place


def in_cache(file: str) -> Path:
    (found,) = Path(constants.HF_HUB_CACHE).glob(f"models--them--tiny/snapshots/*/{file}")
    return found


def test_pinned_model_is_downloaded_once(hub: Hub, pinned: Pinned, monkeypatch: pytest.MonkeyPatch) -> None:
    model, place = pinned
    loaded = vaezoo.load(NAME)
    assert same(loaded, model) and hub.requests and len(hub.elsewhere) == 1
    commit = place.partition("@")[2]
    assert loaded.config is not None and loaded.config["source"] == {"repository": "them/tiny", "commit": commit}
    hub.requests.clear()
    hub.elsewhere.clear()
    assert same(vaezoo.load(NAME), model) and same(vaezoo.load(NAME, local_files_only=True), model)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(vaezoo.load(NAME), model)
    assert not hub.requests and not hub.elsewhere


def test_bundled_models_become_downloaded_ones(
    hub: Hub, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`vaezoo push --all` and `bundle --pin OWNER`, then loading from the Hub, and from the cache without it."""
    models = {}
    for name, latent in (("one", 2), ("two", 3)):
        models[name], metrics = evaluated_model(latent)
        half = "float16" if name == "two" else None
        metrics |= {"weights": None}  # rounding changes them
        bundle.bundle(vaezoo.save(models[name], tmp_path / name, metrics=metrics, dtype=half), name)
        models[name] = vaezoo.load(name)
    shutil.rmtree(package / BUNDLED)
    bundle.reindex()
    assert main(["push", "--all", "--owner", "us"]) == 0
    bundle.main(["--pin", "us"])
    assert [path.name for path in package.iterdir()] == ["index.json"] and vaezoo.list_models() == ["one", "two"]
    # A newer commit does not matter, an emptied cache neither.
    hub.publish("us/one", {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    for name, model in models.items():
        with pytest.raises(DownloadError, match="not in the cache"):
            vaezoo.load(name, local_files_only=True)
        loaded = vaezoo.load(name)
        assert same(loaded, model)
        assert loaded.config is not None and vaezoo.info(name)["commit"] == loaded.config["source"]["commit"]
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert all(same(vaezoo.load(name), model) for name, model in models.items()) and not hub.requests


def test_pin_refuses_another_model_and_keeps_the_bundled_one(hub: Hub, package: Path) -> None:
    model, metrics = evaluated_model()
    vaezoo.push(model, f"us/{BUNDLED}", metrics=metrics)
    with pytest.raises(CorruptWeightsError, match="another model"):
        bundle.main(["--pin", "us", BUNDLED])
    with pytest.raises(ConfigError, match="not a bundled model"):
        bundle.pin_published("us", ["nothing"])
    assert "repository" not in vaezoo.info(BUNDLED) and (package / BUNDLED / WEIGHTS).exists()


def test_variant_finds_its_compositions() -> None:
    assert {"code-prior-mnist", "vq-vae-mnist"} <= set(vaezoo.list_models(variant="vq-vae"))
    assert vaezoo.list_models(variant="code-prior+vq-vae") == ["code-prior-mnist", "vq-gan-emoji", "vq-vae-emoji"]


def test_list_and_show_include_a_pinned_model(
    pinned: Pinned, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = pinned[1]
    assert vaezoo.list_models() == sorted([NAME, BUNDLED]) and vaezoo.list_models("*digits", variant="vae") == [NAME]
    facts = vaezoo.info(NAME)
    assert f"hf:{facts['repository']}@{facts['commit']}" == place
    files = facts["files"]
    assert isinstance(files, dict) and set(files) == {CONFIG, WEIGHTS, METRICS, CARD}
    assert main(["list"]) == 0 and main(["show", NAME]) == 0
    output = capsys.readouterr().out
    assert output.count(NAME) == 2 and place in output and "log-evidence (K = 5)" in output
    before = json.loads((package / "index.json").read_text())
    bundle.reindex()
    assert json.loads((package / "index.json").read_text()) == before
    assert before["models"][BUNDLED] == json.loads((PACKAGE_FOLDER / "index.json").read_text())["models"][BUNDLED]


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, METRICS, CARD])
def test_damaged_copy_is_fetched_once_more(hub: Hub, pinned: Pinned, file: str) -> None:
    vaezoo.load(NAME)
    flip(in_cache(file))
    with pytest.raises(CorruptWeightsError):
        vaezoo.load(NAME, local_files_only=True)
    hub.elsewhere.clear()
    assert same(vaezoo.load(NAME), pinned[0])
    assert len(hub.elsewhere) == 1
    hub.requests.clear()
    assert same(vaezoo.load(NAME), pinned[0]) and not hub.requests


def test_other_files_than_the_indexed_ones_are_refused(hub: Hub, pinned: Pinned, tmp_path: Path) -> None:
    """Another valid model under the pinned commit is refused, since the index has the hashes."""
    commit = pinned[1].partition("@")[2]
    files = hub.repositories["them/tiny"].commits[commit]
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=2, backbone={"name": "mlp", "hidden": [5]})
    other, good = vaezoo.save(model, tmp_path / "other"), dict(files)
    files |= {name: (other / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    hub.large[sha256(files[WEIGHTS])] = files[WEIGHTS]
    for _ in range(2):
        with pytest.raises(CorruptWeightsError, match="the index of pretrained models has"):
            vaezoo.load(NAME)
    files.update(good)
    assert same(vaezoo.load(NAME), pinned[0])


def test_deleted_repository_is_one_clear_error(hub: Hub, pinned: Pinned) -> None:
    with pytest.raises(DownloadError, match="not in the cache"):
        vaezoo.load(NAME, local_files_only=True)
    hub.repositories.clear()
    with pytest.raises(DownloadError, match=r"hf:them/tiny@[0-9a-f]{40} could not be fetched"):
        vaezoo.load(NAME)
    with pytest.raises(ConfigError, match="only hf:owner/name has revisions"):
        vaezoo.load(NAME, revision="main")


def test_pin_needs_a_commit_with_metrics_and_a_free_name(hub: Hub, pinned: Pinned, tiny: Pinned) -> None:
    place = pinned[1]
    for where, name in (("hf:them/tiny", "new"), (place, BUNDLED), (place, "../new"), (place, "a/b"), (place, "")):
        with pytest.raises(ConfigError):
            bundle.pin(where, name)
    with pytest.raises(ConfigError, match="figures"):
        bundle.pin(f"hf:them/tiny@{tiny[1]}", "new")
    assert vaezoo.list_models() == sorted([NAME, BUNDLED])


def test_push_needs_names_or_all(hub: Hub, pinned: Pinned, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "--all", "--owner", "us", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"hf:us/{BUNDLED} would have these files:\n") and out.count("would have these files") == 1
    for wrong in ([], [BUNDLED, "--all"]):
        assert main(["push", *wrong, "--owner", "us"]) == 1
        assert "NAME…, or --all" in capsys.readouterr().err
    assert set(hub.repositories) == {"them/tiny"}


# Pull, verify, cache


def test_pull_downloads_verifies_and_copies(
    hub: Hub, pinned: Pinned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", NAME, "--to", str(tmp_path / "copy")]) == 0
    assert str(tmp_path / "copy") in capsys.readouterr().out
    hub.requests.clear()
    assert same(vaezoo.load(NAME), pinned[0]) and not hub.requests
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {CONFIG, WEIGHTS, METRICS, CARD}
    assert same(vaezoo.load(tmp_path / "copy"), pinned[0])
    assert pull(BUNDLED).name == BUNDLED and not hub.requests
    assert main(["pull", "hf:them/tiny", "--revision", "main"]) == 0
    assert main(["pull", "nothing"]) == 1
    assert "Unknown pretrained model" in capsys.readouterr().err


def test_verify_lists_damaged_models(
    hub: Hub, pinned: Pinned, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vaezoo.load(NAME)
    others = Path(constants.HF_HUB_CACHE) / "models--they--bert" / "snapshots" / ("0" * 40)
    others.mkdir(parents=True)
    (others / CONFIG).write_text('{"architectures": []}')
    assert main(["verify"]) == 0
    output = capsys.readouterr().out
    assert f"whole   {BUNDLED}" in output and f"whole   {pinned[1]}" in output and "2 models are whole" in output
    assert "bert" not in output
    for file in (CONFIG, WEIGHTS, METRICS, CARD):
        flip(in_cache(file))
        assert main(["verify"]) == 1
        streams = capsys.readouterr()
        assert f"damaged {pinned[1]}" in streams.out and f"whole   {BUNDLED}" in streams.out
        assert "1 of 2 models are damaged" in streams.err and file in streams.err
        flip(in_cache(file))
    in_cache(WEIGHTS).resolve().unlink()
    with pytest.raises(CorruptWeightsError, match="cannot be read"):
        verify()
    pull(NAME)
    assert verify() == 2
    flip(package / BUNDLED / WEIGHTS)
    with pytest.raises(CorruptWeightsError, match=f"{BUNDLED}: .*SHA-256"):
        verify()


def test_cache_is_listed_and_emptied(hub: Hub, pinned: Pinned, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_cached() == [] and main(["cache"]) == 0
    vaezoo.load(NAME)
    (copy,) = list_cached()
    assert str(copy) == pinned[1]
    files = hub.repositories["them/tiny"].commits[copy.commit]
    assert copy.size == sum(len(data) for file, data in files.items() if file != "samples.png")
    assert main(["cache"]) == 0
    assert pinned[1] in capsys.readouterr().out
    for wrong in ("hf:them/other", "hf:them/tiny@" + "0" * 40):
        with pytest.raises(UnknownNameError):
            remove(wrong)
    with pytest.raises(ConfigError, match="comes with the package"):
        remove(BUNDLED)
    assert main(["cache", "--remove", NAME]) == 0
    assert pinned[1] not in capsys.readouterr().out
    assert list_cached() == [] and not list(Path(constants.HF_HUB_CACHE).rglob("*.safetensors"))
    assert same(vaezoo.load(NAME), pinned[0])
