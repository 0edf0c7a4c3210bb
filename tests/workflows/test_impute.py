"""Imputation against the conditional distribution of a linear-Gaussian model; training on tables with gaps."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils.data import DataLoader, Subset

import vaezoo
from vaezoo.core import VAE, Part
from vaezoo.data import Dataset, layout_of, table
from vaezoo.decoders import Decoder
from vaezoo.distributions import DiagonalNormal
from vaezoo.errors import ConfigError, DataError, NoDensityError, ShapeError, VaezooError
from vaezoo.likelihoods.mixed import Mixed
from vaezoo.networks import MLP
from vaezoo.objectives import WeightedObjective
from vaezoo.priors import StandardNormalPrior

SCALE = 0.6
VARIANTS = ("vae", "iwae", "vamp-vae", "cvae", "vade", "miwae", "vae-gan")


class WidePosterior(Part):
    """N(0, 1.3²), which is not the posterior: the weights have to correct it."""

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        zeros = x.new_zeros(len(x), 2)
        return DiagonalNormal(zeros, zeros + math.log(1.3))


def linear_model() -> tuple[VAE, Tensor, Tensor, Tensor]:
    """Returns a model with x ~ N(mean, covariance), the two, and rows with gaps."""
    torch.manual_seed(3)
    weight, mean = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    network = MLP((2,), (2, 5), 0, [], "relu").double()
    with torch.no_grad():
        network.head.weight.copy_(torch.cat([weight, torch.zeros_like(weight)]))
        network.head.bias.copy_(torch.cat([mean, torch.full_like(mean, math.log(SCALE))]))
    decoder = Decoder(network, Mixed((5,)))
    prior = StandardNormalPrior((2,)).double()
    model = VAE(WidePosterior(), decoder, prior, WeightedObjective(), shape=(5,), latent=(2,))
    covariance = weight @ weight.T + SCALE**2 * torch.eye(5, dtype=torch.float64)
    x = torch.distributions.MultivariateNormal(mean, covariance).sample((4,))
    x[0, [0, 3]], x[1, 2], x[3] = torch.nan, torch.nan, torch.nan
    return model, mean, covariance, x


def conditional(mean: Tensor, covariance: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and covariance of the gaps of a row given its observed entries."""
    gap = row.isnan()
    gain = covariance[gap][:, ~gap] @ covariance[~gap][:, ~gap].inverse()
    return mean[gap] + gain @ (row - mean)[~gap], covariance[gap][:, gap] - gain @ covariance[~gap][:, gap]


def test_single_imputation_is_the_conditional_mean_within_monte_carlo_error() -> None:
    model, mean, covariance, x = linear_model()
    samples = 20_000
    found = vaezoo.impute(model, x, samples=samples, seed=0)
    assert torch.equal(found[~x.isnan()], x[~x.isnan()]) and not found.isnan().any() and found.dtype == torch.float64
    sizes = model.importance(x, samples=samples, seed=0)[1]
    for row in (0, 1, 3):
        wanted, spread = conditional(mean, covariance, x[row])
        error = (spread.diagonal() / sizes[row]).sqrt()  # of a mean of `size` draws
        assert error.max() < 0.05  # the test has power
        assert ((found[row][x[row].isnan()] - wanted).abs() < 5 * error).all()
    assert torch.equal(found, vaezoo.impute(model, x, samples=samples, seed=0))


def test_the_reconstruction_of_a_wrong_posterior_is_no_conditional_mean() -> None:
    model, mean, covariance, x = linear_model()
    wanted, _ = conditional(mean, covariance, x[0])
    assert (model.reconstruct(x)[0][x[0].isnan()] - wanted).abs().max() > 0.3


def test_multiple_imputation_has_the_conditional_mean_and_covariance() -> None:
    model, mean, covariance, x = linear_model()
    draws = 4_000
    found = vaezoo.impute(model, x, samples=20_000, draws=draws, seed=1)
    assert found.shape == (draws, 4, 5) and torch.equal(found[:, 2], x[2].expand(draws, 5))
    gaps = found[:, 0][:, x[0].isnan()]
    wanted, spread = conditional(mean, covariance, x[0])
    assert ((gaps.mean(0) - wanted).abs() < 5 * (spread.diagonal() / draws).sqrt()).all()
    limit = 5 * spread.diagonal().max() * (2 / draws) ** 0.5
    assert (torch.cov(gaps.T) - spread).abs().max() < limit < 0.2


def test_rows_are_the_same_in_parts_and_the_random_state_is_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mean, covariance, x = linear_model()
    state = torch.get_rng_state()
    monkeypatch.setattr("vaezoo.workflows.impute.CHUNK", 20_000 * 5)  # a row at a time
    found = vaezoo.impute(model, x, samples=20_000, seed=0)
    assert torch.equal(state, torch.get_rng_state())
    assert (found[0][x[0].isnan()] - conditional(mean, covariance, x[0])[0]).abs().max() < 0.1


def test_what_cannot_be_imputed() -> None:
    model, _, _, x = linear_model()
    gaussian = vaezoo.create("vae", shape=5, latent=2, likelihood="gaussian")
    point = vaezoo.create("ae", shape=5, latent=2, likelihood="mixed")
    cases: list[tuple[VAE, object, dict[str, int], type[VaezooError], str]] = [
        (gaussian, x, {}, ConfigError, "Gaussian, which takes no gaps"),
        (point, x, {}, NoDensityError, "reconstruct"),
        (model, {"a": [1.0]}, {}, ConfigError, "without the layout"),
        (model, x[:, :3], {}, ShapeError, r"\(B, 5\)"),
        (model, x, {"samples": 0}, ConfigError, "samples"),
        (model, x, {"draws": 0}, ConfigError, "draws"),
    ]
    for own, rows, options, kind, words in cases:
        with pytest.raises(kind, match=words):
            vaezoo.impute(own, rows, **options)
    with pytest.raises(ConfigError, match=r"vaezoo\.load"):
        vaezoo.impute("vae", x)  # type: ignore[arg-type]  # that is the point
    assert torch.equal(vaezoo.impute(gaussian_free(), x[2:3]), x[2:3])  # there is nothing to fill


def gaussian_free() -> VAE:
    return vaezoo.create("vae", shape=5, latent=2, likelihood="mixed")


# Tables


@pytest.fixture(scope="module")
def people() -> Dataset:
    """80 rows of columns of each kind, with gaps and a row of gaps alone."""
    torch.manual_seed(0)
    z = torch.randn(80)
    columns: dict[str, list[object]] = {
        "height": (1.7 + 0.1 * z).tolist(),
        "income": (1000 * (z + torch.randn(80)).exp()).tolist(),
        "kids": torch.poisson((0.5 * z).exp()).int().tolist(),
        "town": ["Rom" if each > 0.5 else "Ulm" if each > -0.5 else "Bern" for each in z.tolist()],
        "smoker": ["yes" if each > 0 else "no" for each in z.tolist()],
    }
    for place, values in enumerate(columns.values()):
        values[0] = values[5 + place] = values[20 + place] = None
    return table({**columns, "sex": ["f", "m"] * 40}, "people", labels="sex")


def recipe(variant: str) -> dict[str, object]:
    context = variant == "cvae"
    return {"variant": variant, "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [16]}},
            "data": {"name": "people", "validation": 16, "context": context},
            "train": {"steps": 4, "batch_size": 16}}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_train_on_a_table_with_gaps(variant: str, people: Dataset) -> None:
    run = vaezoo.train(recipe(variant), data=people, out=None, trackers=())
    model, c = run.model, people.labels if variant == "cvae" else None
    elbo = model(people.batch(slice(None)), c)
    assert torch.isfinite(elbo.bound).all() and float(elbo.distortion.detach()[0]) == 0.0
    filled = vaezoo.impute(model, people.images, c, samples=10, seed=0)
    assert bool(model.decoder.likelihood.contains(filled).all())
    assert all(bool(torch.isfinite(each).all()) for each in model.parameters())


def test_a_trained_model_gives_frames_of_its_own_table(people: Dataset, tmp_path: Path) -> None:
    vaezoo.train(recipe("vae"), data=people, out=tmp_path / "people", trackers=())
    model = vaezoo.load(tmp_path / "people")
    layout = layout_of(model)
    assert layout is not None and layout == people.layout
    drawn = layout.frame(model.sample(5, seed=0))
    assert list(drawn) == ["height", "income", "kids", "town", "smoker"] and set(drawn["smoker"]) <= {"yes", "no"}
    rows = layout.frame(people.images[:8])
    filled = vaezoo.impute(model, rows, samples=20, seed=0)
    assert all(
        new == old for name in rows for old, new in zip(rows[name], filled[name], strict=True) if old is not None
    )
    assert None not in [each for values in filled.values() for each in values] and isinstance(filled["kids"][0], int)
    assert len(vaezoo.impute(model, rows, samples=20, draws=3)) == 3
    file = tmp_path / "rows.csv"
    lines = zip(
        *([name, *("" if each is None else each for each in values)] for name, values in rows.items()), strict=True
    )
    file.write_text("\n".join(",".join(map(str, line)) for line in lines))
    again = vaezoo.impute(model, file, samples=20, seed=0)
    assert again["town"] == filled["town"] and again["kids"] == filled["kids"]
    report = vaezoo.evaluate(model, f"table:{file}", samples=5)
    assert report.bound is not None and math.isfinite(report.bound.mean)
    file.write_text(file.read_text().replace("Ulm", "Paris"))
    with pytest.raises(DataError, match="'Paris' in column 'town', row"):
        vaezoo.evaluate(model, f"table:{file}", samples=5)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_samples_are_frames_with_the_types_of_the_training_frame(people: Dataset, library: str) -> None:
    pytest.importorskip(library)
    assert people.layout is not None
    frame = people.layout.frame(people.images, library)  # type: ignore[arg-type]  # a parameter
    if library == "pandas":
        towns = ["Ulm", "Rom", "Bern"]
        frame["town"] = frame["town"].astype("category").cat.set_categories(towns, ordered=True)
        frame["kids"] = frame["kids"].astype("Int8")
    run = vaezoo.train(recipe("vae"), data=table(frame, families={"kids": "poisson"}), out=None, trackers=())
    layout = layout_of(run.model)
    assert layout is not None and layout.families()[2:4] == ["poisson", "categorical-3"]
    drawn = layout.frame(run.model.sample(5, seed=0))
    assert type(drawn) is type(frame) and drawn.shape == (5, 5) and list(drawn.dtypes) == list(frame.dtypes)


def test_a_loader_of_a_table_is_that_table(people: Dataset) -> None:
    for data in (DataLoader(people, batch_size=8, shuffle=True), Subset(people, range(40))):
        run = vaezoo.train(recipe("vae"), data=data, out=None, trackers=())
        assert layout_of(run.model) == people.layout


def test_training_on_a_table_ends_when_the_held_out_bound_stops_improving(people: Dataset) -> None:
    patient = recipe("vae") | {"train": {"steps": 400, "batch_size": 64, "learning_rate": 0.05, "patience": 2}}
    run = vaezoo.train(patient, data=people, out=None, trackers=())
    bounds = [each["validation_bound"] for each in run.history if "validation_bound" in each]
    assert len(bounds) < 20 and max(bounds) == bounds[-3]  # of twenty validations; two without a higher bound


def test_a_recipe_names_a_file(people: Dataset, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b,town\n" + "\n".join(f"{n / 7},{-n},{'xyz'[n % 3]}" for n in range(20)))
    tables = recipe("vae") | {"data": {"name": f"table:{tmp_path / 'rows.csv'}"}}
    vaezoo.train(tables, out=tmp_path / "run", trackers=())
    model = vaezoo.load(tmp_path / "run")
    data = (model.config or {})["data"]
    assert isinstance(data, dict) and data["name"] == "table:rows.csv" and "folder" not in str(data)
    assert layout_of(model) == table(tmp_path / "rows.csv").layout
    assert (model.config or {})["architecture"]["likelihood"]["name"] == "mixed"  # type: ignore[index]


def test_a_frame_is_a_table_for_the_likelihood_of_tables(people: Dataset) -> None:
    pandas = pytest.importorskip("pandas")
    assert people.layout is not None
    frame = people.layout.frame(people.images, "pandas")
    tables = recipe("vae") | {"architecture": {"latent": 2, "likelihood": {"name": "mixed", "degrees": 5.0}}}
    held = frame.iloc[:10]
    run = vaezoo.train(tables, data=frame, validation=held[held.columns[::-1]], out=None, trackers=())
    layout = layout_of(run.model)
    assert layout is not None and layout.library == "pandas"
    filled = vaezoo.impute(run.model, frame, samples=10, seed=0)
    assert isinstance(filled, pandas.DataFrame) and not filled.isna().any().any()
    assert (run.model.config or {})["architecture"]["likelihood"]["degrees"] == 5.0  # type: ignore[index]
