"""Series of varying length from the file to figures and pictures; padding has no effect on any figure."""

from contextlib import nullcontext
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vaezoo
from vaezoo import pictures
from vaezoo.cli import main
from vaezoo.core import VAE, seeded
from vaezoo.data import Dataset, SeriesLayout, layout_of, series
from vaezoo.errors import ConfigError, DataError, RecipeError, ShapeError
from vaezoo.evaluation.metric import Measurement
from vaezoo.recipe import read_recipe
from vaezoo.storage.config import DataFacts, check_layouts
from vaezoo.trainer.setup import build_model

RNG = np.random.default_rng(0)
WAVES = [3.0 + np.sin(np.arange(n) / 2.0) + 0.1 * RNG.standard_normal(n) for n in RNG.integers(9, 25, 40)]
SMALL = {"name": "conv1d", "channels": [4, 6], "dense": [8]}
pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")
VARIANTS = ["vae", "iwae", "vamp-vae", "cvae", "vq-vae"]


def recipe_of(variant: str, **data: object) -> dict[str, object]:
    return {
        "variant": variant,
        "architecture": {"backbone": SMALL, **({} if variant == "vq-vae" else {"latent": 3})},
        "data": {"name": "waves", **data},
        "train": {"steps": 3, "batch_size": 16},
    }


@pytest.fixture(scope="module")
def model() -> VAE:
    return vaezoo.train(recipe_of("vae"), data=series(WAVES), out=None, trackers=()).model


class Lengthened(nn.Module):
    """A decoder's network whose series are followed by noise."""

    def __init__(self, network: nn.Module, more: int) -> None:
        super().__init__()
        self.network, self.more = network, more

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        found: Tensor = self.network(z)
        return torch.cat([found, torch.full((*found.shape[:-1], self.more), 7.5).cumsum(-1).to(found)], -1)


def two_lengths(kind: str) -> tuple[VAE, VAE, Tensor, Tensor]:
    """Returns models of series of 24 and of 37 places with the same weights, and series for each."""
    likelihood = {"name": "gaussian", "scale_kind": kind, "gaps": True}
    short, long = (
        vaezoo.create("vae", shape=(1, n), latent=3, backbone=SMALL, likelihood=likelihood).double() for n in (24, 37)
    )
    state = long.encoder.state_dict()
    for key, given in short.encoder.state_dict().items():
        own, other = (state[key], given) if given.shape == state[key].shape else (
            state[key].unflatten(1, (6, -1))[:, :, :6], given.unflatten(1, (6, -1))
        )  # fmt: skip
        own.copy_(other)
    long.decoder.network = Lengthened(short.decoder.network, 13)
    x = series(WAVES).batch(slice(0, 8)).double()
    return short, long, x, torch.cat([x, torch.full((8, 1, 13), torch.nan).double()], -1)


@pytest.mark.parametrize("kind", ["fixed", "learned", "optimal"])
def test_the_amount_of_padding_has_no_effect_on_any_figure(kind: str) -> None:
    short, long, x, wide = two_lengths(kind)
    found = []
    for each, given in ((short, x), (long, wide)):
        each.train()
        with seeded(1):
            elbo = each(given)
        elbo.losses["model"].mean().backward()
        each.after_step([elbo.statistics], torch.tensor(0))
        each.eval()
        layout = SeriesLayout(means=(0.0,), scales=(1.0,), length=given.shape[2])
        data = Dataset(name="waves", split="test", images=given.float(), layout=layout)
        with seeded(1):
            again = each(given)
        terms = Measurement(model=each, data=data, samples=0).terms
        found.append(
            [
                elbo.distortion, elbo.rate, elbo.bound, again.distortion, again.bound,
                each.log_evidence(given, samples=20, seed=2), each.encode(given).mean,
                each.reconstruct(given)[..., :24], terms.squared_error, terms.observed,
                *(p.grad for p in each.encoder.parameters() if p.dim() == 3), each.decoder.likelihood.log_scale,
            ]
        )  # fmt: skip
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_series_are_measured_over_observed_values(model: VAE) -> None:
    data = series(WAVES)
    report = vaezoo.evaluate(model, data, samples=3)
    x = data.batch(slice(None))
    errors = (model.reconstruct(x) - x)[~x.isnan()]
    assert report.relative_error == pytest.approx(float(errors.square().mean().sqrt()), rel=1e-5)
    assert report.psnr is None and report.mean_psnr is None and report.ssim is None
    assert "RMSE / deviation" in repr(report) and report.bound is not None
    assert model.config is not None and model.config["architecture"]["backbone"]["name"] == "conv1d"
    assert model.config["architecture"]["likelihood"] == {
        "name": "gaussian", "scale": 1.0, "scale_kind": "optimal", "gaps": True,
    }  # fmt: skip
    layout = layout_of(model)
    assert layout == data.layout and isinstance(layout, SeriesLayout)
    made = layout.series(model.sample(3, seed=0))
    assert [tuple(each.shape) for each in made] == [(1, 24)] * 3
    assert abs(float(torch.cat(made, 1).mean()) - 3.0) < 1.0  # in the units of the series
    assert vaezoo.evaluate(model, WAVES, samples=0).relative_error == pytest.approx(report.relative_error)
    assert vaezoo.evaluate(model, x, samples=0).relative_error == pytest.approx(report.relative_error)
    with pytest.raises(DataError, match="layout_of"):
        vaezoo.evaluate(model, series(WAVES[:5]), samples=0)
    assert "<img" not in model._repr_html_()


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_train_on_series(variant: str) -> None:
    labels = [number % 2 for number in range(len(WAVES))]
    data = series(WAVES, labels=labels)
    run = vaezoo.train(recipe_of(variant, context=variant == "cvae", validation=8), data=data, out=None, trackers=())
    report = vaezoo.evaluate(run.model, data, samples=0)
    assert np.isfinite([report.distortion.mean, report.rate.mean, report.relative_error]).all()
    x, c = data.batch([0, 1]), data.labels[:2] if variant == "cvae" else None
    losses = run.model(x, c).losses["model"]
    gap = x.clone()
    gap[0, 0, 2] = torch.nan
    assert bool((run.model.reconstruct(gap, c)[0] != run.model.reconstruct(x, c)[0]).any())
    assert bool(losses.isfinite().all())


def test_a_file_trains_a_variant_by_name_and_draws(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("waves.npz", *WAVES)
    words = "train vae --data series:waves.npz --out ./run train.steps=3 train.batch_size=8 latent=3 validation=6"
    assert main(f"{words} window=16 stride=8".split()) == 0
    model = vaezoo.load("./run")
    layout = layout_of(model)
    assert isinstance(layout, SeriesLayout) and (layout.window, layout.stride) == (16, 8) and model.shape == (1, 16)
    for command in ("reconstruct ./run 3 --out a.png", "sample ./run 4 --out b.png", "evaluate ./run --samples 2"):
        assert main(command.split()) == 0
    assert Path("a.png").read_bytes()[:4] == Path("b.png").read_bytes()[:4] == b"\x89PNG"
    assert "RMSE / deviation" in capsys.readouterr().out
    with pytest.raises(ShapeError, match="not traversals"):
        pictures.traversal(model, series(WAVES, layout=layout).batch([0]), tmp_path / "no.png")


def test_gaps_are_imputed_in_the_units_of_the_series(model: VAE) -> None:
    given = [each.copy() for each in WAVES[:4]]
    given[1][3:6] = np.nan
    filled = vaezoo.impute(model, given, samples=20, seed=0)
    for old, new in zip(given, filled, strict=True):
        known = ~np.isnan(old)
        assert new.shape == (1, len(old)) and bool(new.isfinite().all())
        np.testing.assert_allclose(new[0].numpy()[known], old[known], rtol=1e-5)
    assert abs(float(filled[1][0, 3:6].mean()) - 3.0) < 1.5
    several = vaezoo.impute(model, given, samples=20, draws=2, seed=0)
    assert len(several) == 2 and [each.shape for each in several[0]] == [each.shape for each in filled]


def test_settings_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="with data passed from Python"):
        vaezoo.train(recipe_of("vae", window=8), data=series(WAVES), out=None, trackers=())
    recipe = read_recipe("iwae", ["data.name='series:a.npz'", "steps=7"])
    assert recipe.variant == "iwae" and recipe.stages[0].steps == 7 and not recipe.data.context
    assert read_recipe("cvae", ["data.name='digits'"]).data.context
    with pytest.raises(RecipeError, match="1 mistake"):
        read_recipe("vae", ["data.name='a/b'"])
    own = {**recipe_of("vae"), "architecture": {"likelihood": "bernoulli"}}
    assert build_model(read_recipe(own), series(WAVES)).config["architecture"]["likelihood"] == {"name": "bernoulli"}


def test_a_config_with_another_layout_is_refused() -> None:
    good = {"means": [0.0], "scales": [1.0], "length": 24}
    for change, words in (
        ({}, ""),
        ({"length": 7}, "its series: expected x of shape"),
        ({"scales": [0.0]}, "its series"),
        ({"scales": [1.0, 2.0]}, "1 means and 2 scales"),
        ({"window": 24}, "stride 0"),
    ):
        facts = msgspec.convert({"name": "series", "binarize": "none", "series": {**good, **change}}, DataFacts)
        with pytest.raises(ConfigError, match=words) if words else nullcontext():
            check_layouts(facts, (1, 24))
