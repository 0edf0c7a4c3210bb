"""Combinations of everything that is registered, for tests over the whole registry."""

import functools
import itertools
import math
import typing
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.errors import ConfigError, ShapeError
from vaezoo.likelihoods import Likelihood
from vaezoo.registry import Variant, backbones, create, likelihoods, options_of, resolve, variants, with_requirements

#: every variant with what it requires, and two compositions
NAMES = (*map(with_requirements, variants.names()), "cvae+iwae", "conv-vae+beta-vae")
SMALL_SHAPE = (1, 8, 8)
SHAPES = ((1, 28, 28), (3, 32, 32), (2, 17, 23), (30,))
CONTEXTS = (0, 3)
#: options for small networks; a backbone that is not listed is used with its defaults
SMALL_BACKBONES: dict[str, dict[str, object]] = {
    "mlp": {"hidden": [12]},
    "conv": {"channels": [4, 6], "dense": [8]},
    "resnet": {"channels": [4, 6], "attention": True},
    "conv1d": {"channels": [4, 6], "dense": [8]},
    "diffusers-kl": {"channels": [4, 6], "groups": 2},
    "diffusers-dc": {"channels": [4, 8], "blocks": [1, 1], "head_width": 4, "attention": [False, True]},
    "diffusers-tiny": {"width": 4, "blocks": [1, 1], "up_blocks": [1, 0]},
}
#: backbones in products over the registry; the others have the layers of these, and tests of their own
BACKBONES = [name for name in backbones.names() if not name.startswith("diffusers-")]


@dataclass(frozen=True)
class Case:
    """A variant with its example's options; without a backbone or likelihood, those that it is named for.

    For the backbone `conv1d` the shape of images is that of series with as many elements.
    """

    variant: str
    shape: tuple[int, ...] = SMALL_SHAPE
    backbone: str = ""
    likelihood: str = ""
    context: int = 0

    def __post_init__(self) -> None:
        if not self.backbone:
            object.__setattr__(self, "backbone", (*permitted(self.variant, "backbone"), "mlp")[0])
        if not self.likelihood:
            object.__setattr__(self, "likelihood", (*permitted(self.variant, "likelihood"), "bernoulli")[0])
        object.__setattr__(self, "shape", shaped(self.backbone, self.shape))

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{self.variant}-{size}-{self.backbone}-{self.likelihood}-c{self.context}"

    @property
    def entries(self) -> list[Variant]:
        return resolve(self.variant)

    @property
    def couples_examples(self) -> bool:
        return any(entry.couples_examples for entry in self.entries)

    @property
    def has_density(self) -> bool:
        return all(entry.rate != "no density" for entry in self.entries)

    def create(self, **options: object) -> VAE:
        name, *choice = self.likelihood.split("=", 1)
        return create(
            self.variant,
            shape=self.shape,
            context=self.context,
            backbone={"name": self.backbone, **SMALL_BACKBONES.get(self.backbone, {})},
            likelihood={"name": name, **dict(each.split(":") for each in choice)},
            examples=1000,
            **{**example_of(self.variant), **options},
        )

    def build(self, dtype: torch.dtype = torch.float32, seed: int = 0, **options: object) -> VAE:
        torch.default_generator.manual_seed(seed)
        return self.create(**options).to(dtype)

    def inputs(self, count: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> tuple[Tensor, Tensor | None]:
        """Returns data in the likelihood's support, and class indices for a conditional model."""
        generator = torch.Generator().manual_seed(seed)
        x = in_support(head_of(self), count, self.shape, generator).to(dtype)
        return x, torch.randint(self.context, (count,), generator=generator) if self.context else None


def example_of(variant: str) -> dict[str, object]:
    """Returns the examples of a composed name's variants, in one table."""
    return {key: value for entry in resolve(variant) for key, value in entry.example.items()}


def permitted(variant: str, field: str) -> list[str]:
    """Returns the backbones or likelihoods that a variant is named for, as `Case` writes them; [] without any."""
    tables = [dict(table) for entry in resolve(variant) for table in entry.fixed.get(field, ())]
    return [str(table.pop("name")) + "".join(f"={key}:{value}" for key, value in table.items()) for table in tables]


@functools.cache
def fits(backbone: str, shape: tuple[int, ...]) -> bool:
    """Returns whether a backbone accepts a shape; every variant then does."""
    try:
        with torch.device("meta"):
            Case("vae", shape, backbone).create()
    except (ConfigError, ShapeError):
        return False
    return True


def shaped(backbone: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a shape of as many elements that a backbone takes: series (C, H * W) in place of images for `conv1d`."""
    return (shape[0], math.prod(shape[1:])) if backbone == "conv1d" and len(shape) == 3 else shape


def axes_of(name: str, *shapes: tuple[int, ...]) -> list[tuple[tuple[int, ...], str, int]]:
    """Returns all combinations of shape, backbone and context that a variant permits."""
    axes = itertools.product(shapes, permitted(name, "backbone") or BACKBONES, contexts_of(name))
    return [(shape, backbone, context) for shape, backbone, context in axes if fits(backbone, shape)]


def likelihood_choices() -> tuple[str, ...]:
    """Returns every likelihood, and every other choice of its options that are choices: gaussian=scale_kind:learned."""
    found: list[str] = []
    for name in likelihoods.names():
        found.append(name)
        for option in options_of(likelihoods.get(name)).values():
            choices = typing.get_args(option.type) if typing.get_origin(option.type) is typing.Literal else ()
            found += [f"{name}={option.name}:{choice}" for choice in choices if choice != option.default]
    return tuple(found)


LIKELIHOODS = likelihood_choices()


@functools.cache
def head_of(case: Case) -> Likelihood:
    name, *choice = case.likelihood.split("=", 1)
    head = likelihoods.get(name)(case.shape, **dict(each.split(":") for each in choice))
    assert isinstance(head, Likelihood)
    return head


def in_support(head: Likelihood, count: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Returns the least restricted data with a density: real, then in [0, 1], 8-bit, binary."""
    uniform = torch.rand(count, *shape, generator=generator)
    real = torch.randn(count, *shape, generator=generator)
    candidates = (real, uniform, (uniform * 255).round() / 255, uniform.round())
    return next(x for x in candidates if bool(head.contains(x).all()))


def contexts_of(name: str) -> tuple[int, ...]:
    """Returns the contexts that a variant permits."""
    return CONTEXTS if all(entry.context == "optional" for entry in resolve(name)) else CONTEXTS[1:]


def likelihoods_of(name: str) -> Sequence[str]:
    """Returns the likelihoods that a variant permits."""
    return permitted(name, "likelihood") or LIKELIHOODS


def product(name: str) -> list[Case]:
    """Returns all combinations of backbone, likelihood and context on the small shape."""
    axes = itertools.product(likelihoods_of(name), axes_of(name, SMALL_SHAPE))
    return [Case(name, shape, backbone, likelihood, context) for likelihood, (shape, backbone, context) in axes]


def rotating(name: str) -> list[Case]:
    """Returns one case for each backbone and context on the small shape; the likelihoods take turns over variants."""
    choices, number = likelihoods_of(name), NAMES.index(name)
    return [
        Case(name, shape, backbone, choices[(number + number // 4 + place) % len(choices)], context)
        for place, (shape, backbone, context) in enumerate(axes_of(name, SMALL_SHAPE))
    ]


def pairwise(name: str) -> list[Case]:
    """Returns cases in which any two of shape, backbone and context occur, greedily; the likelihoods take turns."""
    rows, choices = axes_of(name, *SHAPES), likelihoods_of(name)

    def pairs(row: tuple[object, ...]) -> set[tuple[tuple[int, object], ...]]:
        return set(itertools.combinations(enumerate(row), 2))

    missing, found = set().union(*map(pairs, rows)), list[Case]()
    while missing:
        shape, backbone, context = best = max(rows, key=lambda row: len(pairs(row) & missing))
        turn = (len(found) + NAMES.index(name)) % len(choices)
        found.append(Case(name, shape, backbone, choices[turn], context))
        missing -= pairs(best)
    return found


#: one for each variant, backbone and context
ROTATING = [case for name in NAMES for case in rotating(name)]
#: the product for `vae`; for each variant any two of shape, backbone and context, where the likelihoods take turns
EVERYWHERE = [*dict.fromkeys([*product("vae"), *ROTATING, *(case for name in NAMES for case in pairwise(name))])]
#: one for each variant, with a multilayer perceptron and binary data
ONE_EACH = [Case(name, context=contexts_of(name)[0]) for name in NAMES]
#: one for each variant, in which backbones, likelihoods and contexts take turns
DAILY = [rotating(name)[place % len(rotating(name))] for place, name in enumerate(NAMES)]


def over(cases: Iterable[Case], daily: Collection[Case] = DAILY) -> pytest.MarkDecorator:
    """Parametrizes `case`; cases that are not among the daily ones are marked `full`."""
    chosen = set(daily)
    params = [pytest.param(case, id=str(case), marks=() if case in chosen else pytest.mark.full) for case in cases]
    return pytest.mark.parametrize("case", params)
