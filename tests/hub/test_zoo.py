"""Pretrained models that do not come with the package, and the commands pull, verify and cache."""

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
from vaezoo.storage.documents import sha256
from vaezoo.storage.model_folder import CARD, METRICS, WEIGHTS
from vaezoo.workflows import bundle
from vaezoo.workflows import publish as publishing
from vaezoo.workflows.load import pull
from vaezoo.zoo import index
from vaezoo.zoo.index import PACKAGE_FOLDER, read_index

BUNDLED, NAME = "vq-vae-mnist", "tiny-digits"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package room with one bundled model, whose index the test may change."""
    place = tmp_path / "room"
    shutil.copytree(PACKAGE_FOLDER / BUNDLED, place / BUNDLED)
    for module in (index, bundle):
        monkeypatch.setattr(module, "ROOM", place)
    read_index.cache_clear()
    bundle.reindex()
    yield place
    read_index.cache_clear()


@pytest.fixture
def pinned(hub: Hub, room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[vaezoo.VAE, str]:
    """A published model that the index pins, with an empty cache; the model, and where it is."""
    # Real pictures take longest, and are tested elsewhere.
    monkeypatch.setattr(publishing, "draw_samples", lambda model, path: path.write_bytes(b"a picture") > 0)
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=2)
    model.config = {**(model.config or {}), "data": {"name": "digits", "binarize": "dynamic", "digest": None}}
    figures = vaezoo.evaluate(model, "digits", samples=5).as_dict()
    place = vaezoo.push(model, "them/tiny", metrics=figures, commit_message="First")
    bundle.pin(place, NAME)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    for log in (hub.requests, hub.elsewhere):
        log.clear()
    return model, place


def in_cache(file: str) -> Path:
    (found,) = Path(constants.HF_HUB_CACHE).glob(f"models--them--tiny/snapshots/*/{file}")
    return found


def test_a_pinned_model_is_fetched_once_and_then_asked_for_no_more(
    hub: Hub, pinned: tuple[vaezoo.VAE, str], monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_pinned_model_stays_what_it_was_when_the_branch_moves_on(
    hub: Hub, pinned: tuple[vaezoo.VAE, str], tmp_path: Path
) -> None:
    newer = vaezoo.save(vaezoo.create("vae", shape=(1, 8, 8), latent=3), tmp_path / "newer")
    hub.publish("them/tiny", {path.name: path.read_bytes() for path in newer.iterdir()})
    assert same(vaezoo.load(NAME), pinned[0])


def test_lists_and_info_show_it(pinned: tuple[vaezoo.VAE, str], room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = pinned[1]
    assert vaezoo.list_models() == sorted([NAME, BUNDLED]) and vaezoo.list_models("*digits", variant="vae") == [NAME]
    facts = vaezoo.info(NAME)
    assert f"hf:{facts['repository']}@{facts['commit']}" == place
    files = facts["files"]
    assert isinstance(files, dict) and set(files) == {CONFIG, WEIGHTS, METRICS, CARD}
    assert main(["list"]) == 0 and main(["show", NAME]) == 0
    said = capsys.readouterr().out
    assert said.count(NAME) == 2 and place in said and "log-evidence (K = 5)" in said
    before = json.loads((room / "index.json").read_text())
    bundle.reindex()
    assert json.loads((room / "index.json").read_text()) == before
    assert before["models"][BUNDLED] == json.loads((PACKAGE_FOLDER / "index.json").read_text())["models"][BUNDLED]


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, METRICS, CARD])
def test_a_damaged_copy_is_fetched_once_more(hub: Hub, pinned: tuple[vaezoo.VAE, str], file: str) -> None:
    vaezoo.load(NAME)
    flip(in_cache(file))
    with pytest.raises(CorruptWeightsError):
        vaezoo.load(NAME, local_files_only=True)
    hub.elsewhere.clear()
    assert same(vaezoo.load(NAME), pinned[0])
    assert len(hub.elsewhere) == 1
    hub.requests.clear()
    assert same(vaezoo.load(NAME), pinned[0]) and not hub.requests


def test_a_repository_that_gives_other_files_is_refused(
    hub: Hub, pinned: tuple[vaezoo.VAE, str], tmp_path: Path
) -> None:
    """The commit's name is the Hub's word alone: another whole, valid model under it is not what was pinned."""
    commit = pinned[1].partition("@")[2]
    files = hub.repositories["them/tiny"].commits[commit]
    other = vaezoo.save(
        vaezoo.create("vae", shape=(1, 8, 8), latent=2, backbone={"name": "mlp", "hidden": [5]}), tmp_path / "other"
    )
    good = dict(files)
    files |= {name: (other / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    hub.large[sha256(files[WEIGHTS])] = files[WEIGHTS]
    for _ in range(2):
        with pytest.raises(CorruptWeightsError, match="the index of pretrained models says"):
            vaezoo.load(NAME)
    files.update(good)
    assert same(vaezoo.load(NAME), pinned[0])


def test_what_the_hub_no_longer_has_is_one_clear_error(hub: Hub, pinned: tuple[vaezoo.VAE, str]) -> None:
    with pytest.raises(DownloadError, match="not in the cache"):
        vaezoo.load(NAME, local_files_only=True)
    hub.repositories.clear()
    with pytest.raises(DownloadError, match=r"hf:them/tiny@[0-9a-f]{40} could not be fetched"):
        vaezoo.load(NAME)
    with pytest.raises(ConfigError, match="only hf:owner/name has revisions"):
        vaezoo.load(NAME, revision="main")


def test_only_a_commit_with_figures_and_a_free_name_is_pinned(
    hub: Hub, pinned: tuple[vaezoo.VAE, str], tiny: tuple[vaezoo.VAE, str]
) -> None:
    place = pinned[1]
    for where, name in (("hf:them/tiny", "new"), (place, BUNDLED), (place, "../new"), (place, "a/b"), (place, "")):
        with pytest.raises(ConfigError):
            bundle.pin(where, name)
    with pytest.raises(ConfigError, match="figures"):
        bundle.pin(f"hf:them/tiny@{tiny[1]}", "new")
    assert vaezoo.list_models() == sorted([NAME, BUNDLED])


def test_the_command_publishes_all_that_is_bundled(
    hub: Hub, pinned: tuple[vaezoo.VAE, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", "--all", "--owner", "us", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"{BUNDLED}: would be hf:us/{BUNDLED}\n"
    for wrong in ([], [BUNDLED, "--all"]):
        assert main(["push", *wrong, "--owner", "us"]) == 1
        assert "NAME…, or --all" in capsys.readouterr().err
    assert set(hub.repositories) == {"them/tiny"}


# Pull, verify, cache


def test_pull_fetches_checks_and_copies(
    hub: Hub, pinned: tuple[vaezoo.VAE, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
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


def test_verify_lists_what_is_damaged(
    hub: Hub, pinned: tuple[vaezoo.VAE, str], room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vaezoo.load(NAME)
    others = Path(constants.HF_HUB_CACHE) / "models--they--bert" / "snapshots" / ("0" * 40)
    others.mkdir(parents=True)
    (others / CONFIG).write_text('{"architectures": []}')
    assert main(["verify"]) == 0
    said = capsys.readouterr().out
    assert f"whole   {BUNDLED}" in said and f"whole   {pinned[1]}" in said and "2 models are whole" in said
    assert "bert" not in said
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
    flip(room / BUNDLED / WEIGHTS)
    with pytest.raises(CorruptWeightsError, match=f"{BUNDLED}: .*SHA-256"):
        verify()


def test_the_cache_is_listed_and_emptied(
    hub: Hub, pinned: tuple[vaezoo.VAE, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert list_cached() == [] and main(["cache"]) == 0
    vaezoo.load(NAME)
    (copy,) = list_cached()
    assert str(copy) == pinned[1]
    assert copy.size == sum(len(data) for data in hub.repositories["them/tiny"].commits[copy.commit].values()) - len(
        hub.repositories["them/tiny"].commits[copy.commit]["samples.png"]
    )
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
