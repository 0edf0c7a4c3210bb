"""Loading from the Hub and publishing there, with the unmodified client and a local server."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import TestCase

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from support.hub_server import Hub, flip, same

import vaezoo
from vaezoo import pictures
from vaezoo.cli import main
from vaezoo.errors import ConfigError, CorruptWeightsError, DownloadError
from vaezoo.recipe import OF_A_RUN, read_recipe
from vaezoo.storage.config import CONFIG
from vaezoo.storage.figures import METRICS
from vaezoo.storage.model_folder import CARD, WEIGHTS
from vaezoo.workflows.load import pull
from vaezoo.zoo.index import PACKAGE_FOLDER

EVERY = [pytest.param(name, marks=() if name == "cvae-mnist" else pytest.mark.full) for name in vaezoo.list_models()]
FILES = (CONFIG, WEIGHTS, METRICS)
Tiny = tuple[vaezoo.VAE, str]


@pytest.fixture(autouse=True)
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.name != "test_card_has_the_metadata_of_the_hub":
        monkeypatch.setattr(pictures, "samples", lambda model, count, path, *_: path.write_bytes(b"picture"))


# Publishing


@pytest.mark.parametrize("name", EVERY)
def test_published_model_loads_unchanged(hub: Hub, name: str) -> None:
    place = vaezoo.push(name, f"them/{name}")
    repository = hub.repositories[f"them/{name}"]
    assert len(repository.commits) == 1 and place == f"hf:them/{name}@{repository.names['main']}"
    files = repository.commits[repository.names["main"]]
    assert set(files) == {*FILES, CARD, OF_A_RUN, "samples.png", "reconstructions.png"}
    assert read_recipe(json.loads(files[OF_A_RUN])).digest == read_recipe(name).digest
    for file in FILES:
        assert files[file] == (PACKAGE_FOLDER / name / file).read_bytes()
    assert same(vaezoo.load(place), vaezoo.load(name))
    sent = [request for request in hub.requests if re.search("/(commit|preupload|revision|resolve)/", request.path)]
    assert len(sent) > 3 and all(request.agent.startswith("vaezoo/") for request in sent)


def test_card_has_the_metadata_of_the_hub(hub: Hub) -> None:
    vaezoo.push("vae-mnist", "them/vae-mnist", commit_message="Better")
    repository = hub.repositories["them/vae-mnist"]
    assert repository.messages == ["Better"]
    files = repository.commits[repository.names["main"]]
    assert files["samples.png"].startswith(b"\x89PNG")
    card = huggingface_hub.ModelCard(files[CARD].decode())
    assert card.data.library_name == "vaezoo" and "vae" in card.data.tags and card.data.datasets == ["ylecun/mnist"]
    figures = {result.metric_name: result.metric_value for result in card.data.eval_results}
    metrics = json.loads((PACKAGE_FOLDER / "vae-mnist" / METRICS).read_bytes())
    assert figures["log-evidence (nats, K = 5000)"] == pytest.approx(metrics["log_evidence"]["mean"], abs=1e-3)
    assert card.text.count("# vae-mnist") == 1 and "![Samples of the prior, seed 0](samples.png)" in card.text
    assert "![Test images and their reconstructions](reconstructions.png)" in card.text
    texts = ('vaezoo.load("hf:them/vae-mnist")', "vaezoo train vae-mnist", "CC BY-SA 3.0;", "```bibtex")
    assert all(text in card.text for text in texts)


def test_model_in_memory_is_published_with_its_metrics(hub: Hub, tiny: Tiny) -> None:
    model = tiny[0]
    with pytest.raises(ConfigError, match="no figures"):
        vaezoo.push(model, "them/mine")
    assert "them/mine" not in hub.repositories
    figures = vaezoo.evaluate(model, "digits", samples=5).as_dict()
    place = vaezoo.push(model, "them/mine", metrics=figures, revision="next")
    assert hub.repositories["them/mine"].names["next"] in place
    assert same(vaezoo.load("hf:them/mine", revision="next"), model)


def test_invalid_model_or_repository_is_refused_without_a_request(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected hf:owner/name"):
        vaezoo.push("vae-mnist", "mine")
    with pytest.raises(ConfigError, match=r"'a/b@main'; expected owner/name \(and the branch as revision=…\)"):
        vaezoo.push("vae-mnist", "a/b@main")
    by_hand = vaezoo.load("vae-mnist")
    with pytest.raises(ConfigError, match="changed by hand"):
        vaezoo.push(by_hand.replace(prior=by_hand.prior), "them/mine", metrics={"bound": 1.0})
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in FILES:
        (folder / file).write_bytes((PACKAGE_FOLDER / "vae-mnist" / file).read_bytes()[:-1])
    with pytest.raises(CorruptWeightsError):
        vaezoo.push(folder, "them/mine")
    assert vaezoo.push("vae-mnist", "them/mine", dry_run=True) == "hf:them/mine"
    assert not hub.requests


def test_publishing_with_a_wrong_token_is_one_clear_error(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    for token in ("wrong", None):
        with pytest.raises(DownloadError, match="hf:them/mine could not be published"):
            vaezoo.push("vae-mnist", "them/mine", token=token)
    assert not hub.repositories


def test_push_command_publishes_several_models(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["push", "vae-mnist", "vq-vae-mnist", "--owner", "them"]
    assert main([*command, "--dry-run"]) == 0 and not hub.repositories
    assert main([*command, "--private"]) == 0
    assert sorted(hub.repositories) == ["them/vae-mnist", "them/vq-vae-mnist"]
    output = capsys.readouterr().out
    assert all(each.private and each.names["main"] in output for each in hub.repositories.values())


def test_new_weights_replace_old_shards_on_the_hub(hub: Hub, tiny: Tiny, tmp_path: Path) -> None:
    model = tiny[0]
    figures = vaezoo.evaluate(model, "digits", samples=5).as_dict()
    vaezoo.save(model, tmp_path / "large", shard_size=100_000, metrics=figures)
    place = vaezoo.push(tmp_path / "large", "them/large")
    repository = hub.repositories["them/large"]
    weights = {file for file in repository.commits[repository.names["main"]] if file.endswith(".safetensors")}
    assert len(weights) > 2 and weights == {path.name for path in (tmp_path / "large").glob("*.safetensors")}
    assert same(vaezoo.load(place), model)
    hub.requests.clear()
    assert same(vaezoo.load(place), model) and not hub.requests
    copied = pull("hf:them/large", to=tmp_path / "copy")
    for path in copied.glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "large" / path.name).read_bytes()
    assert same(vaezoo.load(copied), model)
    vaezoo.push(model, "them/large", metrics=figures)
    weights = {file for file in repository.commits[repository.names["main"]] if file.endswith(".safetensors")}
    assert weights == {WEIGHTS}
    assert same(vaezoo.load("hf:them/large"), model) and same(vaezoo.load(place), model)


# Loading


def test_cached_commit_needs_no_request(hub: Hub, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model, commit = tiny
    assert same(vaezoo.load(f"hf:them/tiny@{commit}"), model)
    hub.requests.clear()
    hub.elsewhere.clear()
    assert same(vaezoo.load(f"hf:them/tiny@{commit}"), model)
    assert same(vaezoo.load("hf:them/tiny", revision=commit, local_files_only=True), model)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(vaezoo.load(f"hf:them/tiny@{commit}"), model)
    assert not hub.requests and not hub.elsewhere
    for name in ("hf:them/other", "hf:them/tiny@v2"):
        with pytest.raises(DownloadError, match="could not be fetched"):
            vaezoo.load(name)


def test_branch_is_resolved_logged_and_recorded(hub: Hub, tiny: Tiny) -> None:
    model, commit = tiny
    with TestCase().assertLogs("vaezoo", "INFO") as logs:
        loaded = vaezoo.load("hf:them/tiny", dtype=torch.float64)
    assert f"hf:them/tiny@{commit}" in "".join(logs.output)
    assert loaded.config is not None and loaded.config["source"] == {"repository": "them/tiny", "commit": commit}
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float64}
    newer = vaezoo.create("vae", shape=(1, 8, 8), latent=3)
    folder = vaezoo.save(newer, Path(constants.HF_HUB_CACHE) / "newer")
    other = hub.publish("them/tiny", {path.name: path.read_bytes() for path in folder.iterdir()})
    assert same(vaezoo.load("hf:them/tiny"), newer) and same(vaezoo.load(f"hf:them/tiny@{commit}"), model)
    assert same(vaezoo.load("hf:them/tiny", revision=other), newer)


def test_token_is_sent_to_the_hub_only(hub: Hub, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["them/tiny"].private = True
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DownloadError, match="needs a token"):
        vaezoo.load("hf:them/tiny")
    with pytest.raises(DownloadError):
        vaezoo.load("hf:them/tiny", token="wrong")
    hub.requests.clear()
    assert same(vaezoo.load("hf:them/tiny", token="secret"), tiny[0])
    assert {request.token for request in hub.requests} == {"secret"}
    assert hub.elsewhere and {request.token for request in hub.elsewhere} == {None}


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_damaged_cached_file_is_fetched_once_more(hub: Hub, tiny: Tiny, file: str) -> None:
    model, commit = tiny
    vaezoo.load("hf:them/tiny")
    (cached,) = Path(constants.HF_HUB_CACHE).glob(f"models--them--tiny/snapshots/{commit}/{file}")
    flip(cached)
    with pytest.raises(CorruptWeightsError):
        vaezoo.load("hf:them/tiny", local_files_only=True)
    with TestCase().assertLogs("vaezoo", "INFO") as logs:
        assert same(vaezoo.load(f"hf:them/tiny@{commit}"), model)
    assert "".join(logs.output).count("is fetched once more") == 1
    hub.requests.clear()
    assert same(vaezoo.load(f"hf:them/tiny@{commit}"), model) and not hub.requests


def test_damaged_file_on_the_hub_is_refused(hub: Hub, tiny: Tiny) -> None:
    model, commit = tiny
    good = hub.repositories["them/tiny"].commits[commit][WEIGHTS]
    name = next(name for name, data in hub.large.items() if data == good)
    hub.large[name] = good[:-4] + bytes(4)  # not the bytes of the commit
    for place in ("hf:them/tiny", "hf:them/tiny", f"hf:them/tiny@{commit}", f"hf:them/tiny@{commit}"):
        hub.elsewhere.clear()
        with pytest.raises(CorruptWeightsError, match="SHA-256"):
            vaezoo.load(place)
        assert hub.elsewhere
    hub.large[name] = good
    assert same(vaezoo.load(f"hf:them/tiny@{commit}"), model)


def test_invalid_name_revision_or_dtype_is_refused(hub: Hub) -> None:
    for name, revision in (("hf:a/b/c", None), ("hf:a/b@..", None), ("hf:a/b@", None), ("hf:a/b@one", "two")):
        with pytest.raises(ConfigError, match="expected hf:owner/name"):
            vaezoo.load(name, revision=revision)
    with pytest.raises(ConfigError, match="only hf:owner/name has revisions"):
        vaezoo.load("vae-mnist", revision="main")
    with pytest.raises(ConfigError, match="floating"):
        vaezoo.load("vae-mnist", dtype=torch.int64)
    assert not hub.requests


@pytest.mark.full
def test_new_process_uses_the_environment_variables(hub: Hub, tiny: Tiny, tmp_path: Path) -> None:
    script = "import sys, vaezoo; print(*vaezoo.load(sys.argv[1]).sample(1, seed=0).flatten()[:3].tolist())"
    changes = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment = {**os.environ, **changes, "HF_TOKEN": "secret"}
    command = [sys.executable, "-c", script, "hf:them/tiny"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    expected = tiny[0].sample(1, seed=0).flatten()[:3].tolist()
    assert [float(value) for value in done.stdout.split()] == pytest.approx(expected)
    assert list((tmp_path / "home").rglob(WEIGHTS))
    assert {request.token for request in hub.requests if request.path.startswith("/api/models/")} == {"secret"}
