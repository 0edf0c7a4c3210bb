"""The combinations that the walls run over: everything that is registered, so that what comes later is met too."""

import functools
import itertools
import typing
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.errors import ConfigError, ShapeError
from vaezoo.likelihoods import Likelihood
from vaezoo.registry import Variant, backbones, create, likelihoods, options_of, resolve, variants, with_requirements

COMPOSED = ("cvae+iwae", "conv-vae+beta-vae")
#: every variant, behind one that has what it needs
NAMES = (*map(with_requirements, variants.names()), *COMPOSED)
SMALL_SHAPE = (1, 8, 8)
SHAPES = ((1, 28, 28), (3, 32, 32), (2, 17, 23), (30,))
CONTEXTS = (0, 3)

#: what makes a backbone or a variant quick; one that is not here runs as it is
SMALL_BACKBONES: dict[str, dict[str, object]] = {
    "mlp": {"hidden": [12]},
    "conv": {"channels": [4, 6], "dense": [8]},
}
SMALL_VARIANTS: dict[str, dict[str, object]] = {
    "aae": {"critic_hidden": [8]},
    "categorical-vae": {"latent": [4, 3]},
    "ciwae": {"samples": 3},
    "code-prior": {"prior_width": 8, "prior_depth": 1, "prior_heads": 2},
    "factor-vae": {"critic_hidden": [8]},
    "gumbel-vq-vae": {"codes": 7},
    "flow-prior-vae": {"transforms": 2, "hidden": [8]},
    "hamiltonian-vae": {"leapfrogs": 2},
    "iaf-vae": {"iaf_hidden": [17]},
    "iwae": {"samples": 3},
    "joint-vae": {"latent": 6, "categories": [2]},
    "ladder-vae": {"widths": [7, 5]},
    "m2-vae": {"latent": 7},
    "miwae": {"samples": 2, "groups": 3},
    "piwae": {"samples": 2, "groups": 3},
    "planar-vae": {"flows": 2},
    "residual-vq-vae": {"codes": 7, "depth": 2},
    "sliced-wae": {"projections": 4},
    "top-down-vae": {"width": 6},
    "two-layer-vae": {"top_hidden": [5]},
    "vade": {"clusters": 3},
    "vae-gan": {"critic_channels": 3},
    "vamp-vae": {"pseudo_inputs": 4},
    "vq-vae": {"codes": 7},
    "vq-vae-2": {"codes": 7},
    "wae-gan": {"critic_hidden": [8]},
}


@dataclass(frozen=True)
class Case:
    variant: str
    shape: tuple[int, ...] = SMALL_SHAPE
    backbone: str = "mlp"
    likelihood: str = "bernoulli"
    context: int = 0

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
        own = {key: value for entry in self.entries for key, value in SMALL_VARIANTS.get(entry.name, {}).items()}
        return create(
            self.variant,
            shape=self.shape,
            context=self.context,
            backbone={"name": self.backbone, **SMALL_BACKBONES.get(self.backbone, {})},
            likelihood={"name": name, **dict(each.split(":") for each in choice)},
            examples=1000,
            **{**own, **options},
        )

    def build(self, dtype: torch.dtype = torch.float32, seed: int = 0, **options: object) -> VAE:
        torch.default_generator.manual_seed(seed)
        return self.create(**options).to(dtype)

    def inputs(self, count: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> tuple[Tensor, Tensor | None]:
        """Returns data in the likelihood's support, and class indices where there is a context."""
        generator = torch.Generator().manual_seed(seed)
        x = in_support(head_of(self), count, self.shape, generator).to(dtype)
        return x, torch.randint(self.context, (count,), generator=generator) if self.context else None

    @property
    def permitted(self) -> bool:
        """Says whether the builders take this combination."""
        return permits(self.variant, self.shape, self.backbone, self.context)


@functools.cache
def permits(variant: str, shape: tuple[int, ...], backbone: str, context: int) -> bool:
    """Builds on the meta device, where nothing is computed; any likelihood goes with any network."""
    try:
        with torch.device("meta"):
            Case(variant, shape, backbone, context=context).create()
    except (ConfigError, ShapeError):
        return False
    return True


def likelihood_choices() -> tuple[str, ...]:
    """Returns every likelihood, and every choice of its options that are choices: gaussian=scale_kind:learned."""
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
    """Returns the least restricted data that the likelihood gives a density: real, then in [0, 1], 8-bit, binary."""
    uniform = torch.rand(count, *shape, generator=generator)
    candidates = (
        torch.randn(count, *shape, generator=generator),
        uniform,
        (uniform * 255).round() / 255,
        uniform.round(),
    )
    return next(x for x in candidates if bool(head.contains(x).all()))


def contexts_of(name: str) -> tuple[int, ...]:
    """Returns the contexts that a variant's entry states."""
    return CONTEXTS if all(entry.context == "optional" for entry in resolve(name)) else CONTEXTS[1:]


def full(name: str) -> list[Case]:
    return [
        Case(name, SMALL_SHAPE, backbone, likelihood, context)
        for backbone, likelihood, context in itertools.product(backbones.names(), LIKELIHOODS, contexts_of(name))
    ]


def pairwise(name: str) -> list[Case]:
    """Returns cases in which any two of shape, backbone and context meet, greedily; the likelihoods take turns."""
    axes: list[Sequence[object]] = [SHAPES, backbones.names(), contexts_of(name)]

    def case(shape: tuple[int, ...], backbone: str, context: int, turn: int) -> Case:
        return Case(name, shape, backbone, LIKELIHOODS[turn % len(LIKELIHOODS)], context)

    rows = [row for row in itertools.product(*axes) if case(*row, 0).permitted]  # type: ignore[arg-type]

    def pairs(row: tuple[object, ...]) -> set[tuple[tuple[int, object], ...]]:
        return set(itertools.combinations(enumerate(row), 2))

    missing, found = set().union(*map(pairs, rows)), []
    while missing:
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        found.append(case(*best, len(found) + NAMES.index(name)))  # type: ignore[arg-type]
        missing -= pairs(best)
    return found


FULL = [case for name in NAMES for case in full(name) if case.permitted]
PAIRWISE = [case for name in NAMES for case in pairwise(name)]
EVERYWHERE = FULL + PAIRWISE

#: one for each variant, backbone and context, the likelihoods taking turns
ROTATING = [
    case
    for position, case in enumerate(
        Case(name, SMALL_SHAPE, backbone, "", context)
        for name in NAMES
        for backbone, context in itertools.product(backbones.names(), contexts_of(name))
    )
    for case in [Case(case.variant, case.shape, case.backbone, LIKELIHOODS[position % len(LIKELIHOODS)], case.context)]
    if case.permitted
]
#: one for each variant
ONE_EACH = [Case(name, context=contexts_of(name)[0]) for name in NAMES]
