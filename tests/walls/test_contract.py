"""What every variant keeps to in every combination: shapes, finiteness, buffers, random state."""

import inspect

import pytest
import torch
from support.cases import EVERYWHERE, LIKELIHOODS, NAMES, ONE_EACH, ROTATING, SMALL_SHAPE, Case, contexts_of, permits
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import ELBO, VAE, has_closed_form_rate, has_density
from vaezoo.errors import NoDensityError
from vaezoo.registry import backbones, resolve, variants, with_requirements


def finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def buffers(model: VAE) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def check_report(elbo: ELBO, count: int, density: bool) -> None:
    for name, value in {**elbo.losses, **elbo.terms, "D": elbo.distortion, "R": elbo.rate, "bound": elbo.bound}.items():
        assert value.shape == (count,) and value.dtype == torch.float32, name
        assert torch.isneginf(value).all() if name == "bound" and not density else finite(value), name
    assert not any(value.requires_grad for value in elbo.statistics.values())


@pytest.mark.parametrize("case", EVERYWHERE, ids=str)
def test_every_combination_works(case: Case) -> None:
    model, (x, c) = case.build(), case.inputs(3)
    before = buffers(model)
    check_report(model(x, c), 3, case.has_density)
    model.eval()
    state = torch.get_rng_state()
    first, again = model.reconstruct(x, c), model.reconstruct(x, c)
    if case.has_density:
        evidence = model.log_evidence(x, c, samples=3, seed=5)
        assert evidence.shape == (3,) and finite(evidence)
        assert torch.equal(evidence, model.log_evidence(x, c, samples=3, seed=5))
    else:
        with pytest.raises(NoDensityError, match="point mass"):
            model.log_evidence(x, c, samples=3, seed=5)
    drawn = model.sample(3, c, seed=5)
    posterior = model.encode(x, c)
    assert torch.equal(state, torch.get_rng_state())  # nothing random happens unasked
    assert first.shape == drawn.shape == x.shape and finite(first) and finite(drawn) and torch.equal(first, again)
    assert torch.equal(drawn, model.sample(3, c, seed=5)) and not torch.equal(drawn, model.sample(3, c, seed=6))
    assert isinstance(posterior, Distribution) and posterior.batch_shape == (3,)
    check_report(model(x, c), 3, case.has_density)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("name", NAMES)
def test_each_runs_on_all_that_it_states(name: str) -> None:
    default = next((e.defaults["backbone"] for e in resolve(name)[::-1] if "backbone" in e.defaults), "mlp")
    for context in contexts_of(name):
        assert permits(name, SMALL_SHAPE, str(default), context) and permits(name, (30,), "mlp", context)
    assert len(LIKELIHOODS) >= 6 and {"mlp", "conv"} <= set(backbones.names())


@pytest.mark.parametrize("name", variants.names())
def test_a_builder_changes_the_parts_that_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: set[str] = set()
    replace = VAE.replace

    def recorded(self: VAE, **parts: torch.nn.Module) -> VAE:
        changed.update(parts)
        return replace(self, **parts)

    monkeypatch.setattr(VAE, "replace", recorded)
    Case(with_requirements(name), context=contexts_of(with_requirements(name))[0]).build()
    stated = {part for entry in resolve(with_requirements(name)) for part in entry.changes}
    assert changed == stated - {"backbone", "likelihood"}


@pytest.mark.parametrize("name", variants.names())
def test_every_variant_says_what_it_minimises_and_how_its_rate_is_computed(name: str) -> None:
    case = Case(with_requirements(name), context=contexts_of(with_requirements(name))[0])
    model, (x, c) = case.build(), case.inputs(3)
    vectors = model.check_context(c, 3)
    text = inspect.getdoc(variants.get(name).builder)
    assert text is not None and "$" in text and "When to use it" in text
    assert "confused with" in " ".join(text.split())
    posterior, entry = model.encode(x, c), variants.get(name)
    rate = "closed form" if has_closed_form_rate(posterior, model.prior(vectors)) else "sampled"
    assert entry.rate == (rate if has_density(posterior) else "no density")
    words = {"closed form": "in closed form", "sampled": "is sampled", "no density": "no density"}
    assert words[entry.rate] in " ".join(text.split())
    assert entry.year > 1980 and entry.paper and entry.url.startswith("https://")
    assert all(option in text for option in entry.options)


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_what_needs_a_context_says_so(case: Case) -> None:
    needy = any(entry.context != "optional" for entry in case.entries)
    without = Case(case.variant, context=0)
    if needy:
        with pytest.raises(ValueError, match=r"needs a context: pass context=N"):
            without.build()
    else:
        assert without.build().context == 0


@pytest.mark.parametrize("case", ROTATING, ids=str)
def test_what_learns_without_a_gradient_moves_after_the_step(case: Case) -> None:
    model, (x, c) = case.build(), case.inputs(4)
    before = buffers(model)
    elbo = model(x, c)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
    model.after_step([elbo.statistics, elbo.statistics], torch.tensor(0))
    moved = {name for name, buffer in model.named_buffers() if not torch.equal(before[name], buffer)}
    assert bool(moved) == bool(elbo.statistics)
    assert all(finite(buffer) for buffer in model.buffers())
    model.eval()
    assert not model(x, c).statistics  # frozen at evaluation
    model.train().requires_grad_(False)
    assert not model(x, c).statistics  # and in a stage that trains something else


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_half_precision_weights_give_float32_densities(case: Case) -> None:
    model, (x, c) = case.build(torch.bfloat16), case.inputs(3)
    check_report(model(x, c), 3, case.has_density)
    with torch.autocast("cpu", torch.bfloat16):
        check_report(case.build()(x, c), 3, case.has_density)


@pytest.mark.parametrize("case", ROTATING, ids=str)
def test_double_precision_stays_double(case: Case) -> None:
    model, (x, c) = case.build(torch.float64), case.inputs(3, torch.float64)
    elbo = model(x, c)
    evidence = [model.log_evidence(x, c, samples=2)] if case.has_density else []
    for value in (*elbo.losses.values(), elbo.bound, model.reconstruct(x, c), *evidence):
        assert value.dtype == torch.float64
    narrow = case.build()
    torch.testing.assert_close(narrow.reconstruct(x, c).double(), model.reconstruct(x, c), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ROTATING, ids=str)
def test_initialize_starts_from_data(case: Case) -> None:
    model, (x, c) = case.build(), case.inputs(12)
    vectors = model.check_context(c, 12)
    model.initialize(
        [(x[:6], None if vectors is None else vectors[:6]), (x[6:], None if vectors is None else vectors[6:])]
    )
    check_report(model(x, c), 12, case.has_density)
    single = case.build()
    single.initialize([(x[:1], None if vectors is None else vectors[:1])])
    check_report(single(x, c), 12, case.has_density)
    assert has_density(model.encode(x, c)) == case.has_density
