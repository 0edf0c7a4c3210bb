"""Ex-post samplers: densities against other implementations, refusals, and files."""

import json
import shutil

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as SklearnMixture
from support.cases import example_of

import vaezoo
from vaezoo.core import code_indices
from vaezoo.data import binarize, load_dataset
from vaezoo.errors import ConfigError, CorruptWeightsError, DataError, ShapeError, UnknownNameError
from vaezoo.registry import samplers, variants, with_requirements
from vaezoo.samplers.flow import Flow
from vaezoo.samplers.gaussian_mixture import GaussianMixture
from vaezoo.samplers.normal import Normal
from vaezoo.storage.json_files import canonical, sha256

NAMES = samplers.names()
SHAPE = (1, 8, 8)
SOME = {"ae", "categorical-vae", "cvae", "s-vae", "two-layer-vae", "vae", "vq-vae"}  # one of each kind of latents
QUICK: dict[str, dict[str, object]] = {"flow": {"transforms": 4, "hidden": (16,), "steps": 30}}


def correlated(count: int) -> torch.Tensor:
    """Returns draws of a Gaussian with mean (1, -2, 0) and a full covariance, (count, 3), float64."""
    factor = torch.tensor([[1.0, 0, 0], [0.8, 0.5, 0], [-0.4, 0.3, 2.0]]).double()
    return torch.randn(count, 3).double() @ factor.T + torch.tensor([1.0, -2.0, 0.0])


@pytest.fixture(scope="module")
def model() -> vaezoo.VAE:
    torch.manual_seed(0)
    model = vaezoo.create("vae", shape=SHAPE, latent=2, backbone={"name": "mlp", "hidden": [16]}).eval()
    model.config = {**model.config, "data": {"name": "digits", "binarize": "dynamic"}}
    return model


@pytest.fixture
def saved(model, tmp_path):
    """Returns a model folder with a mixture beside the model."""
    folder = vaezoo.save(model, tmp_path / "model")
    sampler = vaezoo.fit_sampler(vaezoo.load(folder), "digits", "gaussian-mixture", components=3, examples=200)
    vaezoo.save_sampler(sampler, folder)
    return folder


class TestDensities:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("latent", [(3,), (1, 3)])
    def test_samples_have_the_moments_of_the_data(self, name, latent) -> None:
        z = correlated(4000)
        density = samplers.get(name)(latent, **QUICK.get(name, {}))
        density.fit(z, 0)
        with torch.no_grad():
            drawn = density().sample((20_000,))
            assert drawn.shape == (20_000, *latent) and density().log_prob(drawn).shape == (20_000,)
            assert torch.isfinite(density().log_prob(drawn)).all()
        flat = drawn.flatten(1).double()
        assert torch.allclose(flat.mean(0), z.mean(0), atol=0.12)
        assert torch.allclose(torch.cov(flat.T), torch.cov(z.T), atol=0.35)
        assert density.is_valid()

    def test_the_normal_equals_scipys_and_the_mixture_scikit_learns(self) -> None:
        z, density = correlated(300), Normal((3,))
        density.fit(z, 0)
        expected = multivariate_normal(z.mean(0), np.cov(z.numpy().T)).logpdf(z.numpy())
        assert torch.allclose(density().log_prob(z.float()).double(), torch.from_numpy(expected), atol=1e-3)
        z = torch.cat([correlated(300), 3 - 2 * correlated(200)])
        density = GaussianMixture((3,), components=4)
        density.fit(z, 5)
        theirs = SklearnMixture(4, max_iter=500, random_state=5).fit(z.numpy())
        points = torch.cat([z, 10 * torch.randn(100, 3).double()])
        expected = torch.from_numpy(theirs.score_samples(points.numpy()))
        assert torch.allclose(density().log_prob(points.float()).double(), expected, rtol=1e-3, atol=1e-3)

    @pytest.mark.full
    def test_the_flow_is_a_density_that_learns(self) -> None:
        """Its integral is 1, its samples follow it, and it fits a ring better than its initial Gaussian."""
        angle = 2 * torch.pi * torch.rand(3000).double()
        ring = (3 + 0.3 * torch.randn(3000).double()).unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1) + 5
        start, density = Normal((2,)), Flow((2,), transforms=5, hidden=(32,), steps=150)
        start.fit(ring, 0)
        density.fit(ring, 0)
        with torch.no_grad():
            side = torch.linspace(-6, 16, 221)
            grid = torch.cartesian_prod(side, side)
            mass = density().log_prob(grid).exp() * (side[1] - side[0]) ** 2
            assert mass.sum().item() == pytest.approx(1, abs=0.01)
            assert (density().log_prob(ring.float()) - start().log_prob(ring.float())).mean().item() > 0.15
            radius, inside = (density().sample((4000,)) - 5).norm(dim=1), (grid - 5).norm(dim=1) < 1.5
            assert (radius < 1.5).float().mean().item() == pytest.approx(mass[inside].sum().item(), abs=0.03)

    @pytest.mark.parametrize("name", NAMES)
    def test_degenerate_latents(self, name) -> None:
        density = samplers.get(name)((3,), **QUICK.get(name, {}))
        with pytest.raises(DataError, match="at least"):
            density.fit(torch.zeros(1, 3).double(), 0)
        with pytest.raises(DataError, match="NaN"):
            density.fit(torch.full((100, 3), torch.nan).double(), 0)
        density.fit(torch.randn(500, 1).double() * torch.tensor([1.0, 2.0, 0.0]), 0)  # on a line
        with torch.no_grad():
            assert torch.isfinite(density().sample((50,))).all() and density.is_valid()


class TestFitting:
    @pytest.mark.parametrize("name", NAMES)
    def test_samples_are_images_and_reproducible_also_from_a_folder(self, name, model, tmp_path) -> None:
        before = torch.get_rng_state()
        sampler = vaezoo.fit_sampler(model, "digits", name, examples=300, **QUICK.get(name, {}))
        images = sampler.sample(5, seed=3)
        assert torch.equal(before, torch.get_rng_state())
        assert images.shape == (5, *SHAPE) and images.min() >= 0 and images.max() <= 1
        assert not torch.equal(sampler.sample(5, seed=4), images)
        assert torch.equal(images, model.decode(sampler.latents(5, seed=3)).mean)
        assert sampler.fitted_on == {"data": "digits", "examples": 300, "seed": 0}
        again = vaezoo.fit_sampler(model, load_dataset("digits"), name, examples=300, **QUICK.get(name, {}))
        place = vaezoo.save_sampler(again, tmp_path / "model")
        assert {path.suffix for path in place.iterdir()} == {".safetensors", ".json"}
        loaded = vaezoo.load_sampler(tmp_path / "model", name)
        assert torch.equal(loaded.sample(5, seed=3), images)
        assert (loaded.name, loaded.options, loaded.fitted_on) == (sampler.name, sampler.options, sampler.fitted_on)

    def test_it_is_fitted_to_posterior_samples_of_the_training_data(self, model) -> None:
        sampler = vaezoo.fit_sampler(model, "digits", "normal")
        data = binarize(load_dataset("digits"), "static")
        with torch.no_grad():
            posterior = model.encode(data.batch(torch.arange(len(data))))
        spread = torch.cov(posterior.mean.T) + torch.diag(posterior.variance.mean(0))
        covariance = sampler.density.scale @ sampler.density.scale.T
        assert torch.allclose(covariance, spread, atol=0.15)  # a tenth of this for the means alone
        assert spread.diagonal().min() > 0.5

    @pytest.mark.parametrize(
        "variant",
        [name if name in SOME else pytest.param(name, marks=pytest.mark.full) for name in vaezoo.list_variants()],
    )
    def test_every_variant_has_samplers_or_an_error_with_the_reason(self, variant) -> None:
        entry = variants.get(variant)
        conditional = entry.context != "optional"
        whole, context = with_requirements(variant), 10 if conditional else 0
        given = vaezoo.create(whole, shape=SHAPE, context=context, examples=30, **example_of(whole))
        x = torch.rand(30, *SHAPE).round()
        posterior = given.eval().encode(x[:2], torch.arange(2) if conditional else None)
        discrete = code_indices(posterior) is not None or getattr(posterior.support, "is_discrete", False)
        if conditional or discrete:
            with pytest.raises(ConfigError, match="conditional" if conditional else "discrete codes"):
                vaezoo.fit_sampler(given, x, "normal")
        else:
            images = vaezoo.fit_sampler(given, x, "normal").sample(3, seed=0)
            assert images.shape == (3, *SHAPE) and torch.isfinite(images).all()

    @pytest.mark.parametrize(
        ("data", "options", "error", "words"),
        [
            ("digits", {"name": "gausian-mixture"}, UnknownNameError, "gaussian-mixture"),
            ("digits", {"components": 3}, ConfigError, "unknown option"),
            ("digits", {"name": "gaussian-mixture", "components": 0}, ConfigError, "from 1 to"),
            ("digits", {"examples": 0}, ConfigError, "examples = 0"),
            (torch.ones(9, 3, 9, 9), {}, ShapeError, "expects"),
            ("digits", {"name": "gaussian-mixture", "components": 20, "examples": 30}, DataError, "at least 40"),
        ],
    )
    def test_invalid_calls(self, data, options, error, words, model) -> None:
        with pytest.raises(error, match=words):
            vaezoo.fit_sampler(model, data, **({"name": "normal"} | options))

    def test_invalid_sizes_and_names(self, saved) -> None:
        with pytest.raises(ConfigError, match="numbers"):
            GaussianMixture((64, 64, 64))
        with pytest.raises(ShapeError, match="n = 0"):
            vaezoo.load_sampler(saved, "gaussian-mixture").sample(0)
        # Names are validated before they become paths.
        (saved / "samplers" / "mine").mkdir()
        for name in ("mine", "../samplers/gaussian-mixture", "gaussian_mixture", ""):
            with pytest.raises(UnknownNameError):
                vaezoo.load_sampler(saved, name)
        with pytest.raises(UnknownNameError, match="gaussian-mixture"):
            vaezoo.load_sampler(saved, "normal")


class TestFiles:
    @pytest.mark.parametrize(
        "changes",
        [
            *({"sampler": name} for name in ("normal", "../../etc/passwd")),
            *({"options": each} for each in ({"components": 4}, {"components": 10**9}, {"_target_": "os.system"}, [])),
            *({"latent": latent} for latent in ([3], [10**9], ["2"])),
            *({"format": 2}, {"model": "0" * 64}, {"fitted_on": "x"}, {"extra": 1}),
        ],
    )
    def test_hostile_states_are_refused(self, changes, saved) -> None:
        folder = saved / "samplers" / "gaussian-mixture"
        state = {**json.loads((folder / "state.json").read_text()), **changes}
        (folder / "state.json").write_text(canonical(state))
        manifest, data = json.loads((folder / "manifest.json").read_text()), (folder / "state.json").read_bytes()
        manifest["files"]["state.json"] = {"size": len(data), "sha256": sha256(data)}
        (folder / "manifest.json").write_text(canonical(manifest))
        with pytest.raises(CorruptWeightsError):
            vaezoo.load_sampler(saved, "gaussian-mixture")

    @pytest.mark.parametrize(
        ("key", "value"),
        [("weights", -1.0), ("weights", 7.0), ("scale", -1.0), ("scale", torch.nan), ("loc", torch.inf)],
    )
    def test_invalid_distributions_are_refused(self, key, value, model, tmp_path) -> None:
        sampler = vaezoo.fit_sampler(model, "digits", "gaussian-mixture", components=3, examples=100)
        getattr(sampler.density, key)[0] = value
        vaezoo.save_sampler(sampler, tmp_path / "model")
        with pytest.raises(CorruptWeightsError, match=r"NaN|no distribution"):
            vaezoo.load_sampler(tmp_path / "model", "gaussian-mixture")

    def test_a_sampler_belongs_to_its_model(self, saved, tmp_path) -> None:
        torch.manual_seed(9)
        other = vaezoo.create("vae", shape=SHAPE, latent=2, backbone={"name": "mlp", "hidden": [16]}).eval()
        folder = vaezoo.save(other, tmp_path / "other")
        shutil.copytree(saved / "samplers", folder / "samplers")
        with pytest.raises(CorruptWeightsError, match="another model"):
            vaezoo.load_sampler(folder, "gaussian-mixture")
        with pytest.raises(ConfigError, match="another model"):
            vaezoo.save_sampler(vaezoo.load_sampler(saved, "gaussian-mixture"), folder)


def test_a_sampler_prints_one_line(saved) -> None:
    assert repr(vaezoo.load_sampler(saved, "gaussian-mixture")) == (
        "Sampler gaussian-mixture(components=3) of latents (2,), fitted on digits"
    )
