"""`train`: folders, own data, other initial weights; `compare`: rows, failures, differences of evidences."""

import json
import shutil
import signal
import warnings
from dataclasses import replace

import pytest
import torch
from PIL import Image

import vaezoo
from vaezoo.data import binarize, load_dataset
from vaezoo.errors import (
    CheckpointError,
    ConfigError,
    InterruptedTrainingError,
    RecipeError,
    UnknownNameError,
    VaezooError,
)
from vaezoo.evaluation import Estimate, evidence
from vaezoo.evaluation.test_sets import limited
from vaezoo.registry import variants
from vaezoo.workflows.compare import check_variant, compare, expand, is_binary
from vaezoo.workflows.comparison import Comparison, Failure, reference_of, table_of
from vaezoo.workflows.run_folder import auto_folder

# Runs of a few steps leave latents inactive.
pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")

TINY = {
    "variant": "vae",
    "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [16]}},
    "data": {"name": "digits", "binarize": "dynamic"},
    "train": {"steps": 20, "batch_size": 32},
}


def images(count):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()


def test_train_writes_a_folder_that_depends_on_recipe_and_seed_alone(tmp_path, monkeypatch):
    run = vaezoo.train(TINY, out=tmp_path / "run", trackers=())
    assert torch.equal(vaezoo.load(run.folder).reconstruct(images(3)), run.model.reconstruct(images(3)))
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 20
    assert not any("time" in key or "second" in key for line in lines for key in line)
    with pytest.raises(CheckpointError, match="already holds a run"):
        vaezoo.train(TINY, out=tmp_path / "run", trackers=())
    with pytest.raises(CheckpointError, match=f"Could not create {run.folder}/config.json/run"):
        vaezoo.train(TINY, out=run.folder / "config.json" / "run", trackers=())
    same, other = (vaezoo.train(TINY, out=tmp_path / str(seed), trackers=(), seed=seed).folder for seed in (0, 1))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run.folder, same, other)]
    assert weights[0] == weights[1] != weights[2]
    # An automatic folder is an unused one, or the last one to resume.
    monkeypatch.chdir(tmp_path)
    recipe = vaezoo.read_recipe({**TINY, "train": {"steps": 4, "batch_size": 32}})
    assert [vaezoo.train(recipe, trackers=()).folder.name for _ in range(2)] == ["vae", "vae-2"]
    assert auto_folder(recipe, resume=True).name == "vae-2"


def test_train_on_tensors():
    recipe = {**TINY, "variant": "cvae", "data": {"name": "digits", "context": True}}
    run = vaezoo.train(recipe, data=(images(64), torch.arange(64) % 4), out=None, trackers=())
    assert run.model.context == 4 and run.folder is None
    with pytest.raises(RecipeError, match="labels"):
        vaezoo.train({**TINY, "data": {"name": "x", "context": True}}, data=images(9), out=None, trackers=())


def test_own_data_have_the_name_in_the_recipe_unless_that_is_a_registered_set(tmp_path):
    def tables(name):
        return {**TINY, "data": {"name": name}, "train": {"steps": 2, "batch_size": 8}}

    run = vaezoo.train(tables("scans"), data=images(40), out=tmp_path / "scans", trackers=())
    assert repr(run).startswith("Run of vae, 2 steps\n")
    assert repr(vaezoo.train({**tables("scans"), "name": "first"}, data=images(40), out=None)).startswith(
        "Run of first,"
    )
    assert run.model.config["data"]["name"] == "scans"
    assert vaezoo.evaluate(vaezoo.load(tmp_path / "scans"), images(20), samples=0).data == "scans"
    assert vaezoo.evaluate(run.model, load_dataset("digits", "test"), samples=0, limit=5).data == "digits"
    with pytest.raises(VaezooError, match="set 'scans' has neither labels"):
        vaezoo.train({**tables("scans"), "data": {"name": "scans", "context": True}}, data=images(9), out=None)
    for name in ("digits", "folder:/home/me/private"):
        assert vaezoo.train(tables(name), data=images(40), out=None).model.config["data"]["name"] == "tensors"


def test_train_from_the_weights_of_another_model(tmp_path):
    start = vaezoo.train(TINY, out=tmp_path / "start", trackers=())
    tuned = vaezoo.train(
        {**TINY, "variant": "iwae", "options": {"samples": 3}, "init": str(start.folder)},
        out=None, trackers=(), steps=1, learning_rate=1e-9,
    )  # fmt: skip
    assert torch.allclose(tuned.model.reconstruct(images(9)), start.model.reconstruct(images(9)), atol=1e-4)
    with pytest.raises(ConfigError, match="does not fit"):
        vaezoo.train({**TINY, "init": str(start.folder)}, out=None, trackers=(), latent=3)


@pytest.mark.parametrize(
    ("names", "options", "error", "message"),
    [
        (["betavae"], {}, UnknownNameError, "beta-vae"),
        (["beta-vae"], {"data": "digts"}, UnknownNameError, "digits"),
        ([], {}, ConfigError, "no model"),
        (["vae"], {"seeds": 0}, ConfigError, "seeds = 0"),
    ],
)
def test_invalid_arguments_are_refused(names, options, error, message):
    with pytest.raises(error, match=message):
        list(compare(names, **{"data": "digits", "steps": 10, **options}))


def test_comparison_continues_where_it_was_stopped(tmp_path, monkeypatch):
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


def test_images_are_binarized_for_each_bernoulli_likelihood():
    assert is_binary("vae", None) and is_binary("vae", "bernoulli") and is_binary("vae", "autoregressive-bernoulli")
    assert not is_binary("sigma-vae", None) and not is_binary("vae", "continuous-bernoulli")
    assert is_binary("sigma-vae", "bernoulli") and not is_binary("vae", "mixed")
    assert is_binary("vae", {"name": "autoregressive-bernoulli", "window": 1})


def test_color_images_are_binarized_with_a_warning_unless_a_likelihood_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    colors = torch.randint(256, (10, 12, 9, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for split in ("train", "test"):
        (tmp_path / "images" / split).mkdir(parents=True)
        for number, pixels in enumerate(colors):
            Image.fromarray(pixels.numpy()).save(tmp_path / "images" / split / f"{number}.png")
    options = {"data": "folder:images", "steps": 2, "samples": 2, "size": 8}
    with pytest.warns(UserWarning, match=r"color images are binarized.*\(vae, iwae\).*discretized-logistic") as caught:
        rows = list(compare(["vae", "vq-vae", "iwae"], **options))
    assert sum("binarized" in str(each.message) for each in caught) == 1
    assert [row.model.shape for row in rows] == [(3, 8, 8)] * 3
    assert [row.report.binarization for row in rows] == ["static", "none", "static"]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*binarized")
        rows = [*compare(["vae", "iwae"], **options, likelihood="discretized-logistic", out=tmp_path / "found")]
        rows += compare("vae", **{**options, "data": colors.permute(0, 3, 1, 2)}, likelihood="discretized-logistic")
        assert not isinstance(compare("vq-vae", **options).lines[0], Failure)
    assert [(row.report.binarization, row.report.measure, row.model.shape) for row in rows] == [
        ("none", "mass", (3, 8, 8))
    ] * 3
    with pytest.raises(UnknownNameError, match="Did you mean 'gaussian'"):
        compare("vae", **options, likelihood="gausian")


@pytest.mark.parametrize("kept", [True, False])
def test_interrupted_comparison_states_how_to_continue(kept, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise InterruptedTrainingError("at step 3; repeat with --resume", signal.SIGTERM)

    monkeypatch.setattr("vaezoo.workflows.compare.train", stopped)
    text = "the same call continues" if kept else r"use out \(--out\)"
    with pytest.raises(InterruptedTrainingError, match=f"Stopped at ae, 1 of 2; {text}") as caught:
        list(compare(["ae", "vae"], data="digits", out=tmp_path if kept else None))
    assert caught.value.exit_status == 143 and "--resume" not in str(caught.value)


def test_all_expands_to_names_that_can_be_built():
    names = expand(["vae-mnist", "all"])
    assert names[0] == "vae-mnist" and len(names) == 1 + len(variants.names()) and "vq-vae+code-prior" in names
    for name in names[1:]:
        check_variant(name)


def test_rows_and_differences_of_evidences_on_the_same_images(tmp_path):
    folders = [str(vaezoo.train(TINY, out=tmp_path / str(seed), trackers=(), seed=seed).folder) for seed in range(2)]
    rows = list(compare([*folders, "vq-vae"], data="digits", steps=5, seeds=2, samples=20, limit=60))
    assert [(row.name, row.seeds) for row in rows] == [*((folder, 1) for folder in folders), ("vq-vae", 2)]
    tables = Comparison(rows).tables()
    assert [table.column("model") for table in tables] == [folders, ["vq-vae"]]  # densities are in their own table
    assert "digits, 1 × 8 × 8: probability masses" in tables[0].title and "densities" in tables[1].title
    assert all(len(line) == len(table.headings) for table in tables for line in table.rows)
    assert "bits/dim" in tables[0].headings and "bits/dim" not in tables[1].headings
    assert rows[0].report.examples == 60 and "K = 20" in tables[0].notes[0]
    assert "is not a probability" in Comparison(rows).notes[0] and not Comparison(rows[:2]).notes
    assert "chosen with seed 0" in tables[0].notes[0]
    test, _ = limited(binarize(load_dataset("digits", "test"), "dynamic"), 60)
    each = [evidence(vaezoo.load(folder), test, 20) for folder in folders]
    difference = (each[1] - each[0]).double()
    found = rows[1].above(rows[0])
    wanted = (difference.mean().item(), difference.std().item() / 60**0.5)
    assert (found.mean, found.error) == pytest.approx(wanted, abs=1e-5)
    assert found.error < rows[1].report.log_evidence.error
    assert rows[2].above(rows[0]).mean is None  # gray images, not binarized ones
    column = tables[0].column(f"above {rows[0].name}")
    assert column == ["", f"{found.mean:.2f} ± {found.error:.2f}"]
    renamed = [rows[0], replace(rows[1], name="vae")]
    assert reference_of(renamed) is renamed[1] and "above vae" in table_of(renamed).headings
    page = Comparison(rows)._repr_html_()
    assert page.count("<table>") == 2 and f"{found.mean:.2f}" in page and len(repr(Comparison(rows)).splitlines()) == 3


def test_a_table_of_options_of_a_likelihood(tmp_path):
    options = {"data": "digits", "steps": 3, "samples": 2, "limit": 20, "out": tmp_path}
    (row,) = compare("vae", **options, likelihood={"name": "autoregressive-bernoulli", "window": 1})
    assert row.report.measure == "mass" and row.report.log_evidence.mean < 0
    with pytest.raises(UnknownNameError, match="gausian"):
        compare("vae", **options, likelihood={"name": "gausian"})


def test_masses_and_densities_of_the_same_images_have_no_difference(tmp_path):
    """The same gray images and the same K, under a discretized logistic (a mass) and a Gaussian (a density)."""
    folders = []
    for likelihood in ("discretized-logistic", "gaussian", "bernoulli", "continuous-bernoulli"):
        model = vaezoo.create("vae", shape=(1, 8, 8), latent=2, likelihood=likelihood)
        folders.append(str(vaezoo.save(model, tmp_path / likelihood)))
    rows = list(compare(folders, data="digits", samples=3, limit=20))
    mass, density, loss, other = rows
    assert len({row.statistics for row in rows}) == 1 and mass.report.samples == density.report.samples == 3
    assert mass.above(density).mean is None and density.above(mass).mean is None
    assert other.above(density).mean is not None  # both are densities on [0, 1]
    tables = Comparison(rows).tables()
    assert [len(table.rows) for table in tables] == [1, 2, 1] and loss.report.measure == "loss"
    for table in tables:  # no figure of one measure in a table of another
        assert len({row.report.measure for row in rows if row.name in table.column("model")}) == 1
    assert any("gives no probability to 20 of 20" in note for note in tables[2].notes)
    records = Comparison(rows).records()
    assert [each["difference"]["mean"] is None for each in records] == [True, True, True, False]
    assert [each["measure"] for each in records] == ["mass", "density", "loss", "density"]


def test_probabilities_given_a_context_and_of_other_binarizations_are_in_other_tables(tmp_path):
    kept = {name: vaezoo.create(name, shape=(1, 8, 8), latent=2, context=10) for name in ("vae", "cvae")}
    kept["plain"] = vaezoo.create("vae", shape=(1, 8, 8), latent=2)
    binary = {"name": "digits", "binarize": "dynamic", "digest": load_dataset("digits", "train").digest}
    for model in kept.values():
        model.config = {**model.config, "data": binary}
    folders = [str(vaezoo.save(model, tmp_path / f"{name}-binary")) for name, model in kept.items()]
    rows = list(compare(folders, data="digits", samples=2, limit=20))
    assert [[row.name for row in group] for group in Comparison(rows).groups] == [folders[:2], folders[2:]]
    assert rows[2].above(rows[0]).mean is None and rows[1].above(rows[0]).mean is not None
    assert "given c" in Comparison(rows).tables()[0].title


def test_notes_of_rows_and_rows_of_failures(monkeypatch):
    for name in ("_entries", "_owners"):
        monkeypatch.setattr(variants, name, {**getattr(variants, name)})

    @vaezoo.register("impossible")
    def build(base, architecture):
        raise ConfigError("cannot be built")

    lines = list(compare(["vae", "impossible"], data="digits", steps=1, samples=2, limit=20))
    report = replace(lines[0].report, latents=20)
    notes = [(0.3, 2, ""), (0.3, 1, "few active units"), (0.09, 1, "rate under 0.1 nats"), (None, None, "")]
    for rate, active, note in notes:
        values = {**report.values, "rate": Estimate(mean=rate), "active_units": active}
        row = replace(lines[0], report=replace(report, values=values))
        assert (row.mark, table_of([row]).column("note")) == (note, [note])
    assert isinstance(lines[1], Failure) and "cannot be built" in Comparison(lines).notes[0]
    assert Comparison(lines).records()[1] == {"name": "impossible", "failure": lines[1].reason}
    with pytest.raises(ConfigError, match="cannot be built"):
        list(compare(["impossible"], data="digits", steps=1))


def test_the_public_function_returns_the_tables():
    assert "compare" in vaezoo.__all__ and vaezoo.compare is compare
    data = images(980).reshape(20, 49, 8, 8)[:, :1].repeat(1, 1, 4, 4)[..., 2:30, 2:30]
    found = vaezoo.compare("vae-mnist", data=data, samples=2)
    assert isinstance(found, Comparison) and [row.name for row in found] == ["vae-mnist"]
    assert found.rows[0].report.examples == 2  # a tenth
    assert "| vae-mnist |" in found.markdown() and "vae-mnist" in found._repr_html_()
