"""`reproduce`: equal weights give equal figures; others, other images and other settings are judged accordingly."""

import json
import math
from pathlib import Path

import pytest
import torch

import vaezoo
from vaezoo.cli import main
from vaezoo.data import bundled_images
from vaezoo.data.bundled import BUNDLED
from vaezoo.errors import ConfigError, UnknownNameError
from vaezoo.storage.model_folder import read_metrics, write_metrics
from vaezoo.workflows.measure import measure
from vaezoo.workflows.reproduce import Reproduction, differences, reproduce

pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")
RECIPE = {
    "name": "mine",
    "variant": "vae",
    "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [16]}},
    "data": {"name": "digits", "binarize": "static"},
    "train": {"steps": 60, "batch_size": 32},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    vaezoo.train(RECIPE, out=folder, trackers=())
    measure(folder, samples=5, limit=150, write=True)
    return folder


def by_figure(found: Reproduction) -> dict[str, object]:
    return {each.figure: each for each in found.differences}


def with_figures(run: Path, **changes: object) -> dict[str, object]:
    """Writes changed figures into the run's folder, and returns those before."""
    before = read_metrics(run)
    write_metrics(run, {**before, **changes})
    return before


def test_the_same_weights_and_settings_give_the_same_figures(run: Path) -> None:
    found = reproduce(run, bar=None)
    assert found.agrees and found.tolerance == 1.0 and not found.trained and found.examples == 150
    assert (found.settings.samples, found.settings.limit, found.settings.data) == (5, 150, "digits")
    known = read_metrics(run)
    assert {each.figure for each in found.differences} == {
        key for key in known if key in vaezoo.evaluate(vaezoo.load(run), "digits", 0, limit=9).values
    } - {key for key in known if known[key] is None}
    for each in found.differences:
        assert each.difference == pytest.approx(0.0, abs=1e-6 * max(1.0, abs(each.recorded))), each


def test_a_figure_that_differs_by_more_than_its_standard_error_is_named(run: Path) -> None:
    bound = read_metrics(run)["bound"]
    shifted = {"mean": bound["mean"] + 1.2 * bound["error"], "error": bound["error"]}
    before = with_figures(run, bound=shifted, psnr=read_metrics(run)["psnr"] * 1.005)
    try:
        found = reproduce(run)
        assert not found.agrees and [each.figure for each in found.differences if not each.agrees] == ["bound"]
        assert by_figure(found)["bound"].difference == pytest.approx(-1.2 * bound["error"])
        assert reproduce(run, tolerance=1.3).agrees
        assert "1 of" in found.notes()[0] and "bound" in found.notes()[0]
        tight = reproduce(run, tolerance=0.4)
        assert {each.figure for each in tight.differences if not each.agrees} == {"bound", "psnr"}
    finally:
        write_metrics(run, before)


def test_part_of_the_images_is_compared_by_the_error_of_the_part(run: Path) -> None:
    found = reproduce(run, limit=60, samples=3)
    figures, again = by_figure(found), found.metrics
    assert found.tolerance == 3.0 and found.examples == 60 and found.agrees
    # The variance of the mean of n out of N minus that of all N, drawn without replacement.
    expected = again["bound"]["error"] * math.sqrt(1.0 - 60 / 150)
    assert figures["bound"].error == pytest.approx(expected) and figures["bound"].tolerance == pytest.approx(
        3 * expected
    )
    assert figures["psnr"].agrees is None and figures["log_evidence"].agrees is None
    assert reproduce(run, limit=1000).examples == 150  # no more than were recorded


def test_training_again_gives_the_same_figures_on_the_same_machine(run: Path, tmp_path: Path) -> None:
    found = reproduce(run, train=True, out=tmp_path / "again")
    assert found.trained and found.agrees and found.folder == tmp_path / "again"
    for each in found.differences:
        assert each.difference == pytest.approx(0.0, abs=1e-5 * max(1.0, abs(each.recorded))), each
    assert torch.equal(vaezoo.load(tmp_path / "again").sample(3, seed=0), vaezoo.load(run).sample(3, seed=0))


def test_counts_of_a_new_training_may_differ_by_one() -> None:
    before = {"examples": 100, "samples": 0, "active_units": 23, "psnr": 20.0}
    for units, psnr, agree in ((22, 20.5, [True, True]), (21, 20.7, [False, False])):
        found = differences(before, {**before, "active_units": units, "psnr": psnr}, 3.0, counts=True)
        assert {each.figure: each.agrees for each in found} == dict(zip(("active_units", "psnr"), agree, strict=True))
    assert [each.agrees for each in differences(before, {**before, "active_units": 22}, 1.0)] == [True, False]
    (missing, _) = differences(before, {**before, "psnr": None}, 1.0)
    assert missing.agrees is False and missing.difference is None


def test_rounding_is_no_difference_where_the_standard_error_is_zero() -> None:
    before = {"examples": 100, "samples": 0, "rate": {"mean": 305.678, "error": 1e-7}}
    for mean, agrees in ((305.680, True), (305.69, False)):
        (found,) = differences(before, {**before, "rate": {"mean": mean, "error": 1e-7}}, 1.0)
        assert found.agrees is agrees


def test_several_numbers_are_compared_where_they_differ_most() -> None:
    before = {"examples": 100, "samples": 0, "level_rates": [10.0, 2.0]}
    (found,) = differences(before, {**before, "level_rates": [10.01, 2.05]}, 1.0)
    assert (found.recorded, found.again, found.agrees) == (2.0, 2.05, False)
    assert differences(before, {**before, "level_rates": [10.0]}, 1.0)[0].agrees is False


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tolerance": -1.0}, ConfigError, "tolerance = -1.0"),
        ({"tolerance": math.nan}, ConfigError, "at least 0"),
        ({"tolerance": "1"}, ConfigError, "tolerance = '1'"),
        ({"limit": 0}, ConfigError, "limit = 0"),
        ({"limit": "9"}, ConfigError, "limit = '9'"),
        ({"resume": True}, ConfigError, "without train"),
        ({"samples": -1}, ConfigError, "samples"),
        ({"name": "vae-mnst"}, UnknownNameError, "vae-mnist"),
    ],
)
def test_invalid_arguments_are_refused(options: dict, error: type[Exception], message: str, run: Path) -> None:
    name = options.pop("name", run)
    with pytest.raises(error, match=message):
        reproduce(name, **options)


def test_models_without_figures_or_with_another_recipe_are_refused(run: Path, tmp_path: Path) -> None:
    model = vaezoo.load(run)
    with pytest.raises(ConfigError, match="no recorded figures"):
        reproduce(vaezoo.save(model, tmp_path / "bare"))
    copy = vaezoo.save(model, tmp_path / "copy", metrics=read_metrics(run))
    with pytest.raises(ConfigError, match="neither in its folder nor in the package"):
        reproduce(copy, train=True, out=tmp_path / "x")
    recipe = json.loads((run / "recipe.json").read_text())
    (copy / "recipe.json").write_text(json.dumps({**recipe, "seed": 5}))
    with pytest.raises(ConfigError, match="recipe with digest"):
        reproduce(copy, train=True, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_published_model_agrees_on_the_bundled_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "mnist" in BUNDLED
    monkeypatch.setattr("vaezoo.workflows.reproduce.data_of", lambda *_: bundled_images())
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["reproduce", "vae-mnist", "--samples", "0", "--limit", "64"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80 and "recorded" in text and "-90.522" in text
    assert "All 3 figures that compare agree." in text and "In the literature: log-evidence -86.76 (5000)" in text


def test_the_command_prints_json_and_its_status_states_agreement(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (record,) = found
    assert record["agrees"] and record["settings"]["limit"] == 150
    assert {"figure", "recorded", "again", "difference", "error", "tolerance", "agrees"} == set(record["figures"][0])
    bound = read_metrics(run)["bound"]
    before = with_figures(run, bound={"mean": bound["mean"] - 50.0, "error": bound["error"]})
    try:
        with pytest.raises(SystemExit) as status:
            main(["reproduce", str(run)])
    finally:
        write_metrics(run, before)
    assert status.value.code == 3 and "NO" in capsys.readouterr().out
    assert main(["reproduce", str(run), "--out", "elsewhere"]) == 1
    assert "--train" in capsys.readouterr().err
