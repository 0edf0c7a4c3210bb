"""`latent_report` against numpy on the same latents, and against Gaussians of known moments."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

import vaezoo
from vaezoo.core import VAE, code_indices, sample_with_log_prob
from vaezoo.data import StreamedDataset, from_tensors, load_dataset
from vaezoo.distributions import ContinuousDelta, DiagonalNormal, FlowPosterior
from vaezoo.errors import CompositionError, ConfigError, DataError, SupportError
from vaezoo.evaluation import LatentReport, latent_report
from vaezoo.priors import StandardNormalPrior

GRID = (3, 4, 5)


class Given(nn.Module):
    """An encoder whose posterior is a function of x."""

    def __init__(self, posterior) -> None:
        super().__init__()
        self.posterior = posterior

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        return self.posterior(x)


def model_of(posterior, shape: tuple[int, ...] = GRID) -> VAE:
    """Returns a float64 model with latents of the shape of x."""
    made = vaezoo.create("vae", shape=shape, latent=math.prod(shape), likelihood="gaussian").double()
    prior = StandardNormalPrior(shape).double()
    return VAE(Given(posterior), made.decoder, prior, made.objective, shape=shape, latent=shape).eval()


def data_of(*shape: int, seed: int = 0) -> Tensor:
    """Returns correlated latents whose channels have different means and scales: float64, exact in float32."""
    z = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = z + 0.6 * z.roll(1, 1) + 0.5 * z.roll(1, -1)
    size = (1, shape[1], *[1] * (len(shape) - 2))
    return (z * torch.linspace(0.5, 2.0, shape[1]).view(size) + torch.arange(shape[1]).view(size)).float().double()


def points(x: Tensor) -> Distribution:
    return ContinuousDelta(x)


def noisy(x: Tensor) -> Distribution:
    """A posterior whose scale depends on example, channel and position."""
    return DiagonalNormal(x, 0.3 * x.sin() - 0.5, x.dim() - 1)


def assert_near(found: object, wanted: object, **tolerances: float) -> None:
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(wanted, float), **{"rtol": 1e-10, **tolerances})


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_a_grid_of_points_has_the_moments_of_numpy(batch_size: int) -> None:
    z = data_of(50, *GRID)
    found = latent_report(model_of(points), z, batch_size=batch_size)
    channels = np.moveaxis(z.numpy(), 1, 0).reshape(3, -1)
    assert_near(found.mean, channels.mean(1))
    assert_near(found.std, channels.std(1))
    assert_near(found.correlation, np.corrcoef(channels), atol=1e-12)
    for axis, values in enumerate(found.neighbors, 2):
        length = z.shape[axis] - 1
        pairs = zip(z.narrow(axis, 0, length).unbind(1), z.narrow(axis, 1, length).unbind(1), strict=True)
        assert_near(values, [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in pairs])
    assert_near(found.shift_factor, channels.mean())
    assert_near(found.scaling_factor, 1.0 / channels.std())
    assert_near(found.channel_shift_factors, channels.mean(1))
    assert_near(found.channel_scaling_factors, 1.0 / channels.std(1))
    assert found.latent == GRID and found.rate is found.rates is None and found.dead == ()
    assert found.signal == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(4,), GRID, (3, 6)])
def test_moments_with_noise_are_those_of_many_draws_and_rates_those_of_torch(shape: tuple[int, ...]) -> None:
    z = data_of(30, *shape, seed=1)
    model = model_of(noisy, shape)
    found = latent_report(model, z)
    normal = Normal(z, (0.3 * z.sin() - 0.5).exp())
    draws = normal.sample((1_500,)).flatten(0, 1)
    channels = np.moveaxis(draws.numpy(), 1, 0).reshape(shape[0], -1)
    assert_near(found.mean, channels.mean(1), rtol=0, atol=0.02)
    assert_near(found.std, channels.std(1), rtol=0.01)
    assert_near(found.correlation, np.corrcoef(channels), rtol=0, atol=0.01)
    assert_near(found.scaling_factor, 1.0 / channels.std(), rtol=0.01)
    for axis, values in enumerate(found.neighbors, 2):
        length = draws.shape[axis] - 1
        first, second = (draws.narrow(axis, at, length).movedim(1, 0).flatten(1) for at in (0, 1))
        assert_near(values, [np.corrcoef(*pair)[0, 1] for pair in zip(first, second, strict=True)], rtol=0, atol=0.01)
    divergence = torch.distributions.kl_divergence(normal, Normal(0.0, 1.0)).mean(0).reshape(shape[0], -1).sum(1)
    assert_near(found.rates, divergence)
    assert_near(found.rate, divergence.sum())
    centers = latent_report(model, z, noise=False)
    assert_near(centers.std, z.movedim(1, 0).flatten(1).std(1, correction=0))
    assert not centers.noise and centers.signal == found.signal
    assert_near(latent_report(model_of(lambda x: Independent(normal_of(x), x.dim() - 1), shape), z).std, found.std)


def normal_of(x: Tensor) -> Normal:
    return Normal(x, (0.3 * x.sin() - 0.5).exp())


@pytest.mark.parametrize("noise", [True, False])
def test_the_batch_size_changes_nothing(noise: bool) -> None:
    z = (data_of(41, *GRID) + 1e4).float().double()  # sums of squares would lose 8 digits
    model = model_of(lambda x: DiagonalNormal(x, 0.3 * x.sin() - 0.5, 3))
    found = [latent_report(model, z, noise=noise, batch_size=size, seed=size).as_dict() for size in (1, 8, 41)]
    for each in found[1:]:
        for key in ("mean", "std", "rates", "signal", "scaling_factor", "channel_scaling_factors"):
            assert_near(each[key], found[0][key], rtol=1e-6)
        for key in ("correlation", "neighbors"):
            assert_near(each[key], found[0][key], rtol=0, atol=1e-6)
    assert_near(found[0]["scaling_factor"], 1.0 / (z.numpy().var() + noise * (0.6 * z.sin() - 1).exp().mean()) ** 0.5)


def test_an_encoder_with_a_known_mean_deviation_and_correlation() -> None:
    """z = A x + b + σ ε for x ~ N(0, 1) has covariance A Aᵀ + σ², and a share of signal that follows from both."""
    weight = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).double()
    bias, scale = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.5, 1.0, 1.5]).double()
    x = data_of(2_000, 3)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov(correction=0))).T  # mean 0, covariance 1
    model = model_of(lambda x: DiagonalNormal(x @ weight.T + bias, scale.log().expand_as(x)), (3,))
    found = latent_report(model, x)
    covariance = weight @ weight.T + scale.square().diag()
    assert_near(found.mean, bias, atol=1e-7)
    assert_near(found.std, [4.25**0.5, 3.0**0.5, 1.5], rtol=1e-6)
    assert_near(
        found.correlation, covariance / torch.outer(covariance.diag().sqrt(), covariance.diag().sqrt()), atol=1e-6
    )
    assert_near(found.signal, [4 / 4.25, 2 / 3, 0], rtol=1e-6, atol=1e-12)
    rates = 0.5 * (covariance.diag() + bias.square() - 1) - scale.log()
    assert_near(found.rates, rates, rtol=1e-6)
    shift = (1.0 - 2.0 + 0.5) / 3
    assert_near(found.shift_factor, shift, rtol=1e-6)
    assert_near(found.scaling_factor, ((4.25 + 3.0 + 2.25 + 1.0 + 4.0 + 0.25) / 3 - shift**2) ** -0.5, rtol=1e-6)
    assert found.dead == (2,) and found.neighbors == ()
    assert found.verdict.startswith("2 of 3 latents carry information about the data (latent 2: none)")


def test_posteriors_that_are_not_factorized_are_drawn() -> None:
    """A covariance within the posterior correlates the latents, and u² of u ~ N(0, s²) has moments s² and 2 s⁴."""
    inner = torch.tensor([[1.0, 0.9], [0.9, 1.0]]).double()
    x = data_of(4_000, 2, seed=5)  # not the seed of the draws, which would repeat the same numbers
    found = latent_report(model_of(lambda x: MultivariateNormal(x, inner), (2,)), x)
    covariance = np.cov(x.numpy().T) + inner.numpy()
    assert_near(found.std, covariance.diagonal() ** 0.5, rtol=0.05)
    assert found.correlation is not None and found.correlation[0][1] is not None
    assert abs(found.correlation[0][1] - covariance[0, 1] / covariance.diagonal().prod() ** 0.5) < 0.05
    assert_near(found.signal, x.numpy().var(0) / covariance.diagonal(), rtol=0.05)
    assert found.rates is None and found.rate is not None
    exact = 0.5 * (2.0 - 2.0 - inner.logdet()) + 0.5 * x.square().sum(1).mean()
    assert abs(found.rate - exact) < 0.05 * exact
    s = x.abs() + 0.5
    flow = lambda u: (u.square(), u[..., 0])  # noqa: E731
    squared = model_of(lambda x: FlowPosterior(DiagonalNormal(0.0 * x, (x.abs() + 0.5).log()), flow, (2,)), (2,))
    found = latent_report(squared, x)
    assert_near(found.mean, s.square().mean(0), rtol=0.1)
    assert_near(found.std, (2 * s.pow(4).mean(0) + s.square().var(0)).sqrt(), rtol=0.15)
    with pytest.raises(SupportError, match="all equal 0"):  # the centers, u = 0
        latent_report(squared, x, noise=False)


def test_the_rate_under_a_prior_without_a_closed_form_is_drawn() -> None:
    model = vaezoo.create("vamp-vae", shape=(1, 8, 8), latent=4, pseudo_inputs=3).eval()
    x = (torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    found = latent_report(model, x)
    with torch.no_grad():
        drawn = torch.stack([model(x).rate for _ in range(20)]).mean()
    assert found.rates is None and found.rate == pytest.approx(float(drawn), abs=0.3)


@pytest.mark.parametrize("name", ["vq-vae", "lfq-vae", "residual-vq-vae"])
def test_codes_are_measured_as_embedded_vectors(name: str) -> None:
    model = vaezoo.create(name, shape=(1, 8, 8)).eval()
    x = (torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    codes = model.encode(x)
    assert code_indices(codes) is not None
    z = sample_with_log_prob(codes, 1)[0][0].double().movedim(1, 0).flatten(1).numpy()
    found = latent_report(model, x, batch_size=9)
    assert_near(found.mean, z.mean(1), rtol=1e-5, atol=1e-6)
    assert_near(found.std, z.std(1), rtol=1e-5)


@pytest.mark.parametrize("name", ["categorical-vae", "joint-vae"])
def test_categories_are_refused(name: str) -> None:
    model = vaezoo.create(name, shape=(1, 8, 8)).eval()
    with pytest.raises(CompositionError, match="categories"):
        latent_report(model, torch.zeros(5, 1, 8, 8))


def test_constant_channels_and_latents() -> None:
    z = data_of(20, *GRID)
    z[:, 1] = 3.25
    found = latent_report(model_of(points), z)
    assert found.dead == (1,) and found.std[1] == 0.0 and found.channel_scaling_factors[1] == 1.0
    assert found.correlation is not None and found.correlation[0][1] is None and found.neighbors[0][1] is None
    assert "2 of 3 channels" in found.verdict and "(channel 1: none)" in found.verdict
    pattern = torch.randn(1, *GRID).double().expand(20, *GRID)  # the same for all examples: no information
    assert latent_report(model_of(points), pattern).dead == (0, 1, 2)
    with pytest.raises(SupportError, match=r"all equal 3\.25"):
        latent_report(model_of(points), torch.full((20, *GRID), 3.25).double())
    with pytest.raises(SupportError, match="NaN"):
        latent_report(model_of(lambda x: ContinuousDelta(x / 0.0)), z)
    with pytest.raises(DataError, match="at least 2"):
        latent_report(model_of(points), z[:1])
    for given, message in (
        ({"write": True}, "by hand"),
        ({"per_channel": True}, "expected write=True"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": -3}, "batch_size = -3"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ConfigError, match=message):
            latent_report(model_of(points), z, **given)


def test_many_latents_have_no_correlations_and_no_stored_factors_of_each() -> None:
    z = data_of(10, 600)
    found = latent_report(model_of(points, (600,)), z)
    assert found.correlation is None
    assert_near(found.std, z.std(0, correction=0))
    with pytest.raises(ConfigError, match="512"):
        found.factors(per_channel=True)


def test_texts() -> None:
    found = latent_report(model_of(noisy), data_of(30, *GRID))
    lines = repr(found).splitlines()
    assert lines[0].startswith("LatentReport: draws of the posterior of 30 train examples of ")
    assert len(lines) == 2 + 4 + 3 and lines[1].strip() == found.verdict
    html = found._repr_html_()
    assert html.count("<tr>") == 4 and f"{found.std[0]:.3g}" in html
    assert len(repr(latent_report(model_of(points, (200,)), data_of(10, 200))).splitlines()) < 25
    table = found.as_dict()
    assert table["std"] == list(found.std) and table["verdict"] == found.verdict and table["latent"] == [3, 4, 5]


def test_the_formula_in_the_text_gives_the_scaled_latents() -> None:
    for offset in (-7.5, 7.5):
        z = torch.tensor([[offset - 0.5], [offset + 0.5]]).double()
        formula = repr(latent_report(model_of(points, (1,)), z)).splitlines()[-1]
        assert [eval(formula.partition(" = ")[2], {"z": each}) for each in z.flatten().tolist()] == [-1.0, 1.0]


@pytest.mark.parametrize("binarize", ["none", "dynamic"])
def test_images_that_are_read_in_batches_give_the_report_of_those_in_memory(tmp_path: Path, binarize: str) -> None:
    for number in range(23):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=3).double().eval()
    model.config = {**model.config, "data": {"name": "x", "binarize": binarize}}
    streamed = load_dataset(f"folder:{tmp_path}", memory_limit=1)
    assert isinstance(streamed, StreamedDataset)
    found = latent_report(model, streamed, batch_size=5)
    wanted = latent_report(model, load_dataset(f"folder:{tmp_path}"))
    assert_near(found.std, wanted.std)
    assert found.data == wanted.data == f"folder:{tmp_path.name}" and found.examples == len(streamed) > 10


def small(folder: Path) -> tuple[VAE, Tensor, LatentReport]:
    backbone = {"name": "resnet", "channels": [8, 8]}
    model = vaezoo.create("kl-autoencoder", shape=(3, 16, 16), latent=[4, 8, 8], backbone=backbone).eval()
    x = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return model, x, latent_report(model, x)


@pytest.mark.parametrize("per_channel", [False, True])
def test_stored_factors_survive_saving_and_normalize_draws(tmp_path: Path, per_channel: bool) -> None:
    model, x, found = small(tmp_path)
    with pytest.raises(ConfigError, match="no scaling_factor"):
        model.latents(x, scaled=True)
    with pytest.raises(ConfigError, match="no scaling_factor"):
        model.decode_latents(torch.zeros(1, 4, 8, 8), scaled=True)
    assert latent_report(model, x, write=True, per_channel=per_channel) == found
    loaded = vaezoo.load(vaezoo.save(model, tmp_path / "model"))
    assert loaded.config["latents"] == found.factors(per_channel=per_channel)
    means, scales = (found.channel_shift_factors, found.channel_scaling_factors) if per_channel else (
        (found.shift_factor,) * 4, (found.scaling_factor,) * 4,
    )  # fmt: skip
    z, scaled = loaded.latents(x), loaded.latents(x, scaled=True)
    torch.testing.assert_close(z, model.encode(x).mean, rtol=0, atol=0)
    for channel in range(4):
        torch.testing.assert_close(scaled[:, channel], (z[:, channel] - means[channel]) * scales[channel])
    torch.testing.assert_close(loaded.decode_latents(scaled, scaled=True), model.reconstruct(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loaded.decode_latents(z), model.reconstruct(x))
    drawn = torch.stack([loaded.latents(x, scaled=True, sample=True, seed=seed) for seed in range(40)]).double()
    if per_channel:
        drawn = drawn.movedim(2, 0).flatten(1)
        assert drawn.mean(1).abs().max() < 0.02 and (drawn.std(1) - 1).abs().max() < 0.02
    else:
        assert drawn.mean().abs() < 0.01 and (drawn.std() - 1).abs() < 0.01
    card = (tmp_path / "model" / "README.md").read_text()
    assert "## Latents" in card and f"{scales[0]:.6g}" in card and "24 train examples" in card
    again = vaezoo.load(vaezoo.save(loaded, tmp_path / "again"))
    assert again.config["latents"] == loaded.config["latents"]


def test_draws_of_latents_have_seeds_and_gradients_as_encode(tmp_path: Path) -> None:
    model, x, _ = small(tmp_path)
    one, other = (model.latents(x, sample=True, seed=seed) for seed in (1, 2))
    assert torch.equal(one, model.latents(x, sample=True, seed=1)) and not torch.equal(one, other)
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(one, model.latents(x, sample=True, generator=generator))
    assert not one.requires_grad and not model.decode_latents(one).requires_grad
    z = one.requires_grad_()
    assert torch.autograd.grad(model.decode_latents(z).sum(), z)[0].abs().sum() > 0
    assert model.train().latents(x, sample=True).requires_grad


def test_writing_keeps_the_tensors_that_two_models_share() -> None:
    model = vaezoo.create("vae", shape=(1, 8, 8), latent=2)
    twin = model.replace(objective=model.objective)
    latent_report(model, (torch.rand(20, 1, 8, 8) < 0.5).float(), write=True)
    model.half()
    assert next(twin.parameters()).dtype == torch.float32


def test_a_context_is_used() -> None:
    model = vaezoo.create("cvae", shape=(1, 8, 8), latent=3, context=10).eval()
    x, c = (torch.rand(30, 1, 8, 8) < 0.5).float(), torch.arange(30) % 10
    found = latent_report(model, from_tensors((x, c)), batch_size=7)
    posterior = model.encode(x, c)
    variance = posterior.mean.double().var(0, correction=0) + posterior.variance.double().mean(0)
    assert_near(found.std, variance.sqrt(), rtol=1e-5)
    torch.testing.assert_close(model.latents(x, c), posterior.mean)
