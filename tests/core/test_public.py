"""Public methods of every variant: gradients, inference mode, codes, numbers of numpy, temperatures, generators."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cases import NAMES, ONE_EACH, Case, contexts_of, over
from support.runs import fit, small_recipe, trainer
from torch import Tensor, nn

import vaezoo
from vaezoo.core import VAE, center, sample_with_log_prob, seeded
from vaezoo.data import as_dataset
from vaezoo.errors import (
    CompositionError,
    ConfigError,
    ContextError,
    ShapeError,
    SupportError,
    UnknownNameError,
    VaezooError,
)
from vaezoo.registry import create

SHAPE = (1, 8, 8)
#: contexts take turns
CASES = [Case(name, context=contexts_of(name)[place % len(contexts_of(name))]) for place, name in enumerate(NAMES)]


@over(CASES, CASES)
def test_in_eval_mode_results_go_to_numpy_and_gradients_are_recorded_for_those_who_use_them(case: Case) -> None:
    model, (x, c) = case.build().eval(), case.inputs(3)
    posterior, z = model.encode(x, c), torch.zeros(3, *model.latent)
    likelihood = model.decode(z, c)
    drawn, log_q = sample_with_log_prob(posterior, 2)
    for found in (center(posterior), drawn, log_q, likelihood.mean, likelihood.log_prob(x)):
        assert np.isfinite(found.numpy()).all()
    z.requires_grad_()
    assert torch.autograd.grad(model.decode(z, c).mean.sum(), z)[0].shape == z.shape
    x.requires_grad_()
    assert any(each.requires_grad for each in sample_with_log_prob(model.encode(x, c), 1))
    model.train()
    assert any(each.requires_grad for each in sample_with_log_prob(model.encode(x.detach(), c), 1))
    assert model.decode(z.detach(), c).mean.requires_grad


@over(CASES, CASES)
def test_latents_are_centers_or_draws_and_decode_to_reconstructions_also_scaled(case: Case) -> None:
    model, (x, c) = case.build().eval(), case.inputs(3)
    with pytest.raises(ConfigError, match="no scaling_factor and shift_factor"):
        model.latents(x, c, scaled=True)
    z = model.latents(x, c)
    torch.testing.assert_close(z, center(model.encode(x, c)))
    torch.testing.assert_close(model.decode_latents(z, c), model.reconstruct(x, c))
    with seeded(3):
        drawn = sample_with_log_prob(model.encode(x, c), 1)[0][0]
    torch.testing.assert_close(model.latents(x, c, sample=True, seed=3), drawn)
    channels = [0.5 + 0.1 * channel for channel in range(model.latent[0])]
    factors = torch.tensor(channels).reshape(-1, *[1] * (len(model.latent) - 1))
    for scale, shift in ((4.0, -0.25), (channels, channels[::-1])):
        model.config = {**model.config, "latents": {"scaling_factor": scale, "shift_factor": shift}}
        wanted = (z + 0.25) * 4.0 if scale == 4.0 else (z - factors.flip(0)) * factors
        with torch.inference_mode():
            scaled = model.latents(x, c, scaled=True)
            torch.testing.assert_close(scaled, wanted)
            decoded = model.decode_latents(torch.stack([scaled, scaled]), c, scaled=True)
        torch.testing.assert_close(decoded[1], model.reconstruct(x, c), rtol=1e-3, atol=1e-4)


@over(CASES, CASES)
def test_inference_mode_gives_the_results_of_no_grad(case: Case) -> None:
    model, (x, c) = case.build().eval(), case.inputs(3)
    twin = copy.deepcopy(model)

    def everything(each: VAE, x: Tensor) -> list[Tensor]:
        torch.default_generator.manual_seed(3)
        elbo, posterior = each(x, c), each.encode(x, c)
        found = [*elbo.losses.values(), elbo.rate, each.reconstruct(x, c), each.sample(3, c), center(posterior)]
        found += [*sample_with_log_prob(posterior, 2), each.decode(center(posterior), c).mean]
        return [*found, each.log_evidence(x, c, samples=2)] if case.has_density else found

    with torch.no_grad():
        wanted = everything(model, x)
    with torch.inference_mode():
        for data in (x, x.clone()):
            for one, other in zip(everything(twin, data), wanted, strict=True):
                torch.testing.assert_close(one, other)
        made = case.build().eval()
        torch.testing.assert_close(everything(made, x.clone()), wanted)
        inside = x.clone()
    twin.train()
    torch.stack([loss.mean() for loss in twin(inside, c).losses.values()]).sum().backward()  # made in inference mode


@over(CASES, CASES)
def test_the_mean_of_a_posterior_is_a_tensor_or_an_error_that_names_the_center(case: Case) -> None:
    model, (x, c) = case.build().eval(), case.inputs(3)
    posterior = model.encode(x, c)
    try:
        assert posterior.mean.numpy().shape == (3, *model.latent)
    except VaezooError as error:
        assert "Use `center`" in str(error) and center(posterior).numpy().shape == (3, *model.latent)


# Codes


CODED = [
    case
    for case in CASES
    if "vq" in case.variant or case.variant.split("-")[0] in ("fsq", "lfq", "bsq", "ibq", "sq", "categorical")
]
CODED += [Case(name, backbone="conv", context=3) for name in ("vq-vae", "residual-vq-vae", "lfq-vae", "gumbel-vq-vae")]


@over(CODED, CODED)
@pytest.mark.parametrize("latent", [None, 4, (4, 2, 2)])
def test_decoded_indices_are_the_reconstruction(case: Case, latent: int | tuple[int, ...] | None) -> None:
    try:
        model = case.build(latent=latent) if latent else case.build()
    except VaezooError:
        assert latent
        return
    x, c = case.inputs(5)
    model.initialize([(x, model.check_context(c, 5))])
    model.eval()
    indices = model.encode_indices(x, c)
    count = indices[0].numel()
    assert indices.shape[0] == 5 and indices.dtype == torch.int64
    if case.variant in ("residual-vq-vae", "grouped-vq-vae"):
        assert indices.shape[1:] == (2, *model.latent[1:])
    elif case.variant not in ("vq-vae-2", "categorical-vae"):
        assert indices.shape[1:] == model.latent[1:]
    codes = model.encoder.codes
    assert int(indices.min()) >= 0 and int(indices.max()) < codes
    wanted = model.reconstruct(x, c)
    assert torch.equal(model.decode_indices(indices, c), wanted)
    if indices.dim() > 1:
        assert torch.equal(model.decode_indices(indices.reshape(5, count), c), wanted)
    assert torch.equal(model.decode_indices(indices.numpy().astype(np.int32), c), wanted)
    several = model.decode_indices(indices.expand(2, *indices.shape), c)
    torch.testing.assert_close(several, wanted.expand(2, *wanted.shape))
    for bad, kind, words in (
        (indices + codes, SupportError, f"expected whole numbers .* from 0 to {codes - 1}"),
        (indices - codes, SupportError, "from -"),
        (indices.float(), ShapeError, r"indices.long\(\)"),
        (indices[:, :-1] if indices.dim() > 1 else indices[0], ShapeError, "shape"),
        (torch.tensor(0), ShapeError, r"shape \(\)"),
        ("0", ShapeError, "str"),
    ):
        with pytest.raises(kind, match=words):
            model.decode_indices(bad, c)  # type: ignore[arg-type]  # that is the point


def test_a_model_without_codes_says_so() -> None:
    model = Case("joint-vae").build()
    for call in (lambda: model.encode_indices(torch.zeros(2, *SHAPE)), lambda: model.decode_indices(torch.zeros(2, 3))):
        with pytest.raises(CompositionError, match=r"JointEncoder, has no codes"):
            call()


# Values that only the likelihood refuses


@over(ONE_EACH, ONE_EACH[::4])
def test_encoders_take_values_outside_the_likelihood(case: Case) -> None:
    model, (x, c) = case.build().eval(), case.inputs(6)
    if model.decoder.likelihood.domain.startswith("finite"):
        return
    x[4, 0, 2, 3] = 1.02
    with pytest.raises(SupportError, match=r"1\.02.*examples \[4\] of x"):
        model(x, c)
    if case.variant == "hamiltonian-vae":  # its posterior depends on p(x|z)
        with pytest.raises(SupportError, match=r"examples \[4\] of x"):
            model.encode(x, c)
        return
    assert torch.isfinite(center(model.encode(x, c))).all() and model.reconstruct(x, c).shape == x.shape
    x[2] = 1e30
    with pytest.raises(SupportError, match=r"beyond ±1e\+09 in examples \[2\] of x"):
        model.encode(x, c)


# Numbers, temperatures and generators


def test_numbers_of_numpy_and_torch_are_taken() -> None:
    model = Case("cvae", context=3).build()
    wanted = model.sample(4, torch.tensor([0, 1, 2, 1]), seed=5)
    indices = np.array([0, 1, 2, 1])
    for n, c, seed in (
        (np.int64(4), indices, np.int64(5)),
        (4.0, indices.astype(np.uint8), np.uint8(5)),
        (torch.tensor(4), indices.tolist(), torch.tensor(5)),
        (None, np.eye(3)[indices], 5.0),
    ):
        torch.testing.assert_close(model.sample(n, c, seed=seed), wanted)  # type: ignore[arg-type]
    one = model.sample(2, np.int64(1), seed=1)  # type: ignore[arg-type]
    assert torch.equal(one, model.sample(2, 1, seed=1))
    x, _ = Case("cvae", context=3).inputs(4)
    first = model.log_evidence(x, indices, samples=np.int64(3), seed=np.int64(2), chunk=np.int64(10**6))  # type: ignore[arg-type]
    assert torch.equal(first, model.log_evidence(x, indices.tolist(), samples=3, seed=2))


@pytest.mark.parametrize("value", ["3", 2.5, float("nan"), float("inf"), True, None, [3], np.zeros(2), 2**70, -(2**70)])
def test_other_values_are_one_error(value: object) -> None:
    model, (x, _) = Case("vae").build(), Case("vae").inputs(2)
    if value is not None:
        for call in (lambda: model.sample(value), lambda: model.log_evidence(x, samples=value)):  # type: ignore[arg-type]
            with pytest.raises(ShapeError, match="expected a whole number"):
                call()
        with pytest.raises(ConfigError, match=r"Got seed = .*expected a whole number, from -9223372036854775808"):
            model.sample(2, seed=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Got temperature"):
        model.sample(2, temperature=-1.0 if isinstance(value, float) and value == 2.5 else value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "c",
    [
        np.array(["a"]),
        np.array([0.5, 1.5]),
        np.array([3, 0]),
        [[0], [1]],
        object(),
        np.array([True, False]),
        [False, True],
    ],
)
def test_other_contexts_are_one_error(c: object) -> None:
    with pytest.raises(ContextError, match=r"expected|Use torch"):
        Case("cvae", context=3).build().sample(2, c)  # type: ignore[arg-type]


def test_a_generator_is_drawn_from_and_advanced() -> None:
    model, (x, _) = Case("vae").build(), Case("vae").inputs(2)
    state, generator = torch.get_rng_state(), torch.Generator().manual_seed(7)
    first, second = model.sample(3, generator=generator), model.sample(3, generator=generator)
    assert torch.equal(first, model.sample(3, seed=7)) and not torch.equal(first, second)
    generator.manual_seed(7)
    found = model.log_evidence(x, samples=3, generator=generator)
    assert torch.equal(found, model.log_evidence(x, samples=3, seed=7)) and torch.equal(state, torch.get_rng_state())
    for arguments in ({"generator": generator, "seed": 1}, {"generator": 7}):
        with pytest.raises(ConfigError, match=r"generator"):
            model.sample(3, **arguments)  # type: ignore[arg-type]


class Shown(nn.Module):
    """A decoder that returns z as the mean of x."""

    def forward(self, z: Tensor, c: Tensor | None = None) -> torch.distributions.Distribution:
        return torch.distributions.Independent(torch.distributions.Normal(z, 1.0), 1)


def drawn(name: str, temperature: float, **options: object) -> Tensor:
    torch.default_generator.manual_seed(0)
    model = create(name, shape=6, latent=options.pop("latent", 6), **options).replace(decoder=Shown())  # type: ignore[arg-type]
    return model.sample(4000, seed=1, temperature=temperature)


@pytest.mark.parametrize("name", ["vae", "flow-prior-vae"])
def test_a_temperature_is_the_standard_deviation_of_normal_priors(name: str) -> None:
    """A new flow is the identity."""
    for temperature in (0.5, 1.0, 2.0, np.float32(0.25), 1):
        found = drawn(name, temperature)  # type: ignore[arg-type]
        assert ((found.std(0) / float(temperature) - 1.0).abs() < 0.05).all()
    torch.testing.assert_close(drawn(name, 0.5), 0.5 * drawn(name, 1.0))


def test_a_temperature_keeps_the_clusters_of_a_mixture() -> None:
    """The variance within components is multiplied, that of their means is not."""
    torch.default_generator.manual_seed(0)
    model = create("vade", shape=6, latent=6, clusters=4).replace(decoder=Shown())
    with torch.no_grad():
        model.prior.loc.copy_(20.0 * torch.randn_like(model.prior.loc))
    for temperature in (0.1, 1.0, 2.0):
        z = model.sample(4000, seed=1, temperature=temperature)
        scales = model.prior(None).components.stddev
        nearest = torch.cdist(z, model.prior.loc).argmin(1)
        standardized = (z - model.prior.loc[nearest]) / scales[nearest]
        assert abs(float(standardized.detach().std()) / temperature - 1.0) < 0.05


def test_a_temperature_divides_the_logits_over_codes() -> None:
    model = Case("vq-vae+code-prior").build().eval()
    with torch.no_grad():
        model.prior.network.biases.copy_(torch.arange(model.encoder.codes).float())
    network = model.prior.network
    for temperature in (0.5, 2.0):
        wanted = (network.biases[0] / temperature).softmax(0)
        first = network.draw(4000, changed=lambda logits, by=temperature: logits / by)[:, 0]
        found = torch.bincount(first, minlength=model.encoder.codes) / 4000
        assert (found - wanted).abs().max() < 0.04
    prior = model.prior(None).tempered(2.0)
    z = prior.sample((50,))
    indices = model.encoder.indices_of(z)
    wanted = (network.biases[0] / 2.0).log_softmax(0)[indices].sum(1)
    torch.testing.assert_close(prior.log_prob(z), wanted)


def test_priors_without_a_temperature_are_named() -> None:
    for name, prior in (("vq-vae", "UniformCodes"), ("s-vae", "UniformSphere"), ("categorical-vae", "OneHot")):
        model = Case(name).build()
        assert torch.equal(model.sample(2, seed=1, temperature=1.0), model.sample(2, seed=1))
        with pytest.raises(ConfigError, match=f"{prior}.*has none"):
            model.sample(2, temperature=0.5)


@over(ONE_EACH, ONE_EACH)
def test_colder_samples_are_finite_or_refused(case: Case) -> None:
    model, (_, c) = case.build().eval(), case.inputs(3)
    try:
        assert torch.isfinite(model.sample(3, c, seed=1, temperature=0.3)).all()
    except ConfigError as error:
        assert "has none" in str(error)


# What is printed


def test_the_first_line_of_a_model() -> None:
    lines = {
        repr(create("beta-vae", shape=(1, 28, 28), latent=10, beta=4.0)).splitlines()[0]: (
            "beta-vae(beta=4.0): (1, 28, 28) → 10 latents, "
        ),
        repr(Case("cvae+iwae", context=3).build()).splitlines()[0]: (
            "cvae+iwae(prior_hidden=[], samples=4, gradient='plain'): (1, 8, 8) with a context of 3 → "
        ),
        repr(Case("vae").build().replace()).splitlines()[0]: "VAE: (1, 8, 8) → 16 latents, ",
        repr(Case("vae", context=3).build()).splitlines()[0]: "vae: (1, 8, 8) with a context of 3 → 16 latents, ",
    }
    for line, start in lines.items():
        assert line.startswith(start) and line.endswith(" parameters"), line
    model = Case("vq-vae", backbone="conv").build(latent=(4, 2, 2))
    count = sum(each.numel() for each in model.parameters())
    codes = model.encoder.codebook.numel()
    end = f"(1, 8, 8) → (4, 2, 2) latents, {count:,} parameters and {codes} numbers in codebooks"
    assert repr(model).splitlines()[0].endswith(end)
    assert "(encoder): CodebookEncoder(" in repr(model)


def test_a_run_prints_its_recipe_model_and_figures() -> None:
    run = fit(trainer(small_recipe("vae", steps=4)))
    lines = repr(run).splitlines()
    assert lines[0] == "Run of vae, 4 steps" and len(lines) <= 4 + len(run.notes)
    assert lines[1] == f"  {repr(run.model).splitlines()[0]}" and lines[2] == f"  {run.summary}"


def test_a_report_prints_its_means() -> None:
    model, (x, _) = Case("beta-vae").build(), Case("beta-vae").inputs(3)
    elbo = model(x)
    lines = repr(elbo).splitlines()
    assert lines[0] == "ELBO of 3 examples, means in nats:" and len(lines) <= 4
    assert f"bound {elbo.bound.mean():,.4f}" in lines[1] and f"rate {elbo.rate.mean():,.4f}" in lines[1]
    assert lines[2] == f"  losses: model {elbo.losses['model'].mean():,.4f}"


def test_names_of_other_libraries_are_errors_with_the_names_of_this_one() -> None:
    model = Case("vae").build()
    for name, words in (("save", "vaezoo.save"), ("fit", "vaezoo.train"), ("latent_dim", r"model\.latent")):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'. Use {words}"):
            getattr(model, name)
    for name, word in (("comparee", "compare"), ("list_variant", "list_variants"), ("lod", "load")):
        with pytest.raises(AttributeError, match=rf"{name}\. Did you mean '{word}'"):
            getattr(vaezoo, name)
    with pytest.raises(AttributeError, match=r"no attribute 'bogus'\.$"):
        _ = model.bogus
    with pytest.raises(AttributeError, match=r"create_model\. Use vaezoo\.create"):
        _ = vaezoo.create_model
    for given in (model.state_dict(), None):
        with pytest.raises(ConfigError, match="expected a VAE and a path"):
            vaezoo.save(given, "mine")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigError, match="expected a VAE and a path"):
        vaezoo.save(model, None)  # type: ignore[arg-type]  # likewise
    with pytest.raises(UnknownNameError, match="'folder:photos/mine'"):
        vaezoo.load_dataset("photos/mine")
    with pytest.raises(ShapeError, match="meta device"):
        as_dataset(torch.zeros(2, 3, device="meta"))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_and_loading_do_not_depend_on_the_callers_mode(mode: type, tmp_path: Path) -> None:
    tables = {"variant": "vae", "data": {"name": "mine"}, "train": {"steps": 2, "batch_size": 4}}
    x = torch.rand(8, *SHAPE).round()
    wanted = vaezoo.train(tables, data=x, out=None).model
    with mode():
        found = vaezoo.train(tables, data=x.clone(), out=tmp_path / "mine").model
        loaded = vaezoo.load(f"{tmp_path}/mine/")
        sampler = vaezoo.fit_sampler(loaded, x, "flow", steps=2)
        assert not torch.is_grad_enabled()
    pairs = zip(wanted.parameters(), found.parameters(), loaded.parameters(), strict=True)
    assert all(torch.equal(first, second) and torch.equal(first, third) for first, second, third in pairs)
    loaded.train()(x).losses["model"].mean().backward()  # raised where weights were made in inference mode
    assert all(each.grad is not None for each in loaded.parameters())
    again = vaezoo.fit_sampler(wanted, x, "flow", steps=2)
    assert torch.equal(again.sample(2, seed=0), sampler.sample(2, seed=0))
