"""The contract of every variant in every combination: shapes, finiteness, buffers, random state, documentation."""

import inspect
import re

import pytest
import torch
from support.cases import DAILY, EVERYWHERE, ONE_EACH, ROTATING, Case, contexts_of, over, product
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import ELBO, VAE, has_density
from vaezoo.errors import CompositionError, NoDensityError
from vaezoo.registry import resolve, variants, with_requirements
from vaezoo.workflows.listing import option_texts


def finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def buffers(model: VAE) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def check_report(elbo: ELBO, count: int, density: bool) -> None:
    for name, value in {**elbo.losses, **elbo.terms, "D": elbo.distortion, "R": elbo.rate, "bound": elbo.bound}.items():
        assert value.shape == (count,) and value.dtype == torch.float32, name
        assert torch.isneginf(value).all() if name == "bound" and not density else finite(value), name
    assert not any(value.requires_grad for value in elbo.statistics.values())


@over(EVERYWHERE, [*DAILY, *product("vae")])
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
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == drawn.shape == x.shape and finite(first) and finite(drawn) and torch.equal(first, again)
    assert torch.equal(drawn, model.sample(3, c, seed=5)) and not torch.equal(drawn, model.sample(3, c, seed=6))
    assert isinstance(posterior, Distribution) and posterior.batch_shape == (3,)
    check_report(model(x, c), 3, case.has_density)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("name", variants.names())
def test_the_registration_states_parts_rate_and_context(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: set[str] = set()
    replace = VAE.replace

    def recorded(self: VAE, **parts: torch.nn.Module) -> VAE:
        changed.update(parts)
        return replace(self, **parts)

    monkeypatch.setattr(VAE, "replace", recorded)
    whole, entry = with_requirements(name), variants.get(name)
    case = Case(whole, context=contexts_of(whole)[0])
    model, (x, c) = case.build(torch.float64), case.inputs(3, torch.float64)
    stated = {part for each in resolve(whole) for part in each.changes}
    assert changed == stated - {"backbone", "likelihood"}
    vectors = model.check_context(c, 3)
    rates = [model.infer(x, vectors).rate() for _ in range(2)]
    density = has_density(model.encode(x, c))
    assert density == (entry.rate != "no density")
    assert not density or torch.equal(*rates) == (entry.rate == "closed form")
    if entry.context != "optional":
        with pytest.raises(CompositionError, match="context=N"):
            Case(whole).build()


@pytest.mark.parametrize("name", variants.names())
def test_the_docstring_has_equation_options_and_fields(name: str) -> None:
    entry = variants.get(name)
    text = inspect.getdoc(entry.builder) or ""
    first, _, rest = text.partition("\n\n")
    assert "\n" not in first and first.endswith(".") and "$" not in first and "$" in rest
    assert option_texts(entry.builder).keys() == entry.options.keys()
    related = re.search(r"^See also: (.+?)(\n\n|\Z)", rest, re.MULTILINE | re.DOTALL)
    assert related and any(each != name and each in variants.names() for each in re.findall(r"`([^`]+)`", related[1]))
    assert "\nReferences:" in rest and entry.url.startswith("https://") and entry.year > 2000 and entry.paper


@over(ROTATING)
def test_statistics_move_buffers_after_the_step_alone(case: Case) -> None:
    model, (x, c) = case.build(), case.inputs(4)
    before = buffers(model)
    elbo = model(x, c)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
    model.after_step([elbo.statistics, elbo.statistics], torch.tensor(0))
    moved = {name for name, buffer in model.named_buffers() if not torch.equal(before[name], buffer)}
    assert bool(moved) == bool(elbo.statistics)
    assert all(finite(buffer) for buffer in model.buffers())
    assert not model.eval()(x, c).statistics
    assert not model.train().requires_grad_(False)(x, c).statistics


@over(ONE_EACH, ONE_EACH)
def test_half_precision_weights_give_float32_densities(case: Case) -> None:
    model, (x, c) = case.build(torch.bfloat16), case.inputs(3)
    check_report(model(x, c), 3, case.has_density)
    with torch.autocast("cpu", torch.bfloat16):
        check_report(case.build()(x, c), 3, case.has_density)


@over(ROTATING)
def test_double_precision_stays_double(case: Case) -> None:
    model, (x, c) = case.build(torch.float64), case.inputs(3, torch.float64)
    elbo = model(x, c)
    evidence = [model.log_evidence(x, c, samples=2)] if case.has_density else []
    for value in (*elbo.losses.values(), elbo.bound, model.reconstruct(x, c), *evidence):
        assert value.dtype == torch.float64
    narrow = case.build()
    torch.testing.assert_close(narrow.reconstruct(x, c).double(), model.reconstruct(x, c), rtol=1e-4, atol=1e-5)


@over(ROTATING)
def test_models_initialize_from_batches_and_from_a_single_example(case: Case) -> None:
    model, single, (x, c) = case.build(), case.build(), case.inputs(12)
    vectors = model.check_context(c, 12)
    batches = [(x[rows], None if vectors is None else vectors[rows]) for rows in (slice(6), slice(6, 12), slice(1))]
    model.initialize(batches[:2])
    single.initialize(batches[2:])
    for each in (model, single):
        check_report(each(x, c), 12, case.has_density)
    assert has_density(model.encode(x, c)) == case.has_density
