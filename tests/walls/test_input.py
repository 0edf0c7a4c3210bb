"""Inputs of every variant: bad ones raise an error, good ones give finite outputs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.cases import LIKELIHOODS, NAMES, ONE_EACH, SMALL_SHAPE, Case, contexts_of, head_of, over
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.errors import ContextError, ShapeError, SupportError, VaezooError

B = 4
CASES = [Case(name, context=context) for name in NAMES for context in contexts_of(name)]
#: input is validated by the model, whatever its variant
DAILY = ONE_EACH[::4]
CONDITIONAL = [case for case in CASES if case.context]


def holding(value: float) -> Callable[[Tensor], Tensor]:
    def put(x: Tensor) -> Tensor:
        x[1, 0, 2, 3] = value
        return x

    return put


#: change of good data, expected error, and what its message must contain: the received value, and the expected one
BAD: dict[str, tuple[Callable[[Tensor], object], type[VaezooError], tuple[str, ...]]] = {
    "nan": (holding(torch.nan), SupportError, ("NaN", "[1]", "finite")),
    "inf": (holding(torch.inf), SupportError, ("infinite", "[1]", "finite")),
    "overflow": (lambda x: x.double() * 1e300, SupportError, ("infinite", "finite")),
    "above": (holding(1.5), SupportError, ("1.5", "[0, 1]", "examples [1] of x")),
    "below": (holding(-0.1), SupportError, ("-0.1", "[0, 1]", "examples [1] of x")),
    "empty": (lambda x: x[:0], ShapeError, ("(0, 1, 8, 8)", "(B, 1, 8, 8)")),
    "0-dim": (lambda x: x[0, 0, 0, 0], ShapeError, ("()", "(B, 1, 8, 8)")),
    "single": (lambda x: x[0], ShapeError, ("(1, 8, 8)", "x.unsqueeze(0)")),
    "width": (lambda x: x[..., :7], ShapeError, ("(4, 1, 8, 7)", "(B, 1, 8, 8)")),
    "flat": (lambda x: x.flatten(1), ShapeError, ("(4, 64)", "(B, 1, 8, 8)")),
    "uint8": (lambda x: x.to(torch.uint8), ShapeError, ("uint8", "/ 255")),
    "int64": (lambda x: x.long(), ShapeError, ("int64", "x.float()")),
    "sparse": (lambda x: x.to_sparse(), ShapeError, ("sparse", "x.to_dense()")),
    "meta": (lambda x: x.to("meta"), ShapeError, ("meta", "cpu")),
    "objects": (lambda x: x.numpy().astype(object), ShapeError, ("ndarray", "torch.as_tensor(x)")),
    "list": (lambda x: x.tolist(), ShapeError, ("list", "torch.as_tensor(x)")),
}

GOOD: dict[str, Callable[[Tensor], Tensor]] = {
    "float64": lambda x: x.double(),
    "float16": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "bool": lambda x: x.bool(),
    "requires_grad": lambda x: x.requires_grad_(),
    "non-contiguous": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda x: x[:1].expand(B, -1, -1, -1),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "one": lambda x: x[:1],
    "gray": lambda x: x * 0.3 + 0.1,
}

CONTEXTS: dict[str, tuple[Callable[[], object], str]] = {
    "missing": (lambda: None, "no context; this model needs c: class indices"),
    "too few": (lambda: torch.zeros(B - 1, dtype=torch.int64), r"shape \(3,\)"),
    "too wide": (lambda: torch.zeros(B, 4), r"shape \(4, 4\).*vectors \(4, 3\)"),
    "rank": (lambda: torch.zeros(B, 3, 1), r"\(4, 3, 1\)"),
    "0-dim": (lambda: torch.tensor(1), r"shape \(\)"),
    "negative": (lambda: torch.tensor([0, 1, -1, 2]), r"from -1 to 2; expected .* 0 to 2"),
    "beyond": (lambda: torch.tensor([0, 1, 3, 2]), "from 0 to 3"),
    "float indices": (lambda: torch.zeros(B), "float32"),
    "nan": (lambda: torch.full((B, 3), torch.nan), "NaN"),
    "inf": (lambda: torch.full((B, 3), torch.inf), "infinite"),
    "huge": (lambda: torch.full((B, 3), 1e38), "huge"),
    "complex": (lambda: torch.zeros(B, 3, dtype=torch.complex64), "complex64"),
    "text": (lambda: "1", "str"),
}


@pytest.fixture(scope="module")
def models() -> dict[Case, VAE]:
    return {case: case.build() for case in CASES}


def everything(model: VAE, x: Tensor, c: Tensor | None) -> list[Tensor]:
    elbo = model(x, c)
    return [*elbo.losses.values(), *elbo.terms.values(), elbo.distortion, elbo.rate, model.reconstruct(x, c)]


@over(CASES, DAILY)
def test_bad_data_raise_an_error_with_the_received_and_the_expected_value(case: Case, models: dict[Case, VAE]) -> None:
    model = models[case]
    for name, (spoil, kind, words) in BAD.items():
        x, c = case.inputs(B)
        if name in ("above", "below") and not model.decoder.likelihood.domain.endswith("[0, 1]"):
            continue
        spoiled: Tensor = spoil(x)  # type: ignore[assignment]  # that is the point
        calls = [model, model.log_evidence, model.encode, model.reconstruct]
        for call in calls[:2] if name in ("above", "below") else calls:  # encoders take any finite values
            with pytest.raises(kind) as caught:
                call(spoiled, c)
            assert all(word in str(caught.value) for word in words), (name, str(caught.value))


@over(CASES, DAILY)
def test_good_data(case: Case, models: dict[Case, VAE]) -> None:
    model = models[case]
    for name, change in GOOD.items():
        x, c = case.inputs(B)
        x = change(x)
        c = None if c is None else c[: len(x)]
        assert all(bool(torch.isfinite(value).all()) for value in everything(model, x, c)), name
        assert not model(x, c).bound.isnan().any(), name
        if name != "gray":
            torch.testing.assert_close(model.reconstruct(x, c), model.reconstruct(x.detach().float().contiguous(), c))
            if case.has_density:
                assert torch.isfinite(model.log_evidence(x, c, samples=3)).all(), name


@over(CONDITIONAL, CONDITIONAL[::3])
def test_bad_contexts(case: Case, models: dict[Case, VAE]) -> None:
    (x, _), model = case.inputs(B), models[case]
    for name, (make, words) in CONTEXTS.items():
        c: Tensor = make()  # type: ignore[assignment]  # that is the point
        if model.takes_unlabelled and name in ("missing", "negative"):
            assert torch.isfinite(model(x, c).losses["model"]).all(), name
            continue
        for call in (model, model.encode, model.reconstruct, model.log_evidence):
            with pytest.raises(ContextError, match=words):
                call(x, c)
        if name != "0-dim":  # one class for all samples
            with pytest.raises(ContextError, match=words):
                model.sample(B, c)
    if model.takes_unlabelled:
        with pytest.raises(ContextError, match="one-hot rows"):
            model(x, torch.full((B, 3), 1 / 3))


@over(CONDITIONAL, CONDITIONAL[::3])
def test_good_contexts(case: Case, models: dict[Case, VAE]) -> None:
    x, c = case.inputs(B)
    assert c is not None
    model = models[case]
    wanted = model.reconstruct(x, c)
    for same in (
        c.int(),
        c.to(torch.uint8),
        c.tolist(),
        torch.eye(3)[c],
        torch.eye(3).double()[c],
        torch.eye(3).long()[c],
    ):
        assert torch.equal(model.reconstruct(x, same), wanted)
    assert torch.equal(model.sample(3, 2, seed=1), model.sample(3, torch.full((3,), 2), seed=1))
    with pytest.raises(ContextError, match="from 3 to 3"):
        model.sample(3, 3)


@over([case for case in CASES if not case.context])
def test_contexts_of_an_unconditional_model_are_refused(case: Case, models: dict[Case, VAE]) -> None:
    x, _ = case.inputs(B)
    for c in (torch.zeros(B, dtype=torch.int64), torch.zeros(B, 3), torch.zeros(B + 1, 0), torch.zeros(0)):
        with pytest.raises(ContextError, match=r"expected none\. Leave c out"):
            models[case](x, c)


@over(CASES, DAILY)
def test_bad_latents_and_counts(case: Case, models: dict[Case, VAE]) -> None:
    x, c = case.inputs(B)
    model = models[case]
    assert model.latent is not None
    z = torch.zeros(B, *model.latent)
    assert model.decode(z, c).mean.shape == x.shape
    for bad, kind, words in (
        (z[:, :-1], ShapeError, "expected"),
        (z.long(), ShapeError, "int64"),
        (torch.full_like(z, torch.nan), SupportError, "NaN"),
        (torch.full_like(z, torch.inf), SupportError, "infinite"),
        (np.zeros(3, dtype=object), ShapeError, "ndarray"),
        (torch.zeros(()), ShapeError, r"\(\)"),
    ):
        with pytest.raises(kind, match=words):
            model.decode(bad, c)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ShapeError, match="n = 0; expected a whole number, at least 1"):
        model.sample(0, None if c is None else c[:0])
    with pytest.raises(ShapeError, match="samples = 0"):
        model.log_evidence(x, c, samples=0)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("backbone", ["mlp", "conv"])
def test_extreme_data_stay_finite(likelihood: str, backbone: str) -> None:
    case = Case("vae", SMALL_SHAPE, backbone, likelihood)
    model, head = case.build(), head_of(case)
    for value in (0.0, 1.0, -1.0, 1e3, -1e6, 1e9, 1e10, 1e30, 1e38):
        x = torch.full((2, *SMALL_SHAPE), value)
        if bool(head.accepts(x).all()):
            assert all(bool(torch.isfinite(figure).all()) for figure in everything(model, x, None)), value
        else:
            with pytest.raises(SupportError, match="expected"):
                model(x)


def test_extreme_weights_give_no_nan() -> None:
    for case in (Case("vae"), Case("cvae", context=3), Case("vae", likelihood="gaussian=scale_kind:learned")):
        model, (x, c) = case.build(), case.inputs(B)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= 300.0
        assert not any(bool(figure.isnan().any()) for figure in everything(model, x, c))
