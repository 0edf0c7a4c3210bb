"""Methods of `VAE`: decoding, contexts, devices, modes, replaced parts, models assembled by hand."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.cases import Case
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import vaezoo
from vaezoo.core import VAE, evaluating
from vaezoo.errors import ContextError, ShapeError
from vaezoo.objectives import WeightedObjective


@pytest.mark.parametrize("context", [0, 3])
def test_decode_takes_any_leading_dimensions(context: int) -> None:
    model = Case("vae", context=context).build()
    z = torch.randn(2, 3, 5, 16)
    c = torch.randint(3, (5,)) if context else None
    whole = model.decode(z, c).mean
    assert whole.shape == (2, 3, 5, 1, 8, 8)
    torch.testing.assert_close(whole[0, 1], model.decode(z[0, 1], c).mean)
    torch.testing.assert_close(whole[0, 1, 2], model.decode(z[0, 1, 2], None if c is None else c[2:3]).mean)


def test_the_evidence_of_an_example_does_not_depend_on_its_place() -> None:
    model, (x, _) = Case("vae").build(torch.float64), Case("vae").inputs(30, torch.float64)
    whole, single = model.log_evidence(x, samples=3000, seed=0), model.log_evidence(x[13:14], samples=3000, seed=0)
    assert abs(whole[13] - single[0]) < 0.5


def test_a_context_is_used() -> None:
    for name in ("vae", "cvae", "iwae", "conv-vae", "vq-vae"):
        model, (x, _) = Case(name, context=3).build(), Case(name).inputs(4)
        zero, one = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
        assert not torch.equal(model.reconstruct(x, zero), model.reconstruct(x, one))
        assert not torch.equal(model.sample(4, zero, seed=0), model.sample(4, one, seed=0))


class PlainEncoder(nn.Linear):
    """An encoder made of torch's own modules and distributions."""

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        loc, log_scale = super().forward(x).chunk(2, -1)
        return Independent(Normal(loc, log_scale.exp()), 1)


class PlainDecoder(nn.Linear):
    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(super().forward(z), 1.0), 1)


class PlainPrior(nn.Module):
    def forward(self, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(2), 1.0), 1)


def test_a_model_of_plain_modules_and_distributions_of_torch_works() -> None:
    model = VAE(PlainEncoder(6, 4), PlainDecoder(2, 6), PlainPrior(), WeightedObjective())
    x = torch.randn(5, 6)
    elbo = model(x)
    elbo.losses["model"].mean().backward()
    assert elbo.bound.shape == (5,) and model.config is None and not elbo.statistics
    drawn, remade, evidence = model.sample(3, seed=1), model.reconstruct(x), model.log_evidence(x, samples=500)
    assert drawn.shape == (3, 6) and remade.shape == (5, 6) and (evidence >= elbo.bound.detach() - 5).all()
    assert not (drawn.requires_grad or remade.requires_grad or evidence.requires_grad)
    assert model.encode(x).mean.requires_grad and model.decode(torch.zeros(4, 2)).mean.requires_grad
    assert copy.deepcopy(model)(x).bound.shape == (5,)
    with pytest.raises(ShapeError, match=r"empty batch"):
        model(x[:0])


def test_contexts_may_be_numbers_and_lists() -> None:
    model = Case("cvae", context=3).build().eval()
    c = torch.tensor([0, 1, 2])
    expected = model.sample(3, c, seed=0)
    for same in (c, [0, 1, 2], torch.eye(3)):
        assert torch.equal(model.sample(c=same, seed=0), expected)
    assert torch.equal(model.sample(c=1, seed=0), model.sample(1, [1], seed=0)) and len(model.sample(4, 1)) == 4
    for wrong in ([[0], [1, 2]], ["a"], "012", torch.tensor([0, 1])):
        with pytest.raises(ContextError):
            model.sample(3, wrong)


def test_contexts_may_be_names_of_classes() -> None:
    model = Case("cvae", context=3).build().eval()
    with pytest.raises(ContextError, match="no names of classes"):
        model.sample(2, c="flags")
    model.config = {**(model.config or {}), "data": {"class_names": ["flags", "food", "faces"]}}
    expected = model.sample(2, [1, 0], seed=0)
    for same in (["food", "flags"], ("food", "flags"), np.array(["food", "flags"])):
        assert torch.equal(model.sample(2, same, seed=0), expected)
    assert torch.equal(model.sample(2, "faces", seed=0), model.sample(2, 2, seed=0))
    x, _ = Case("cvae", context=3).inputs(2)
    assert torch.equal(model.reconstruct(x, ["food", "faces"]), model.reconstruct(x, [1, 2]))
    for wrong in ("flag", ["flags", "flag"], ["flags", 1]):
        with pytest.raises(ContextError, match="Known: flags, food, faces"):
            model.sample(2, wrong)


class Frame:
    """As much of a data frame as the conversion of its values needs."""

    def to_numpy(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        return np.linspace(0.0, 1.0, 40).reshape(2, 20)


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (torch.rand(2, 5, 4, 1), lambda x: x.permute(0, 3, 1, 2)),
        (torch.rand(2, 5, 4), lambda x: x.unsqueeze(1)),
        (torch.rand(1, 5, 4), lambda x: x.unsqueeze(0)),
        (torch.rand(5, 4, 1), lambda x: x.permute(2, 0, 1).unsqueeze(0)),
        (torch.rand(2, 20), lambda x: x.reshape(-1, 1, 5, 4)),
        (Frame(), lambda x: torch.as_tensor(x.to_numpy()).float()),
    ],
)
def test_the_remedy_for_x_of_another_form_works(wrong: Any, remedy: Callable[[Any], Tensor]) -> None:
    model = vaezoo.create("vae", shape=(1, 5, 4) if not isinstance(wrong, Frame) else 20, latent=2)
    with pytest.raises(ShapeError) as caught:
        model.encode(wrong)
    text = str(caught.value).split("Use ")[1].split(" for ")[0].split(" if ")[0].rstrip(".")
    stated = eval(text, {"x": wrong, "torch": torch})
    assert torch.equal(stated, remedy(wrong))
    assert model.encode(stated).batch_shape == (len(stated),)


def test_arrays_of_numpy_are_accepted_as_x_and_z() -> None:
    model = vaezoo.create("vae", shape=(1, 5, 4), latent=2).eval()
    x, z = np.random.default_rng(0).random((3, 1, 5, 4)), np.ones((3, 2))
    assert torch.equal(model.reconstruct(x[::-1]), model.reconstruct(torch.tensor(x.copy()).float().flip(0)))
    assert torch.equal(model.decode(z).mean, model.decode(torch.ones(3, 2)).mean)
    for wrong in (np.array([["a"]]), x.astype(object), (x * 255).astype("uint8")):
        with pytest.raises(ShapeError):
            model.encode(wrong)


class OnAnotherDevice(Tensor):
    """A tensor on the CPU that reports another device, until it is moved."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda:7")

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def, override]
        plain = [each.as_subclass(Tensor) if isinstance(each, cls) else each for each in args]
        return func(*plain, **(kwargs or {}))


def test_inputs_are_moved_to_the_device_of_the_model() -> None:
    model, (x, _) = Case("cvae", context=3).build(), Case("cvae", context=3).inputs(2)
    z, c = torch.randn(2, 16), torch.eye(3)[:2]
    x_there, z_there, c_there = (each.as_subclass(OnAnotherDevice) for each in (x, z, c))
    assert torch.equal(model.encode(x_there, c_there).mean, model.encode(x, c).mean)
    assert torch.equal(model.decode(z_there, c_there).mean, model.decode(z, c).mean)
    for values in (x.to("meta"), torch.zeros(2, 1, 8, 8, device="meta")):
        with pytest.raises(ShapeError, match=r"Use x\.to\('cpu'\) or model\.to\('meta'\)"):
            model(values, c)


def test_the_evidence_is_computed_in_eval_mode_and_the_mode_is_restored() -> None:
    model, (x, _) = Case("categorical-vae").build().train(), Case("categorical-vae").inputs(3)
    model.encoder.eval()
    modes = [each.training for each in model.modules()]
    found = model.log_evidence(x, samples=5, seed=0)
    assert [each.training for each in model.modules()] == modes
    assert torch.equal(found, model.eval().log_evidence(x, samples=5, seed=0))
    model.train()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert not any(each.training for each in model.modules()) and not torch.is_grad_enabled()
        raise ZeroDivisionError
    assert all(each.training for each in model.modules())


def test_a_model_with_replaced_parts_shares_tensors_and_nothing_else() -> None:
    model, (x, _) = Case("vae").build(), Case("vae").inputs(2)
    changed = model.replace(objective=WeightedObjective(rate=2.0))
    model.encoder = model.encoder
    assert model.config is not None and changed.config is None
    weight = next(model.encoder.parameters())
    assert next(changed.encoder.parameters()) is weight
    before = model.reconstruct(x)
    changed.encoder.network = nn.Identity()
    changed.decoder.network.register_forward_hook(lambda *_: pytest.fail("a hook of another model"))
    changed.prior.eval(), changed.decoder.network.eval()
    assert torch.equal(model.reconstruct(x), before) and model.decoder.network.training and model.prior.training


def test_converting_a_model_with_replaced_parts_converts_that_model_alone() -> None:
    case = Case("vae", likelihood="gaussian=scale_kind:optimal")
    model = case.build()
    for converted, other in (pair := (model, model.replace(objective=WeightedObjective()))), pair[::-1]:
        shared = list(other.parameters())
        converted.double()
        assert {each.dtype for each in converted.state_dict().values()} == {torch.float64}
        assert {each.dtype for each in other.state_dict().values()} == {torch.float32}
        assert list(map(id, other.parameters())) == list(map(id, shared))
        converted.float()
    named = case.build()
    before = list(map(id, named.parameters()))
    assert list(map(id, named.double().parameters())) == before  # which an optimizer may already refer to
