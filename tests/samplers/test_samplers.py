"""Ex-post samplers: densities against other implementations, what is refused, and files."""

import json
import shutil
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch.distributions import Distribution

import vaezoo
from vaezoo.core import code_indices
from vaezoo.data import binarize, load_dataset
from vaezoo.errors import ConfigError, CorruptWeightsError, DataError, ShapeError, UnknownNameError
from vaezoo.registry import samplers, variants, with_requirements
from vaezoo.samplers.flow import Flow
from vaezoo.samplers.gaussian_mixture import GaussianMixture
from vaezoo.samplers.normal import Normal
from vaezoo.storage.documents import canonical, sha256

NAMES = samplers.names()
SHAPE = (1, 8, 8)
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
    def test_draws_have_the_moments_of_what_was_fitted(self, name, latent) -> None:
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

    def test_the_normal_is_scipys(self) -> None:
        z, density = correlated(300), Normal((3,))
        density.fit(z, 0)
        expected = multivariate_normal(z.mean(0), np.cov(z.numpy().T)).logpdf(z.numpy())
        assert torch.allclose(density().log_prob(z.float()).double(), torch.from_numpy(expected), atol=1e-3)

    def test_the_mixture_is_scikit_learns(self) -> None:
        z = torch.cat([correlated(300), 3 - 2 * correlated(200)])
        density = GaussianMixture((3,), components=4)
        density.fit(z, 5)
        theirs = SklearnMixture(4, max_iter=500, random_state=5).fit(z.numpy())
        points = torch.cat([z, 10 * torch.randn(100, 3).double()])
        expected = torch.from_numpy(theirs.score_samples(points.numpy()))
        assert torch.allclose(density().log_prob(points.float()).double(), expected, rtol=1e-3, atol=1e-3)

    def test_the_mixture_finds_one_that_is_known(self) -> None:
        """Its held-out log-likelihood is that of the true density, to what 4,000 examples can teach."""
        parts = torch.distributions.MultivariateNormal(
            torch.tensor([[0.0, 0.0], [6.0, 1.0], [-3.0, 5.0]]).double(),
            torch.stack([torch.eye(2), 0.2 * torch.eye(2), torch.tensor([[1.0, 0.9], [0.9, 1.0]])]).double(),
        )
        weights = torch.distributions.Categorical(torch.tensor([0.5, 0.3, 0.2]).double())
        truth = torch.distributions.MixtureSameFamily(weights, parts)
        density = GaussianMixture((2,), components=3)
        density.fit(truth.sample((4000,)), 0)
        test = truth.sample((20_000,))
        gap = (truth.log_prob(test) - density().log_prob(test.float())).mean().item()
        assert 0 <= gap + 5e-4 < 0.01  # 17 parameters, 8,000 numbers: 0.002 nats
        assert density.weights.sort().values.tolist() == pytest.approx([0.2, 0.3, 0.5], abs=0.03)

    def test_the_flow_is_a_density_that_learns(self) -> None:
        """Its integral is 1, the draws follow it, and it tells more of a ring than the Gaussian that it starts as."""
        angle = 2 * torch.pi * torch.rand(3000).double()
        ring = (3 + 0.3 * torch.randn(3000).double()).unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1) + 5
        start, density = Normal((2,)), Flow((2,), transforms=6, hidden=(32,), steps=250)
        start.fit(ring, 0)
        density.fit(ring, 0)
        with torch.no_grad():
            side = torch.linspace(-6, 16, 441)
            grid = torch.cartesian_prod(side, side)
            total = density().log_prob(grid).exp().sum() * (side[1] - side[0]) ** 2
            assert total.item() == pytest.approx(1, abs=0.01)
            gain = (density().log_prob(ring.float()) - start().log_prob(ring.float())).mean().item()
            assert gain > 0.15
            radius = (density().sample((4000,)) - 5).norm(dim=1)
            inside = (grid - 5).norm(dim=1) < 1.5
            mass = density().log_prob(grid).exp()[inside].sum() * (side[1] - side[0]) ** 2
            assert (radius < 1.5).float().mean().item() == pytest.approx(mass.item(), abs=0.03)

    @pytest.mark.parametrize("name", NAMES)
    def test_too_few_or_broken_latents_are_refused(self, name) -> None:
        density = samplers.get(name)((2,))
        with pytest.raises(DataError, match="at least"):
            density.fit(torch.zeros(1, 2).double(), 0)
        with pytest.raises(DataError, match="NaN"):
            density.fit(torch.full((100, 2), torch.nan).double(), 0)

    @pytest.mark.parametrize("name", ["normal", "gaussian-mixture"])
    def test_latents_on_a_line_can_be_fitted(self, name) -> None:
        z = torch.randn(500, 1).double() * torch.tensor([1.0, 2.0, 0.0])
        density = samplers.get(name)((3,))
        density.fit(z, 0)
        assert torch.isfinite(density().sample((50,))).all() and density.is_valid()

    def test_large_latents_are_refused_before_anything_is_made(self) -> None:
        with pytest.raises(ConfigError, match="numbers"):
            GaussianMixture((64, 64, 64))


def is_discrete(posterior: Distribution) -> bool:
    try:
        return bool(posterior.support.is_discrete)
    except NotImplementedError:
        return False


class TestFitting:
    @pytest.mark.parametrize("name", NAMES)
    def test_samples_are_images_and_repeat_themselves(self, name, model) -> None:
        before = torch.get_rng_state()
        options = QUICK.get(name, {})
        sampler = vaezoo.fit_sampler(model, "digits", name, examples=300, **options)
        images = sampler.sample(5, seed=3)
        assert torch.equal(before, torch.get_rng_state())
        assert images.shape == (5, *SHAPE) and images.min() >= 0 and images.max() <= 1
        again = vaezoo.fit_sampler(model, load_dataset("digits"), name, examples=300, **options)
        assert torch.equal(again.sample(5, seed=3), images)
        assert not torch.equal(sampler.sample(5, seed=4), images)
        assert torch.equal(images, model.decode(sampler.latents(5, seed=3)).mean)
        assert sampler.fitted_on == {"data": "digits", "examples": 300, "seed": 0}

    def test_it_is_fitted_on_draws_of_the_posterior_of_what_training_saw(self, model) -> None:
        sampler = vaezoo.fit_sampler(model, "digits", "normal")
        data = binarize(load_dataset("digits"), "static")
        with torch.no_grad():
            posterior = model.encode(data.batch(torch.arange(len(data))))
        spread = torch.cov(posterior.mean.T) + torch.diag(posterior.variance.mean(0))
        covariance = sampler.density.scale @ sampler.density.scale.T
        assert torch.allclose(covariance, spread, atol=0.15)  # of the means alone it would be a tenth of this
        assert spread.diagonal().min() > 0.5

    def test_conditional_models_and_codes_are_refused(self) -> None:
        conditional = vaezoo.create("cvae", shape=SHAPE, latent=2, context=10)
        with pytest.raises(ConfigError, match="conditional"):
            vaezoo.fit_sampler(conditional, "digits", "normal")
        with pytest.raises(ConfigError, match="discrete codes"):
            vaezoo.fit_sampler(vaezoo.create("vq-vae", shape=SHAPE, codes=4), "digits", "normal")

    @pytest.mark.parametrize("variant", vaezoo.list_variants())
    def test_every_variant_has_samplers_or_says_why_not(self, variant) -> None:
        entry = variants.get(variant)
        conditional = entry.context != "optional"
        given = vaezoo.create(with_requirements(variant), shape=SHAPE, context=10 if conditional else 0, examples=30)
        x = torch.rand(30, *SHAPE).round()
        posterior = given.eval().encode(x[:2], torch.arange(2) if conditional else None)
        codes = code_indices(posterior) is not None or is_discrete(posterior)
        if conditional or codes:
            with pytest.raises(ConfigError, match="conditional" if conditional else "discrete codes"):
                vaezoo.fit_sampler(given, x, "normal")
        else:
            images = vaezoo.fit_sampler(given, x, "normal").sample(3, seed=0)
            assert images.shape == (3, *SHAPE) and torch.isfinite(images).all()

    @pytest.mark.parametrize(
        ("call", "error", "words"),
        [
            (lambda m: vaezoo.fit_sampler(m, "digits", "gausian-mixture"), UnknownNameError, "gaussian-mixture"),
            (lambda m: vaezoo.fit_sampler(m, "digits", "normal", components=3), ConfigError, "unknown option"),
            (lambda m: vaezoo.fit_sampler(m, "digits", "gaussian-mixture", components=0), ConfigError, ">= 1"),
            (lambda m: vaezoo.fit_sampler(m, "digits", "normal", examples=0), ConfigError, "examples = 0"),
            (lambda m: vaezoo.fit_sampler(m, torch.rand(9, 3, 9, 9).round(), "normal"), ShapeError, "expects"),
            (
                lambda m: vaezoo.fit_sampler(m, "digits", "gaussian-mixture", components=20, examples=30),
                DataError,
                "at least 40",
            ),
            (lambda m: vaezoo.fit_sampler(m, "digits", "normal").sample(0), ShapeError, "n = 0"),
        ],
    )
    def test_bad_calls_say_what_is_wrong(self, call, error, words, model) -> None:
        with pytest.raises(error, match=words):
            call(model)

    def test_a_plug_in_is_found_by_its_name(self, model, monkeypatch) -> None:
        point = EntryPoint("twice", "vaezoo.samplers.normal:normal", "vaezoo.samplers")
        monkeypatch.setattr(samplers, "plugins", lambda: {"twice": point})
        assert "twice" in samplers.names()
        assert vaezoo.fit_sampler(model, "digits", "twice", examples=50).name == "twice"


def resign(folder, **changes):
    """Writes the state of a sampler's folder with a correct manifest, as somebody who wants to deceive would."""
    state = {**json.loads((folder / "state.json").read_text()), **changes}
    (folder / "state.json").write_text(canonical(state))
    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / "state.json").read_bytes()
    manifest["files"]["state.json"] = {"size": len(data), "sha256": sha256(data)}
    (folder / "manifest.json").write_text(canonical(manifest))


class TestFiles:
    @pytest.mark.parametrize("name", NAMES)
    def test_what_is_saved_draws_the_same(self, name, model, tmp_path) -> None:
        sampler = vaezoo.fit_sampler(model, "digits", name, examples=100, **QUICK.get(name, {}))
        place = vaezoo.save_sampler(sampler, tmp_path / "model")
        assert {path.suffix for path in place.iterdir()} == {".safetensors", ".json"}
        loaded = vaezoo.load_sampler(tmp_path / "model", name)
        assert torch.equal(loaded.sample(4, seed=1), sampler.sample(4, seed=1))
        assert (loaded.name, loaded.options) == (sampler.name, sampler.options)
        assert loaded.fitted_on == sampler.fitted_on

    def test_every_flipped_bit_and_every_cut_is_noticed(self, saved) -> None:
        for path in (saved / "samplers" / "gaussian-mixture").iterdir():
            data = path.read_bytes()
            for position in range(0, len(data), max(1, len(data) // 40)):
                broken = bytearray(data)
                broken[position] ^= 1 << (position % 8)
                path.write_bytes(broken)
                with pytest.raises(CorruptWeightsError):
                    vaezoo.load_sampler(saved, "gaussian-mixture")
            path.write_bytes(data[: len(data) // 2])
            with pytest.raises(CorruptWeightsError):
                vaezoo.load_sampler(saved, "gaussian-mixture")
            path.write_bytes(data)
        vaezoo.load_sampler(saved, "gaussian-mixture")

    @pytest.mark.parametrize(
        "changes",
        [
            {"format": 2},
            {"sampler": "normal"},
            {"sampler": "../../etc/passwd"},
            {"options": {"components": 4}},
            {"options": {"components": 10**9}},
            {"options": {"_target_": "os.system"}},
            {"options": []},
            {"latent": [3]},
            {"latent": [10**9]},
            {"latent": ["2"]},
            {"latent": None},
            {"model": "0" * 64},
            {"fitted_on": "x"},
            {"extra": 1},
        ],
    )
    def test_hostile_states_are_refused(self, changes, saved) -> None:
        resign(saved / "samplers" / "gaussian-mixture", **changes)
        with pytest.raises(CorruptWeightsError):
            vaezoo.load_sampler(saved, "gaussian-mixture")

    @pytest.mark.parametrize(
        ("key", "value"),
        [("weights", -1.0), ("weights", 7.0), ("scale", -1.0), ("scale", torch.nan), ("loc", torch.inf)],
    )
    def test_numbers_that_are_no_distribution_are_refused(self, key, value, model, tmp_path) -> None:
        sampler = vaezoo.fit_sampler(model, "digits", "gaussian-mixture", components=3, examples=100)
        getattr(sampler.density, key)[0] = value
        vaezoo.save_sampler(sampler, tmp_path / "model")
        with pytest.raises(CorruptWeightsError, match=r"NaN|no distribution"):
            vaezoo.load_sampler(tmp_path / "model", "gaussian-mixture")

    def test_a_sampler_stays_with_its_model(self, saved, tmp_path) -> None:
        torch.manual_seed(9)
        other = vaezoo.create("vae", shape=SHAPE, latent=2, backbone={"name": "mlp", "hidden": [16]}).eval()
        folder = vaezoo.save(other, tmp_path / "other")
        shutil.copytree(saved / "samplers", folder / "samplers")
        with pytest.raises(CorruptWeightsError, match="another model"):
            vaezoo.load_sampler(folder, "gaussian-mixture")
        with pytest.raises(ConfigError, match="another model"):
            vaezoo.save_sampler(vaezoo.load_sampler(saved, "gaussian-mixture"), folder)

    def test_names_are_looked_up_before_they_become_paths(self, saved) -> None:
        (saved / "samplers" / "mine").mkdir()
        for name in ("mine", "../samplers/gaussian-mixture", "gaussian_mixture", ""):
            with pytest.raises(UnknownNameError):
                vaezoo.load_sampler(saved, name)
        with pytest.raises(UnknownNameError, match="gaussian-mixture"):
            vaezoo.load_sampler(saved, "normal")
