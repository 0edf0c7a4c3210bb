"""`Part` and `Objective`, the base classes of everything that a `VAE` is made of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core.checks import LARGEST_VALUE
from vaezoo.core.elbo import ELBO, Inference
from vaezoo.core.posterior import code_indices, has_density
from vaezoo.errors import CompositionError, ShapeError

PARTS = ("encoder", "decoder", "prior", "objective")

#: class indices or names, one for all or one for each example, or vectors
Context = Tensor | Sequence[int] | Sequence[str] | int | str


class Model(Protocol):
    """The interface of a model that objectives and parts may use (see `vaezoo.core.model.VAE`)."""

    encoder: nn.Module
    decoder: nn.Module
    prior: nn.Module

    def infer(self, x: Tensor, c: Tensor | None = None, samples: int = 1) -> Inference:
        """Returns one stochastic pass with `samples` draws per example."""

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns the statistics of a pass for parts that learn without gradients."""

    def parameters(self, recurse: bool = True) -> Iterable[nn.Parameter]:
        """Returns the parameters of the parts and of the objective."""


class Part(nn.Module):
    """Base of encoders, decoders, priors and objectives: hooks and facts that a subclass may override.

    `forward` changes no buffer. Statistics that are learned without gradients are reported by `observe` and applied by
    `after_step`. A part may also be any `nn.Module`; read the facts below through `as_part`, which then gives the
    defaults.
    """

    #: how many examples `initialize` needs for good estimates
    initialization_examples = 2_000
    #: of an encoder: whether the context holds labels that may be missing (-1, or zeros in place of a one-hot vector)
    takes_unlabelled = False
    #: of an encoder: whether its posteriors have `log_prob` of any z; see `Posterior.knows_density`
    knows_density = True
    #: of an encoder: the class of its posteriors; None if unknown
    posterior_type: type[Distribution] | None = None
    #: of a prior: whether it is a mixture whose components are clusters of the data
    has_clusters = False
    #: of a prior: whether encoder or decoder use its parameters, so that the distortion trains them too
    is_shared = False
    #: of a prior: whether its latents always depend on each other, as those of a hierarchy do
    has_dependent_latents = False
    #: of an encoder to codes: the number of positions of each level; empty for other encoders
    sections: tuple[int, ...] = ()
    #: of an encoder to codes or categories: the shape of the indices of one example; None for other encoders. Such an
    #: encoder has `codes`, the number of values of an index, and `look_up`, which returns z (..., *latent) of (..., N)
    index_shape: tuple[int, ...] | None = None
    #: of an encoder: whether its posterior depends on p(x|z), so that x must have values that the likelihood accepts
    uses_likelihood = False
    #: whether a pass reads parameters of other parts, or differentiates other parts and then that derivative; training
    #: with sharded parameters then gathers all of them for the whole pass, and not layer by layer
    needs_whole_parameters = False

    @property
    def likelihood(self) -> "Likelihood | None":
        """Of a decoder: the submodule of that name, which checks the values of x; None leaves them unchecked."""
        return cast("Likelihood | None", self._modules.get("likelihood"))

    def classify(self, x: Tensor) -> Tensor | None:
        """Returns an encoder's class for each of `x` (B, *shape), (B,) int64; None for one without classes."""
        return None

    def indices(self, posterior: Distribution) -> Tensor | None:
        """Returns an encoder's indices of the center of its posterior, (B, ...) int64; None for one without codes."""
        return code_indices(posterior)

    def last_layer(self) -> nn.Module | None:
        """Returns a decoder's layer before its likelihood, where gradients are compared; None without such a layer."""
        return None

    def bind(self, model: Model) -> None:
        """Called when the model is built or changed. Keep references to other parts, but do not register them."""

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Runs data-dependent initialization (biases, codebooks), once, before the first step, on (x, c) batches."""

    def begin_stage(self, trained: bool) -> None:
        """Called before each stage of training and after the last one; `trained`: whether the stage trains the part."""

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns detached tensors of one micro-batch for `after_step`."""
        return {}

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Updates statistics that are learned without gradients; a mapping per micro-batch and rank, in order."""


class Likelihood(Part):
    """The head of a decoder.

    Args:
        shape: the event shape of x.
    """

    #: raw numbers per element of x
    outputs = 1
    #: whether p(x|z) is a probability mass, of discrete x; False for a density, whose nats depend on the units of x
    mass = False
    #: whether x may have gaps, marked by NaN: log p(x|z) is over the observed elements, and encoders receive a mask
    gaps = False
    #: description of the values that `accepts` accepts, for messages
    domain = f"finite values of magnitude up to {LARGEST_VALUE:g}"
    #: description of the values that `contains` contains, for messages
    support = domain
    #: what to do with values that `contains` does not contain, for messages
    remedy = "choose another likelihood (architecture.likelihood)"

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for raw outputs (..., P, *shape)."""
        raise NotImplementedError

    def accepts(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values may be trained on; NaN and infinity never."""
        return (x.abs() <= LARGEST_VALUE).flatten(1).all(1)

    def contains(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether it has a density; all of these `accepts` accepts."""
        return self.accepts(x)

    def initial_raw(self, mean: Tensor) -> Tensor | None:
        """Returns raw outputs (P, *shape) whose distribution has the data's mean (*shape), or None to start at 0."""
        return None

    def features(self) -> Callable[[Tensor], Tensor]:
        """Returns the function of x that precedes an encoder's network, if x may have gaps; no bound method."""
        return nn.Identity()

    def point(self, mean: Tensor) -> Tensor:
        """Returns values (..., *shape) of x for means of p(x|z): the most probable ones instead of probabilities."""
        return mean


class Objective(Part):
    """What is minimized: `forward` returns an `ELBO`, `players` the parameters that minimize each of its losses."""

    #: whether the objective has a rate weight, which `schedule` sets and a recipe's stages may schedule
    has_rate_weight = False
    #: attributes that hold critics: they are not saved, and None in a loaded model
    critics: tuple[str, ...] = ()
    #: the class of posteriors that the objective needs; None if it takes any
    posterior_type: type[Distribution] | None = None

    def trains_prior(self) -> bool:
        """Returns whether the rate is a term of the loss, so that a learned prior needs no loss of its own."""
        return True

    def check_parts(self, model: Model) -> None:
        """Validates that the objective has a meaning with the other parts; `create` calls it.

        Raises:
            CompositionError: the encoder's posteriors are not of the class that the objective needs.
        """
        found, needed = as_part(model.encoder).posterior_type, self.posterior_type
        if found is not None and needed is not None and not issubclass(found, needed):
            raise CompositionError(
                f"Got an encoder whose posteriors are {found.__name__}; its objective expected {needed.__name__}. "
                "Leave out the variant that changes the encoder, or choose another objective."
            )

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO of `x` (B, *shape); `step`: a 0-dim tensor, None after the end of all schedules."""
        raise NotImplementedError

    def players(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Returns the trainable parameters of each player; every parameter belongs to one of them."""
        return {"model": [parameter for parameter in model.parameters() if parameter.requires_grad]}

    def rate_weight(self, step: Tensor | None) -> float:
        """Returns the weight of the rate at `step`, a 0-dim tensor; None: after the schedule's end."""
        raise NotImplementedError

    def schedule(self, *, warmup: int = 0, cycles: int = 0, free_bits: float = 0.0) -> None:
        """Sets the schedule of the rate weight for a stage; without arguments it is as it was built.

        Args:
            warmup: steps until the weight has its full value, or the steps that `cycles` share.
            cycles: repeated warm-ups, 0 for a single one.
            free_bits: nats of the rate that cost nothing.
        """
        raise NotImplementedError

    def bound_of(self, inference: Inference, distortion: Tensor, rate: Tensor) -> Tensor:
        """Returns the bound -(D + R), (B,); -inf where the posterior has no density."""
        return self.if_density(inference, -(distortion + rate))

    def if_density(self, inference: Inference, bound: Tensor) -> Tensor:
        """Returns `bound` (B,), or -inf where the posterior is a point mass in a continuous space."""
        return bound if has_density(inference.posterior) else torch.full_like(bound, -torch.inf)


_DEFAULTS = Part()


def as_part(module: nn.Module) -> Part:
    """Returns `module` if it is a `Part`, else a part that has every default: any `nn.Module` may serve as a part."""
    return module if isinstance(module, Part) else _DEFAULTS


def network_inputs(x: Tensor, c: Tensor | None) -> tuple[Tensor, ...]:
    """Returns the arguments of a network: `(x,)` without a context."""
    return (x,) if c is None else (x, c)


def require_vector_latent(latent: Sequence[int], name: str, least: int = 1) -> int:
    """Returns the size of a latent of one axis, which the variant `name` needs; raises ShapeError for another."""
    if len(latent) != 1 or latent[0] < least:
        raise ShapeError(
            f"Got latent = {list(latent)}; {name} expected one axis with at least {least} latents, such as latent = "
            f"{max(least, 16)}."
        )
    return latent[0]
