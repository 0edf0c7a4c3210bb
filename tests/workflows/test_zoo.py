"""Model folders, the bundled models, `train`, `compare`: real files."""

import json
import shutil
import signal
import zlib
from dataclasses import replace

import pytest
import torch

import vaezoo
from vaezoo.data import binarize, bundled_images, load_dataset, pad
from vaezoo.errors import (
    CheckpointError,
    ConfigError,
    CorruptWeightsError,
    InterruptedTrainingError,
    RecipeError,
    UnknownNameError,
)
from vaezoo.evaluation import Estimate, evidence
from vaezoo.evaluation.batches import context_of
from vaezoo.registry import resolve, variants, with_requirements
from vaezoo.storage.config import read_config
from vaezoo.storage.documents import canonical, sha256
from vaezoo.storage.model_card import licence_of, model_card
from vaezoo.storage.model_folder import drop_critics, published_state, read_metrics
from vaezoo.workflows.compare import Failure, check_variant, compare, expand, headings, measured_on, reference_of, table
from vaezoo.workflows.train import auto_folder
from vaezoo.zoo.index import PACKAGE_FOLDER, read_index

# Runs of a few steps leave latents empty, and say so.
pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")

SHAPE = (1, 8, 8)
TINY = {
    "variant": "vae",
    "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [16]}},
    "data": {"name": "digits", "binarize": "dynamic"},
    "train": {"steps": 20, "batch_size": 32},
}


def build(name):
    torch.manual_seed(1)
    needy = any(entry.context != "optional" for entry in resolve(name))
    return vaezoo.create(name, shape=SHAPE, context=10 * needy, examples=1000).eval()


@pytest.fixture
def folder(tmp_path):
    return vaezoo.save(build("vae"), tmp_path / "model")


@pytest.mark.parametrize("name", [*map(with_requirements, vaezoo.list_variants()), "cvae+iwae", "conv-vae+beta-vae"])
def test_save_and_load_give_equal_outputs_and_equal_bytes(name, tmp_path):
    model = build(name)
    model.decoder.likelihood.train(False)
    x, c = torch.rand(6, *SHAPE).round(), torch.arange(6) if model.context else None
    loaded = vaezoo.load(vaezoo.save(model, tmp_path / "one"))
    assert not loaded.training
    assert torch.equal(model.reconstruct(x, c), loaded.reconstruct(x, c))
    for part in ("distortion", "rate", "bound"):
        torch.manual_seed(3)
        expected = getattr(model(x, c), part)
        torch.manual_seed(3)
        assert torch.equal(expected, getattr(loaded(x, c), part)), part
    assert torch.equal(
        model.sample(3, c[:3] if c is not None else None, seed=5),
        loaded.sample(3, c[:3] if c is not None else None, seed=5),
    )
    again = vaezoo.save(loaded, tmp_path / "one")
    drop_critics(model)
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert loaded.config["variant"] == name


def test_critics_are_not_published(tmp_path):
    model = build("factor-vae")
    assert any("critic" in key for key in model.state_dict())
    assert not any("critic" in key for key in published_state(model))
    loaded = vaezoo.load(vaezoo.save(model, tmp_path / "game"))
    assert set(loaded(torch.rand(2, *SHAPE).round()).losses) == {"model"}


def test_loading_leaves_the_callers_random_state_alone(folder):
    before = torch.get_rng_state()
    vaezoo.load(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_a_loaded_model_can_be_trained_on(folder):
    model = vaezoo.load(folder).train()
    model(torch.rand(4, *SHAPE).round()).losses["model"].mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_model_changed_by_hand_is_not_saved(tmp_path):
    model = build("vae")
    with pytest.raises(ConfigError, match="Register"):
        vaezoo.save(model.replace(objective=model.objective), tmp_path / "x")


def test_every_flipped_bit_and_every_cut_of_the_weights_is_noticed(folder):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for position in [0, 7, 8, 9, *torch.randint(len(data), (60,), generator=generator).tolist()]:
        broken = bytearray(data)
        broken[position] ^= 1 << (position % 8)
        path.write_bytes(broken)
        with pytest.raises(CorruptWeightsError, match="claims a header" if position == 7 else "SHA-256"):
            vaezoo.load(folder)
    for length in (0, 7, 8, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptWeightsError, match=f"{length} bytes; expected {len(data)}"):
            vaezoo.load(folder)
    path.unlink()
    with pytest.raises(CorruptWeightsError, match="cannot be read"):
        vaezoo.load(folder)


def test_every_flipped_bit_of_the_config_is_noticed(folder):
    path = folder / "config.json"
    data = path.read_bytes()
    for position in range(0, len(data), 11):
        broken = bytearray(data)
        broken[position] ^= 1 << (position % 7)
        path.write_bytes(broken)
        with pytest.raises(vaezoo.VaezooError):
            vaezoo.load(folder)


def resign(folder, **changes):
    """Writes a config with a correct digest, as somebody who wants to deceive would."""
    config = json.loads((folder / "config.json").read_text())
    config |= changes
    rest = {key: value for key, value in config.items() if key != "digest"}
    (folder / "config.json").write_text(canonical({**rest, "digest": sha256(canonical(rest).encode())}))


def test_weights_of_another_model_are_refused_with_names_and_shapes(folder):
    config = json.loads((folder / "config.json").read_text())
    resign(folder, architecture={**config["architecture"], "latent": [17]})
    with pytest.raises(CorruptWeightsError, match="Different: decoder"):
        vaezoo.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"variant": "os.system"},
        {"variant": "../../etc/passwd"},
        {"format": 99},
        {"options": {"_target_": "os.system"}},
        {"options": []},
        {"architecture": {"shape": [1, 8, 8], "latent": [10**9]}},
        {"weights": "elsewhere.safetensors"},
        {"extra": 1},
    ],
)
def test_hostile_configs_are_refused(folder, changes):
    resign(folder, **changes)
    with pytest.raises(vaezoo.VaezooError):
        vaezoo.load(folder)


def test_nan_weights_are_refused(tmp_path):
    model = build("vae")
    with torch.no_grad():
        model.decoder.network.head.bias[3] = torch.nan
    with pytest.raises(CorruptWeightsError, match=r"NaN or infinite values in decoder.network.head.bias"):
        vaezoo.load(vaezoo.save(model, tmp_path / "nan"))


def test_unknown_names_come_with_close_ones(tmp_path):
    with pytest.raises(UnknownNameError, match="beta-vae-mnist"):
        vaezoo.load("beta-vae-minst")
    with pytest.raises(UnknownNameError, match=r"config.json"):
        vaezoo.load(tmp_path)
    with pytest.raises(UnknownNameError):
        vaezoo.load("no/such\0folder")


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="file"):
        vaezoo.save(build("vae"), tmp_path / "file" / "model")


# The bundled models


@pytest.mark.parametrize("name", sorted(read_index()))
def test_a_bundled_model_loads_and_is_what_its_index_says(name):
    facts = read_index()[name]
    for file, known in facts["files"].items():
        data = (PACKAGE_FOLDER / name / file).read_bytes()
        assert (len(data), sha256(data)) == (known["size"], known["sha256"])
    assert facts["files"]["model.safetensors"]["size"] < 8_000_000
    assert read_metrics(PACKAGE_FOLDER / name) == facts["metrics"]
    card = (PACKAGE_FOLDER / name / "README.md").read_text()
    assert card == model_card(name, read_config(PACKAGE_FOLDER / name), facts["metrics"])
    assert f"# {name}" in card and "library_name: vaezoo" in card
    model = vaezoo.load(name)
    assert model.config["variant"] == facts["variant"]
    recipe = vaezoo.read_recipe(name)
    assert model.config["recipe"] == {"name": name, "digest": recipe.digest}
    images = model.sample(4, c=0 if model.context else None, seed=0)
    side = 28 + 2 * int(model.config["data"].get("pad", 0))
    assert images.shape == (4, 1, side, side)
    assert torch.isfinite(images).all()


def test_all_bundled_models_fit_into_a_wheel():
    """An index of packages takes 100 MB a file: what comes beyond this is published on the Hub and pinned.

    A wheel is compressed: by how much is seen at the first megabyte of each file. Some 3 MB more are in the sdist:
    pictures, tests, code.
    """
    packed = 0.0
    for name, facts in read_index().items():
        for file, known in facts["files"].items():
            with (PACKAGE_FOLDER / name / file).open("rb") as opened:
                head = opened.read(2**20)
            packed += known["size"] * len(zlib.compress(head, 1)) / len(head)
    assert packed < 95_000_000


@pytest.mark.parametrize("name", [name for name, facts in read_index().items() if facts["metrics"]["data"] == "mnist"])
def test_a_bundled_model_knows_the_bundled_images(name):
    """Its figures on the first 64 test images are near those of the whole set: other weights would be noticed."""
    model, metrics = vaezoo.load(name), read_index()[name]["metrics"]
    images = binarize(pad(bundled_images(), model.config["data"].get("pad", 0)), model.config["data"]["binarize"])
    x, c = images.batch(torch.arange(64)), context_of(model, images)
    with torch.no_grad():
        elbo = model(x, c)
    figure = "distortion" if metrics["bound"]["mean"] is None else "bound"
    assert getattr(elbo, figure).mean().item() == pytest.approx(metrics[figure]["mean"], abs=12, rel=0.1)
    assert elbo.rate.mean().item() == pytest.approx(metrics["rate"]["mean"], rel=0.15)


def test_a_card_takes_the_licence_from_the_data_set_itself():
    assert licence_of("fashion-mnist") == "Fashion-MNIST: Zalando SE, MIT"
    assert licence_of("digits") == vaezoo.load_dataset("digits").licence != ""
    assert licence_of("mnist") == bundled_images().licence != ""
    assert licence_of("folder:somewhere") == licence_of("mnist\0") == ""


def test_a_damaged_bundle_is_noticed(tmp_path, monkeypatch):
    name = sorted(read_index())[0]
    shutil.copytree(PACKAGE_FOLDER / name, tmp_path / name)
    resign(tmp_path / name, vaezoo="0.0.0")
    monkeypatch.setattr("vaezoo.zoo.index.PACKAGE_FOLDER", tmp_path)
    with pytest.raises(CorruptWeightsError, match="index"):
        vaezoo.load(name)


def test_info_and_lists():
    assert vaezoo.list_models("*-mnist", variant="beta-vae") == ["beta-vae-mnist"]
    assert vaezoo.info("beta-vae-mnist")["variant"] == "beta-vae"
    assert vaezoo.list_variants("vq-*") == ["vq-vae", "vq-vae-2"]
    with pytest.raises(UnknownNameError, match="Did you mean"):
        vaezoo.info("beta-vae-mnits")


# Training by recipe


def test_train_writes_a_folder_that_loads_equal(tmp_path):
    run = vaezoo.train(TINY, out=tmp_path / "run", trackers=())
    x = torch.rand(3, *SHAPE).round()
    assert torch.equal(vaezoo.load(run.folder).reconstruct(x), run.model.reconstruct(x))
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 20
    assert not any("time" in key or "second" in key for line in lines for key in line)
    assert run.model.config["data"]["name"] == "digits"
    with pytest.raises(CheckpointError, match="already holds a run"):
        vaezoo.train(TINY, out=tmp_path / "run", trackers=())


def test_the_automatic_folder_is_a_free_one_or_the_last_one_to_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = vaezoo.read_recipe({**TINY, "train": {"steps": 4, "batch_size": 32}})
    folders = [vaezoo.train(recipe, trackers=()).folder.name for _ in range(3)]
    assert folders == ["vae", "vae-2", "vae-3"]
    assert auto_folder(recipe, resume=True).name == "vae-3"


def test_the_same_recipe_gives_the_same_bytes(tmp_path):
    one, two = (vaezoo.train(TINY, out=tmp_path / name, trackers=()).folder for name in "ab")
    other = vaezoo.train(TINY, out=tmp_path / "c", trackers=(), seed=1).folder
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, two, other)]
    assert weights[0] == weights[1] != weights[2]


def test_train_on_own_tensors_and_from_another_model(tmp_path):
    x, labels = torch.rand(64, *SHAPE).round(), torch.arange(64) % 4
    recipe = {**TINY, "variant": "cvae", "data": {"name": "digits", "context": True}}
    run = vaezoo.train(recipe, data=(x, labels), out=None, trackers=())
    assert run.model.context == 4
    assert run.folder is None
    start = vaezoo.train(TINY, out=tmp_path / "start", trackers=())
    tuned = vaezoo.train(
        {**TINY, "variant": "iwae", "options": {"samples": 3}, "init": str(start.folder)},
        out=None, trackers=(), steps=1, learning_rate=1e-9,
    )  # fmt: skip
    assert torch.allclose(tuned.model.reconstruct(x), start.model.reconstruct(x), atol=1e-4)
    with pytest.raises(ConfigError, match="does not fit"):
        vaezoo.train({**TINY, "init": str(start.folder)}, out=None, trackers=(), latent=3)


def test_a_context_that_the_data_lack_is_one_clear_error():
    with pytest.raises(RecipeError, match="labels"):
        vaezoo.train(
            {**TINY, "data": {"name": "x", "context": True}}, data=torch.rand(9, *SHAPE), out=None, trackers=()
        )


def test_compare_takes_names_folders_and_variants(tmp_path):
    run = vaezoo.train(TINY, out=tmp_path / "run", trackers=())
    rows = list(compare([str(run.folder), "beta-vae", "vq-vae"], data="digits", steps=10, seeds=2, samples=5, limit=50))
    assert [row.name for row in rows] == [str(run.folder), "beta-vae", "vq-vae"]
    assert [row.seeds for row in rows] == [1, 2, 2]
    assert all(len(line) == len(headings(rows)) for line in table(rows))
    assert rows[0].report.examples == 50
    with pytest.raises(UnknownNameError, match="beta-vae"):
        list(compare(["betavae"], data="digits"))
    with pytest.raises(UnknownNameError, match="digits"):
        list(compare(["beta-vae"], data="digts", steps=10))
    with pytest.raises(ConfigError, match="no model"):
        list(compare([], data="digits"))


def test_a_comparison_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    options = {"data": "digits", "steps": 10, "samples": 5, "limit": 50, "out": tmp_path}
    first = list(compare(["vae", "ae"], **options))
    runs = sorted(folder.name.rpartition("-")[0] for folder in tmp_path.iterdir())
    assert runs == ["ae", "vae"] and not list(tmp_path.glob("*/checkpoints"))
    shutil.rmtree(next(tmp_path.glob("ae-*")))
    begun = []
    monkeypatch.setattr(
        "vaezoo.workflows.compare.train", lambda recipe, **given: begun.append(vaezoo.train(recipe, **given))
    )
    again = list(compare(["vae", "ae"], **options))
    assert [run.recipe.variant for run in begun] == ["ae"]
    assert [row.report for row in again] == [row.report for row in first]
    assert list(compare(["vae"], **{**options, "steps": 11})) and len(begun) == 2  # another recipe, another run


@pytest.mark.parametrize("kept", [True, False])
def test_a_comparison_that_is_stopped_says_how_to_go_on(kept, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise InterruptedTrainingError("at step 3; repeat with --resume", signal.SIGTERM)

    monkeypatch.setattr("vaezoo.workflows.compare.train", stopped)
    said = "the same call continues" if kept else r"use out \(--out\)"
    with pytest.raises(InterruptedTrainingError, match=f"Stopped at ae, 1 of 2; {said}") as caught:
        list(compare(["ae", "vae"], data="digits", out=tmp_path if kept else None))
    assert caught.value.exit_status == 143 and "--resume" not in str(caught.value)


def test_all_are_names_that_can_be_built():
    names = expand(["vae-mnist", "all"])
    assert names[0] == "vae-mnist" and len(names) == 1 + len(variants.names()) and "vq-vae+code-prior" in names
    for name in names[1:]:
        check_variant(name)


def test_compare_says_how_far_evidences_are_apart_on_the_same_images(tmp_path):
    folders = [vaezoo.train(TINY, out=tmp_path / name, trackers=(), seed=k).folder for k, name in enumerate("ab")]
    rows = list(compare([*map(str, folders), "vq-vae"], data="digits", steps=5, samples=20, limit=60))
    test = binarize(load_dataset("digits", "test"), "dynamic").subset(range(60))
    each = [evidence(vaezoo.load(folder), test, 20) for folder in folders]
    difference = (each[1] - each[0]).double()
    found = rows[1].above(rows[0])
    assert found.mean == pytest.approx(difference.mean().item(), abs=1e-5)
    assert found.error == pytest.approx(difference.std().item() / 60**0.5, abs=1e-5)
    assert found.error < rows[1].report.log_evidence.error
    assert rows[2].above(rows[0]).mean is None  # grey images are other images
    assert "K = 20" in measured_on(rows)
    column = [line[headings(rows).index(f"above {rows[0].name}")] for line in table(rows)]
    assert column == ["", f"{found.mean:.2f} ± {found.error:.2f}", "–"]
    renamed = [rows[0], replace(rows[1], name="vae"), rows[2]]
    assert reference_of(renamed) is renamed[1]
    assert "above vae" in headings(renamed)


@pytest.fixture
def needy():
    """Registers a variant that nothing satisfies."""

    @vaezoo.register("needy")
    def build(base, architecture):
        raise ConfigError("impossible")

    yield
    del variants._entries["needy"], variants._owners["needy"]


def test_compare_marks_rows_to_beware_of_and_goes_on_where_one_fails(needy):
    lines = list(compare(["vae", "needy"], data="digits", steps=1, samples=2, limit=20))
    report = replace(lines[0].report, latents=20)
    marks = [(0.3, 2, ""), (0.3, 1, "few active units"), (0.09, 1, "rate under 0.1 nats"), (None, None, "")]
    for rate, active, mark in marks:
        values = {**report.values, "rate": Estimate(mean=rate), "active_units": active}
        row = replace(lines[0], report=replace(report, values=values))
        assert (row.mark, table([row])[0][-1]) == (mark, mark)
    assert isinstance(lines[1], Failure)
    assert "impossible" in table(lines)[1][-1]
    with pytest.raises(ConfigError, match="impossible"):
        list(compare(["needy"], data="digits", steps=1))
