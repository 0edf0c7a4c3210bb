"""`vaezoo.sklearn`: scikit-learn's own checks, values against the model, pipelines, searches, saved estimators."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaezoo
from vaezoo.data import Dataset
from vaezoo.errors import ConfigError, CorruptWeightsError, DataError, NoDensityError, UnknownNameError
from vaezoo.evaluation import anomaly_scores
from vaezoo.sklearn import VAEAnomalyDetector, VAEImputer, VAETransformer

SMALL = {"latent": 2, "hidden": (8,), "steps": 3, "samples": 2, "random_state": 0}
#: scores are means over draws; the draw of a row depends on its place among the rows
DRAWN = {
    "check_methods_subset_invariance": "the draws of a row depend on its place",
    "check_methods_sample_order_invariance": "the draws of a row depend on its place",
}
pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active:UserWarning")


@parametrize_with_checks([VAETransformer(**SMALL)], expected_failed_checks=lambda estimator: DRAWN)
def test_checks_of_scikit_learn(estimator: object, check: object):
    check(estimator)  # type: ignore[operator]


@pytest.mark.full
@parametrize_with_checks(
    [VAEAnomalyDetector(**SMALL), VAEImputer(**SMALL)], expected_failed_checks=lambda estimator: DRAWN
)
def test_checks_of_scikit_learn_on_outliers_and_gaps(estimator: object, check: object):
    check(estimator)  # type: ignore[operator]


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    """Returns 300 rows of six columns from two factors, in units of their own."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(300, 2)) @ generator.normal(size=(2, 6)) + 0.1 * generator.normal(size=(300, 6))
    return rows * [1, 10, 0.1, 1, 1, 100] + [0, 5, 0, -3, 0, 1000]


@pytest.fixture(scope="module")
def fitted(table: np.ndarray) -> VAETransformer:
    return VAETransformer(latent=2, hidden=(32,), steps=600, random_state=0).fit(table)


def test_latents_and_rows_are_those_of_the_model(fitted: VAETransformer, table: np.ndarray):
    x = torch.from_numpy((table - table.mean(0)) / table.std(0))
    z = fitted.transform(table)
    np.testing.assert_allclose(z, fitted.model_.encode(x).mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(fitted.transform(table[7:8]), z[7:8], rtol=1e-12)
    again = fitted.inverse_transform(z)
    np.testing.assert_allclose(again, fitted.model_.reconstruct(x).numpy() * table.std(0) + table.mean(0), rtol=1e-9)
    explained = 1 - ((again - table) ** 2).mean(0) / table.var(0)
    assert (explained > 0.9).all(), "two latents explain two factors"


def test_the_score_is_the_bound_in_the_units_of_the_columns(fitted: VAETransformer, table: np.ndarray):
    scores = fitted.score_samples(table)
    x = torch.from_numpy((table - fitted.mean_) / fitted.scale_).float()
    expected = -anomaly_scores(fitted.model_, x, samples=50).numpy() - np.log(table.std(0)).sum()
    np.testing.assert_allclose(scores, expected)
    assert fitted.score(table) == pytest.approx(scores.mean())
    # A change of units by a factor of 10 in every column lowers each log-density by 6 log 10, whatever the model.
    other = clone(fitted).fit(table * 10)
    np.testing.assert_allclose(other.score_samples(table * 10), scores - 6 * np.log(10), atol=1e-3)
    # The bound lies below the log-density of the distribution that made the rows, a normal one.
    centered = table - table.mean(0)
    covariance = centered.T @ centered / len(table)
    best = -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + 6)
    assert best - 5 < fitted.score(table) < best


@pytest.mark.full
def test_unusual_rows_are_detected(table: np.ndarray):
    detector = VAEAnomalyDetector(latent=2, hidden=(32,), steps=300, contamination=0.05, random_state=0).fit(table)
    assert (detector.predict(table) == -1).sum() == 15
    strange = table[:20] * [1, 1, 1, 1, 1, -1]  # each column as before, but not their dependence
    assert (detector.predict(strange) == -1).mean() > 0.9
    np.testing.assert_array_equal(detector.decision_function(table) < 0, detector.predict(table) == -1)
    for kind in ("evidence", "distortion", "rate"):
        assert np.isfinite(clone(detector).set_params(kind=kind, steps=5).fit(table).score_samples(table)).all()


@pytest.fixture(scope="module")
def gappy(table: np.ndarray) -> np.ndarray:
    """Returns the table without 20 % of its entries, and without any entry in row 7."""
    removed = np.random.default_rng(1).random(table.shape) < 0.2
    removed[7] = True
    return np.where(removed, np.nan, table)


@pytest.fixture(scope="module")
def imputer(gappy: np.ndarray) -> VAEImputer:
    return VAEImputer(latent=2, hidden=(32,), steps=200, learning_rate=1e-2, samples=50, random_state=0).fit(gappy)


def test_gaps_are_filled_by_imputation_and_observed_values_stay(
    imputer: VAEImputer, gappy: np.ndarray, table: np.ndarray
):
    filled, gap = imputer.transform(gappy), np.isnan(gappy)
    np.testing.assert_array_equal(filled[~gap], gappy[~gap])
    np.testing.assert_array_equal(filled, imputer.transform(gappy))
    center, scale = np.nanmean(gappy, 0), np.nanstd(gappy, 0)
    x = torch.from_numpy((gappy - center) / scale)
    expected = vaezoo.impute(imputer.model_, x, samples=50, seed=0).numpy() * scale + center
    np.testing.assert_allclose(filled[gap], expected[gap], rtol=1e-9)
    errors = ((filled - table) / scale)[gap], ((center - table) / scale)[gap]
    assert (errors[0] ** 2).mean() < 0.3 * (errors[1] ** 2).mean(), "of the variance that the column means leave"
    assert imputer.transform(gappy.astype(np.float32)).dtype == np.float32


def test_several_tables_are_drawn_from_the_conditional_distribution(imputer: VAEImputer, gappy: np.ndarray):
    several, gap = copy.copy(imputer).set_params(samples=500).draw(gappy, 200, seed=1), np.isnan(gappy)
    assert several.shape == (200, *gappy.shape)
    np.testing.assert_array_equal(several[:, ~gap], np.broadcast_to(gappy[~gap], (200, (~gap).sum())))
    spread = several.std(0) / np.nanstd(gappy, 0)
    assert 0.5 < spread[7].mean() < 1.5  # without any entry, as wide as the columns
    assert spread[gap & (gap.sum(1) == 1)[:, None]].mean() < 0.5


def test_the_score_of_rows_with_gaps_is_in_the_units_of_the_observed_columns(imputer: VAEImputer, gappy: np.ndarray):
    scores = imputer.score_samples(gappy)
    x = torch.from_numpy((gappy - imputer.mean_) / imputer.scale_).float()
    standard = anomaly_scores(
        imputer.model_, Dataset(name="x", split="test", images=x, layout=imputer._layout()), samples=50
    ).numpy()
    unit = np.where(np.isnan(gappy), 0.0, np.log(np.nanstd(gappy, 0))).sum(1)
    np.testing.assert_allclose(scores, -standard - unit)
    assert scores[7] == pytest.approx(-standard[7]) and abs(scores[7]) < 1.0  # without any entry
    assert imputer.score(gappy) == pytest.approx(scores.mean())


def test_frames_with_gaps_keep_their_names_in_pipelines_and_saved_imputers(gappy: np.ndarray, tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(gappy, columns=[*"abcdef"])
    imputer = VAEImputer(**SMALL).set_output(transform="pandas").fit(frame)
    filled = imputer.transform(frame)
    assert list(filled) == list(imputer.get_feature_names_out()) == [*"abcdef"] and not filled.isna().any().any()
    loaded = VAEImputer.load(imputer.save(tmp_path / "imputer"))
    np.testing.assert_array_equal(loaded.transform(frame), filled.to_numpy())
    assert vaezoo.load(tmp_path / "imputer").shape == (6,)
    y = np.nan_to_num(gappy[:, 0]) > 0
    pipeline = make_pipeline(VAEImputer(**SMALL), StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"vaeimputer__latent": [1, 2]}, cv=2).fit(gappy, y)
    assert search.best_score_ > 0.6


def test_what_an_imputer_takes_and_refuses(gappy: np.ndarray, tmp_path: Path):
    empty = gappy.copy()
    empty[:, 2] = np.nan
    with pytest.raises(DataError, match="no value in column 2"):
        VAEImputer(**SMALL).fit(empty)
    with pytest.raises(ValueError, match="infinity"):
        VAEImputer(**SMALL).fit(np.where(np.isnan(gappy), np.inf, gappy))
    with pytest.raises(ConfigError, match=r"likelihood = 'gaussian'.*expected one that takes gaps"):
        VAEImputer(**SMALL, likelihood="gaussian").fit(gappy)
    optimal = VAEImputer(**SMALL, likelihood={"name": "gaussian", "scale_kind": "optimal", "gaps": True}).fit(gappy)
    assert not np.isnan(optimal.transform(gappy)).any()
    wide = np.where(np.eye(4, 1_000, dtype=bool), np.nan, np.arange(4_000.0).reshape(4, 1_000))
    VAEImputer.load(VAEImputer(**SMALL).fit(wide).save(tmp_path / "wide")).transform(wide)
    with pytest.raises(NoDensityError, match="point mass"):
        VAEImputer("ae", **SMALL).fit(gappy).transform(gappy)
    with pytest.raises(ValueError, match="NaN"):
        VAETransformer(**SMALL).fit(gappy)


@pytest.mark.full
def test_pipelines_and_searches(table: np.ndarray):
    y = table[:, 0] > 0
    pipeline = make_pipeline(StandardScaler(), VAETransformer(**{**SMALL, "steps": 200}), LogisticRegression())
    assert pipeline.fit(table, y).score(table, y) > 0.9
    names = pipeline[:-1].get_feature_names_out([*"abcdef"])
    assert list(names) == ["vaetransformer0", "vaetransformer1"]
    search = GridSearchCV(VAETransformer(**{**SMALL, "hidden": (32,), "steps": 400}), {"latent": [1, 2]}, cv=2)
    assert search.fit(table).best_params_ == {"latent": 2}  # by the bound


@pytest.mark.parametrize(
    "parameters",
    [
        {"variant": "beta-vae", "options": {"beta": 2.0}, "likelihood": {"name": "gaussian", "scale": 0.3}},
        {"variant": "vae+iwae", "likelihood": "laplace"},
        {"standardize": False},
    ],
)
def test_variants_and_their_options(parameters: dict[str, object], table: np.ndarray):
    estimator = VAETransformer(**{**SMALL, **parameters}).fit(table[:, :3])
    assert np.isfinite(estimator.score(table[:, :3])) and estimator.model_.config["variant"] == estimator.variant
    if not estimator.standardize:
        assert (estimator.mean_ == 0).all() and (estimator.scale_ == 1).all()


def test_saved_estimators_are_equal(fitted: VAETransformer, table: np.ndarray, tmp_path: Path):
    loaded = VAETransformer.load(fitted.save(tmp_path / "table"))
    assert loaded.get_params() == fitted.get_params()
    np.testing.assert_array_equal(loaded.transform(table), fitted.transform(table))
    np.testing.assert_array_equal(loaded.score_samples(table), fitted.score_samples(table))
    assert vaezoo.load(tmp_path / "table").shape == (6,)
    detector = VAEAnomalyDetector(**SMALL).fit(table)
    again = VAEAnomalyDetector.load(detector.save(tmp_path / "detector"))
    np.testing.assert_array_equal(again.predict(table), detector.predict(table))
    assert not [each for each in tmp_path.rglob("*") if each.suffix in (".pkl", ".joblib", ".pt")]


def test_damaged_or_other_folders_are_refused(fitted: VAETransformer, tmp_path: Path):
    place = fitted.save(tmp_path / "table")
    with pytest.raises(CorruptWeightsError, match="does not hold a saved VAEAnomalyDetector: it is a VAETransformer"):
        VAEAnomalyDetector.load(place)
    with pytest.raises(UnknownNameError):
        VAETransformer.load(tmp_path / "nothing")
    vaezoo.save(fitted.model_, tmp_path / "model")
    with pytest.raises(CorruptWeightsError, match="does not hold a saved VAETransformer"):
        VAETransformer.load(tmp_path / "model")
    state = place / "estimator" / "state.json"
    facts = json.loads(state.read_text())
    facts["parameters"]["latent"] = 3
    state.write_text(json.dumps(facts))
    with pytest.raises(CorruptWeightsError):
        VAETransformer.load(place)
    given = VAETransformer(**{**SMALL, "random_state": np.random.RandomState(0)}).fit(np.eye(4))
    with pytest.raises(ConfigError, match=r"random_state = RandomState.*expected a plain value"):
        given.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"variant": "vea"}, "Did you mean"),
        ({"options": {"beta": 1.0}}, "beta"),
        ({"variant": "cvae"}, "context"),
        ({"latent": 0}, "latent"),
        ({"kind": "odd"}, "expected one of bound"),
        ({"contamination": 0.9}, "up to 0.5"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, object], message: str, table: np.ndarray):
    with pytest.raises((ConfigError, LookupError, ValueError), match=message):
        VAEAnomalyDetector(**{**SMALL, **parameters}).fit(table)


@pytest.mark.full
def test_scikit_learn_is_imported_by_this_module_alone():
    code = "import sys, vaezoo.workflows.train, vaezoo.evaluation; assert 'sklearn' not in sys.modules\n"
    code += "sys.modules['sklearn'] = None\ntry:\n    import vaezoo.sklearn\nexcept ImportError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "pip install 'vaezoo[train]'" in done.stdout, done.stderr
