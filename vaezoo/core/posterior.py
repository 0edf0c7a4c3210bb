"""`Posterior`, the base class of distributions over latents, and what is read of any distribution over latents."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypedDict, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core.checks import as_number, whole_number
from vaezoo.errors import ConfigError, NoClosedFormError, shorten

ACTIVE_VARIANCE = 0.01  # of a latent's posterior center over a data set: above it the latent is active


EMPTY = torch.Size()
A = ParamSpec("A")
P = TypeVar("P", bound="Posterior")
R = TypeVar("R")


def as_built(method: Callable[Concatenate[P, A], R]) -> Callable[Concatenate[P, A], R]:
    """Decorates a method that runs networks: without gradients if the distribution was built without them.

    A distribution that `VAE.encode` returned without gradients thus gives tensors that need none; an argument that
    requires a gradient has one.
    """

    @wraps(method)
    def run(self: P, /, *args: A.args, **kwargs: A.kwargs) -> R:
        given = any(isinstance(each, Tensor) and each.requires_grad for each in args)
        with torch.set_grad_enabled(torch.is_grad_enabled() and (self.built_with_grad or given)):
            return method(self, *args, **kwargs)

    return run


class Posterior(Distribution):
    """A distribution over latents with the facts that objectives, evaluation and the trainer read of it.

    Each fact has a default, which also holds for distributions that are no `Posterior`. Read them through the functions
    of this module, which accept any `torch.distributions.Distribution`.
    """

    arg_constraints = {}  # noqa: RUF012  (torch declares it as a plain class attribute)
    #: False for a point mass in a continuous space, which has neither a density nor probabilities
    has_density = True
    #: False where `log_prob` is limited to the distribution's own draws, as that of a flow without an inverse
    knows_density = True
    #: True where all draws are equal, so that one of them is enough
    deterministic = False

    def __init__(
        self,
        batch_shape: torch.Size = EMPTY,
        event_shape: torch.Size = EMPTY,
        validate_args: bool | None = None,
    ) -> None:
        self.built_with_grad = torch.is_grad_enabled()
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @property
    def indices(self) -> Tensor | None:
        """The codes of a quantized latent, (B, ...) int64; None for other latents."""
        return None

    @property
    def mean(self) -> Tensor:
        """The mean, (*batch, *event), of distributions that have one in closed form."""
        raise NoClosedFormError(
            f"Got {type(self).__name__}.mean; expected a distribution whose mean has a closed form. Use `center`, the "
            "point that `reconstruct` decodes, or the mean of `rsample((1000,))`."
        )

    @property
    def center(self) -> Tensor:
        """The point that `VAE.reconstruct` decodes, (*batch, *event): the mean, or the mode where there is no mean."""
        return _mean_or_mode(self)

    def responsibilities(self, value: Tensor) -> Tensor | None:
        """Returns p(component | value) of a mixture, (*sample, M), for `value` (*sample, *event); None for others."""
        return None

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, *batch, *event) and its log density (*sample, *batch), nats."""
        raise NotImplementedError


@runtime_checkable
class Temperable(Protocol):
    """A prior that can be sampled at a temperature."""

    def tempered(self, temperature: float) -> Distribution:
        """Returns the distribution whose scales, or logits' inverse, are multiplied by `temperature`."""


def tempered(prior: Distribution, temperature: float) -> Distribution:
    """Returns `prior` at a temperature; raises ConfigError for one out of range, or a prior that has none."""
    number = as_number(temperature)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 1e-6 <= number <= 100.0:
        raise ConfigError(f"Got temperature = {shorten(temperature)}; expected a number from 1e-6 to 100.")
    if number == 1.0:
        return prior
    try:
        if isinstance(prior, Temperable):
            return prior.tempered(float(number))
        raise NotImplementedError
    except NotImplementedError:
        raise ConfigError(
            f"Got temperature = {number}; the prior, {type(prior).__name__}, has none. Leave temperature out."
        ) from None


class SampleOptions(TypedDict, total=False):
    """Options of `VAE.sample` that change the prior."""

    temperature: float
    top_k: int | None
    top_p: float | None


@runtime_checkable
class Truncatable(Protocol):
    """A prior over codes whose draws can be limited to the most probable codes of each position."""

    def truncated(self, top_k: int | None, top_p: float | None) -> Distribution:
        """Returns the distribution limited to the `top_k` most probable codes, and to those of the mass `top_p`."""


def truncated(prior: Distribution, top_k: int | None = None, top_p: float | None = None) -> Distribution:
    """Returns `prior` limited to its most probable codes; None sets no limit.

    Raises:
        ConfigError: `top_k` is no whole number from 1, `top_p` no number above 0 and up to 1, or the prior has no
            probabilities of codes.
    """
    if top_k is None and top_p is None:
        return prior
    if top_k is not None:
        top_k = whole_number(top_k, "top_k", 1)
    share = as_number(top_p)
    if share is not None and (isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1):
        raise ConfigError(f"Got top_p = {shorten(top_p)}; expected a number above 0, up to 1.")
    if not isinstance(prior, Truncatable):
        given = "top_p" if top_k is None else "top_k"
        raise ConfigError(
            f"Got {given}; the prior, {type(prior).__name__}, has no probabilities of codes. Leave {given} out, or "
            "add code-prior to a variant that has codes."
        )
    return prior.truncated(top_k, None if share is None else float(share))


def has_density(posterior: Distribution) -> bool:
    """Returns whether a posterior has a density, or probabilities; a point mass in a continuous space has neither."""
    return posterior.has_density if isinstance(posterior, Posterior) else Posterior.has_density


def is_deterministic(posterior: Distribution) -> bool:
    """Returns whether all draws of a posterior are equal."""
    return posterior.deterministic if isinstance(posterior, Posterior) else Posterior.deterministic


def code_indices(posterior: Distribution) -> Tensor | None:
    """Returns the codes of a quantized latent, (B, ...) int64; None for other latents."""
    return posterior.indices if isinstance(posterior, Posterior) else None


def center(posterior: Distribution) -> Tensor:
    """Returns the point of a posterior that `VAE.reconstruct` decodes, (B, *latent)."""
    return posterior.center if isinstance(posterior, Posterior) else _mean_or_mode(posterior)


def exact_mean(posterior: Distribution) -> Tensor | None:
    """Returns the mean of a posterior, (B, *latent); None if it has no closed form."""
    try:
        return posterior.mean
    except NotImplementedError:
        return None


def mean_or_center(posterior: Distribution) -> Tensor:
    """Returns the mean of a posterior if it has a closed form, otherwise its center, (B, *latent)."""
    mean = exact_mean(posterior)
    return center(posterior) if mean is None else mean


def responsibilities(prior: Distribution, z: Tensor) -> Tensor | None:
    """Returns p(component | z) of a mixture, (B, M), for z (B, *latent); None for a prior that is no mixture."""
    return prior.responsibilities(z) if isinstance(prior, Posterior) else None


def sample_with_log_prob(posterior: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    """Returns z (K, B, *latent) and log q(z|x) (K, B)."""
    if isinstance(posterior, Posterior):
        return posterior.rsample_and_log_prob((samples,))
    shape = torch.Size((samples,))
    z = posterior.rsample(shape) if posterior.has_rsample else posterior.sample(shape)
    return z, posterior.log_prob(z)


def _mean_or_mode(distribution: Distribution) -> Tensor:
    mean = exact_mean(distribution)
    return distribution.mode if mean is None else mean
