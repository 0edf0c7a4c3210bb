"""Every option of every variant and likelihood at the ends of its range trains with finite numbers."""

import math
import typing
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
import torch
from support.cases import NAMES, Case, contexts_of
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.errors import ConfigError, VaezooError
from vaezoo.registry import Option, create, likelihoods, options_of, resolve

LARGE_WHOLE = 10**6  # larger whole numbers are counts of steps, not sizes


def ends(option: Option) -> Iterator[object]:
    """Returns the smallest and the largest value of a number; of whole numbers that are sizes the smallest alone."""
    if typing.get_origin(option.type) is not typing.Annotated:
        return
    kind, *metas = typing.get_args(option.type)
    limits = next(each for each in metas if isinstance(each, msgspec.Meta))
    if kind is int:
        yield limits.ge
        yield from (limits.le,) if limits.le and limits.le > LARGE_WHOLE and option.name != "codes" else ()
    elif kind is float:
        assert limits.le is not None or limits.lt is not None, f"{option.name} has no largest value"
        yield limits.ge if limits.ge is not None else math.nextafter(limits.gt, math.inf)
        yield limits.le if limits.le is not None else math.nextafter(limits.lt, -math.inf)


CASES = [
    (name, option, value)
    for name in dict.fromkeys(NAMES)
    for entry in resolve(name)
    for option, each in entry.options.items()
    for value in ends(each)
]
LIKELIHOOD_CASES = [
    (name, option, value)
    for name in likelihoods.names()
    for option, each in options_of(likelihoods.get(name)).items()
    for value in ends(each)
]


def finite(*tensors: Tensor) -> bool:
    return all(bool(torch.isfinite(each).all()) for each in tensors)


def train_and_draw(model: VAE, x: Tensor, c: Tensor | None) -> None:
    model.initialize([(x, model.check_context(c, len(x)))])
    for step in range(2):
        elbo = model(x, c, torch.tensor(step))
        assert finite(elbo.distortion, elbo.rate, *elbo.losses.values(), *elbo.terms.values())
        torch.stack([loss.mean() for loss in elbo.losses.values()]).sum().backward()
        assert finite(*(each.grad for each in model.parameters() if each.grad is not None))
        model.after_step([elbo.statistics], torch.tensor(step))
        assert finite(*model.buffers())
    model.eval()
    assert finite(model.sample(2, None if c is None else c[:2], seed=0), model.reconstruct(x, c))


@pytest.mark.parametrize(("name", "option", "value"), CASES)
def test_the_ends_of_every_range_give_finite_numbers(name: str, option: str, value: object) -> None:
    case = Case(name, context=contexts_of(name)[0])
    try:
        model = case.build(**{option: value})
    except VaezooError:
        return  # refused together with the other options
    train_and_draw(model, *case.inputs(6))


@pytest.mark.parametrize(("name", "option", "value"), LIKELIHOOD_CASES)
def test_the_ends_of_every_likelihoods_range_give_finite_numbers(name: str, option: str, value: object) -> None:
    case = Case("vae", likelihood=name)
    model = create("vae", shape=case.shape, latent=2, likelihood={"name": name, option: value})
    train_and_draw(model, *case.inputs(6))


@pytest.mark.parametrize("value", [1e300, -1.0, math.nan, math.inf, "4", [4.0], None, np.array([1.0, 2.0]), 10**400])
def test_values_outside_a_range_are_one_error(value: object) -> None:
    with pytest.raises(ConfigError, match="option beta"):
        create("beta-vae", shape=8, beta=value)


def test_numbers_of_numpy_and_torch_are_options() -> None:
    for four in (np.float64(4), np.float32(4), np.int64(4), torch.tensor(4.0), 4):
        model = create("beta-vae", shape=np.array([1, 8, 8]), latent=np.int64(3), context=np.int64(2), beta=four)  # type: ignore[arg-type]
        assert model.config == create("beta-vae", shape=(1, 8, 8), latent=3, context=2, beta=4.0).config
    levels = create("fsq-vae", shape=(1, 8, 8), levels=np.array([8, 5]), latent=(np.int32(2), 2, 2)).config
    assert levels == create("fsq-vae", shape=(1, 8, 8), levels=[8, 5], latent=(2, 2, 2)).config
    for bad in ("8", 8.5, np.array(["8"]), np.array([8.5]), True):
        with pytest.raises(ConfigError, match="Got shape"):
            create("vae", shape=bad)  # type: ignore[arg-type]
