"""Saved models give equal outputs, bundled models are those of the index, and names are resolved."""

import math

import pytest
import torch
from support.cases import NAMES, Case
from support.mutations import config_of, write_config

import vaezoo
from vaezoo.data import bundled_images, datasets
from vaezoo.data.bundled import BUNDLED
from vaezoo.errors import CheckpointError, ConfigError, CorruptWeightsError, UnknownNameError
from vaezoo.evaluation import test_sets
from vaezoo.evaluation.batches import context_of
from vaezoo.registry import resolve
from vaezoo.storage.config import read_config
from vaezoo.storage.json_files import sha256
from vaezoo.storage.model_card import licence_of, model_card
from vaezoo.storage.model_folder import published_state, read_metrics
from vaezoo.workflows.listing import models
from vaezoo.zoo.index import PACKAGE_FOLDER, read_index

DAILY = ("vae", "cvae", "cvae+iwae", "vq-vae+code-prior", "m2-vae", "factor-vae", "top-down-vae", "s-vae", "vade")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in DAILY else [pytest.mark.full]) for name in NAMES]
)
def test_loaded_model_gives_equal_outputs(name, tmp_path):
    case = Case(name, context=10 * any(entry.context != "optional" for entry in resolve(name)))
    model = case.build().eval()
    x, c = case.inputs(6)
    loaded = vaezoo.load(vaezoo.save(model, tmp_path / "model"))
    assert not loaded.training and loaded.config["variant"] == name
    assert torch.equal(model.reconstruct(x, c), loaded.reconstruct(x, c))
    assert torch.equal(model.sample(6, c, seed=5), loaded.sample(6, c, seed=5))
    for term in ("distortion", "rate", "bound"):
        torch.manual_seed(3)
        expected = getattr(model(x, c), term)
        torch.manual_seed(3)
        assert torch.equal(expected, getattr(loaded(x, c), term)), term


def test_critics_are_not_published(tmp_path):
    model = Case("factor-vae").build()
    assert any("critic" in key for key in model.state_dict())
    assert not any("critic" in key for key in published_state(model))
    loaded = vaezoo.load(vaezoo.save(model, tmp_path / "model"))
    assert set(loaded(torch.rand(2, 1, 8, 8).round()).losses) == {"model"}


def test_a_loaded_model_can_be_trained_and_saving_and_loading_refuse_what_does_not_fit(tmp_path):
    model = Case("vae").build()
    folder, before = vaezoo.save(model, tmp_path / "model"), torch.get_rng_state()
    loaded = vaezoo.load(folder).train()
    assert torch.equal(before, torch.get_rng_state())
    loaded(torch.rand(4, 1, 8, 8).round()).losses["model"].mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in loaded.parameters())
    with pytest.raises(ConfigError, match="Register"):
        vaezoo.save(model.replace(objective=model.objective), tmp_path / "x")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="file"):
        vaezoo.save(model, tmp_path / "file" / "model")
    config = config_of(folder)
    write_config(folder, {**config, "architecture": {**config["architecture"], "latent": [17]}})
    with pytest.raises(CorruptWeightsError, match="Different: decoder"):
        vaezoo.load(folder)


def test_names_are_listed_and_an_unknown_one_is_an_error_with_close_names(tmp_path):
    for name, words in (("beta-vae-minst", "beta-vae-mnist"), (tmp_path, "config.json"), ("no/such\0folder", "folder")):
        with pytest.raises(UnknownNameError, match=words):
            vaezoo.load(name)
    with pytest.raises(UnknownNameError, match="Did you mean"):
        vaezoo.info("beta-vae-mnits")
    assert vaezoo.list_models("*-mnist", variant="beta-vae") == ["beta-vae-mnist"]
    assert vaezoo.info("beta-vae-mnist")["variant"] == "beta-vae"
    assert vaezoo.list_variants("vq-vae*") == ["vq-vae", "vq-vae-2"]


@pytest.mark.parametrize("name", sorted(read_index()))
def test_bundled_model_is_that_of_the_index(name):
    facts, folder = read_index()[name], PACKAGE_FOLDER / name
    for file, known in facts["files"].items():
        data = (folder / file).read_bytes()
        assert (len(data), sha256(data)) == (known["size"], known["sha256"])
    assert read_metrics(folder) == facts["metrics"]
    assert (folder / "README.md").read_text() == model_card(name, read_config(folder), facts["metrics"])
    model, metrics = vaezoo.load(name), facts["metrics"]
    assert model.config["variant"] == facts["variant"]
    assert model.config["recipe"] == {"name": name, "digest": vaezoo.read_recipe(name).digest}
    images = model.sample(4, c=0 if model.context else None, seed=0)
    assert images.shape == (4, *model.shape) and torch.isfinite(images).all()
    if metrics["data"] not in BUNDLED:
        return
    # With other weights, figures of the bundled images would differ from those of the whole test set by more.
    test = test_sets.test_set(model, bundled_images(metrics["data"]))
    with torch.no_grad():
        elbo = model(test.batch(torch.arange(len(test))), context_of(model, test))
    scale = 4.0 * math.sqrt(metrics["examples"] / len(test))  # of the recorded standard errors
    for key in ("distortion" if metrics["bound"]["mean"] is None else "bound", "rate"):
        mean, error = metrics[key]["mean"], metrics[key]["error"]
        assert getattr(elbo, key).mean().item() == pytest.approx(mean, abs=scale * error + 1e-3), key


def test_card_takes_the_license_from_the_data_set():
    assert licence_of("fashion-mnist") == "Fashion-MNIST: Zalando SE, MIT"
    assert licence_of("digits") == vaezoo.load_dataset("digits").licence != ""
    assert licence_of("mnist") == bundled_images().licence != ""
    assert all(licence_of(name) for name in datasets.names())
    every = licence_of("emoji")
    assert all(
        words in every for words in ("Google, Apache-2.0", "Twitter and contributors, CC BY 4.0", "Microsoft, MIT")
    )
    assert licence_of("emoji:32,google") == "Emoji: Noto Emoji: Google, Apache-2.0"
    assert licence_of("dsprites").startswith("dSprites: drawn by vaezoo") and licence_of("mnist:google") == ""
    assert licence_of("folder:somewhere") == licence_of("mnist\0") == ""


def test_tables_of_models_have_figures_of_one_kind() -> None:
    tables = {table.title: [row[0] for row in table.rows] for table in models()}
    assert tables["Probabilities given c: binarized images, 1 × 28 × 28"] == ["cvae-mnist"]
    assert tables["Densities: gray images, 1 × 32 × 32"] == ["grouped-vq-vae-mnist32", "vq-vae-mnist32"]
    assert "m2-vae-mnist" in tables["Probabilities: binarized images, 1 × 28 × 28"]  # infers the class
    assert "sigma-vae-mnist" in tables["Densities: gray images, 1 × 28 × 28"]
    assert "kl-autoencoder-emoji" in tables["Densities: color images, 3 × 64 × 64"]
    assert tables["Probabilities: color images, 3 × 64 × 64"] == ["conv-vae-emoji"]
    assert sorted(name for names in tables.values() for name in names) == sorted(read_index())
