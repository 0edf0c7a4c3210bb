r"""The one language that every variant speaks: distortion, rate and bound, per example, in nats.

$$\log p(x) \ge \mathbb{E}_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x)\,\|\,p(z)) = -(D + R)$$

*Distortion* $D$ is what the decoder loses, *rate* $R$ is what the posterior tells beyond the prior (Alemi et al., 2018,
"Fixing a Broken ELBO", https://arxiv.org/abs/1711.00464). Both are summed over event dimensions and never averaged over
the batch; only the trainer averages. An objective may minimise something else, but it always reports these two and a
bound that no weight has touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

__all__ = [
    "ELBO",
    "Cyclical",
    "Inference",
    "Model",
    "Objective",
    "Part",
    "PenalizedObjective",
    "Penalty",
    "Schedule",
    "Warmup",
    "WeightedObjective",
    "center",
    "draw",
    "has_closed_form_rate",
    "log_mean_exp",
]


@runtime_checkable
class JointlySampled(Protocol):
    """A posterior that draws z together with the log density of these very z."""

    def rsample_and_log_prob(self, sample_shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Returns z (*sample_shape, B, *latent) and log q(z|x) (*sample_shape, B)."""


def has_density(posterior: Distribution) -> bool:
    """Says whether a posterior has a density, or probabilities; a point mass in a continuous space has neither."""
    return bool(getattr(posterior, "has_density", True))


def draw(posterior: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    """Returns z (K, B, *latent) and log q(z|x) (K, B), drawn together where the posterior can."""
    if isinstance(posterior, JointlySampled):
        return posterior.rsample_and_log_prob((samples,))
    z = posterior.rsample((samples,)) if posterior.has_rsample else posterior.sample((samples,))
    return z, posterior.log_prob(z)


@singledispatch
def center(posterior: Distribution) -> Tensor:
    """Returns the centre of a posterior, (B, *latent): what `reconstruct` decodes.

    The distribution's own `center` where it has one, else its mean, else its mode.
    """
    own = getattr(posterior, "center", None)
    if isinstance(own, Tensor):
        return own
    try:
        return posterior.mean
    except NotImplementedError:
        return posterior.mode


def has_closed_form_rate(posterior: Distribution, prior: Distribution) -> bool:
    """Says whether KL(posterior || prior) is registered in closed form; otherwise the rate is sampled."""
    try:
        kl_divergence(posterior, prior)
    except NotImplementedError:
        return False
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Inference:
    """One stochastic pass through a model: K samples for each of B examples.

    `x` (B, *shape); `z` (K, B, *latent); `log_q` (K, B), the log density of these very z; the three distributions.
    """

    x: Tensor
    z: Tensor
    log_q: Tensor
    posterior: Distribution
    prior: Distribution
    likelihood: Distribution

    def log_likelihood(self) -> Tensor:
        """Returns log p(x|z), (K, B), nats; the dearest term with many samples: take it once."""
        return self.likelihood.log_prob(self.x)

    def distortion(self, log_likelihood: Tensor | None = None) -> Tensor:
        r"""Returns $-\mathbb{E}_q \log p(x|z)$, (B,), nats; `log_likelihood` (K, B) where it is known already."""
        return -(self.log_likelihood() if log_likelihood is None else log_likelihood).mean(0)

    def rate(self) -> Tensor:
        r"""Returns $\mathrm{KL}(q\|p)$, (B,), nats: closed form where registered, else the mean over the K samples."""
        try:
            return kl_divergence(self.posterior, self.prior).expand(self.log_q.shape[1:])
        except NotImplementedError:
            return (self.log_q - self.prior.log_prob(self.z)).mean(0)

    def log_weights(self, log_likelihood: Tensor | None = None) -> Tensor:
        r"""Returns $\log p(x|z) + \log p(z) - \log q(z|x)$, (K, B), nats; `log_likelihood` as in `distortion`."""
        known = self.log_likelihood() if log_likelihood is None else log_likelihood
        if getattr(self.posterior, "deterministic", False):
            return known - self.rate()  # of the only outcome, log p(z) - log q(z|x) is minus the divergence
        return known + self.prior.log_prob(self.z) - self.log_q


@dataclass(frozen=True, kw_only=True, slots=True)
class ELBO:
    """What every variant reports, per example, in nats.

    `distortion`, `rate`, `bound`: (B,); the bound is a lower bound on log p(x) that no weight has touched, -inf where
    there is no density. `losses`: what each player minimises, (B,) each. `terms`: the variant's own named terms, (B,)
    each. `seen`: what parts that learn without a gradient (an EMA codebook, a running scale) need of this pass,
    detached, keyed `part.name`.
    """

    distortion: Tensor
    rate: Tensor
    bound: Tensor
    losses: Mapping[str, Tensor]
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    seen: Mapping[str, Tensor] = field(default_factory=dict)


class Model(Protocol):
    """What objectives and parts may ask of a model (see `vaezoo.model.VAE`)."""

    encoder: nn.Module
    decoder: nn.Module
    prior: nn.Module

    def infer(self, x: Tensor, c: Tensor | None = None, samples: int = 1) -> Inference:
        """Returns one stochastic pass with `samples` draws per example."""

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns what the parts that learn without a gradient need of this pass."""

    def parameters(self, recurse: bool = True) -> Iterable[nn.Parameter]:
        """Returns the parameters of the parts and of the objective."""


class Part(nn.Module):
    """A part of a model: encoder, decoder, prior or objective. Each hook has a harmless default.

    `forward` changes no buffer. What learns without a gradient reports tensors from `observe` and moves in
    `after_step`. `first_images`: how many examples `initialize` is best given.
    """

    first_images = 2_000  # enough for biases, codebooks and scales, and a second's work

    def bind(self, model: Model) -> None:
        """Receives the model when it is built, copied or changed; refer to other parts, never register them."""

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Starts what should start from data (biases, codebooks), once, before the first step; (x, c) batches."""

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns detached tensors of one micro-batch for `after_step`."""
        return {}

    def after_step(self, seen: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Moves what learns without a gradient; `seen`: a mapping (maybe empty) per micro-batch and rank, in order."""


#: what a loss may have besides distortion and rate: (model, inference) -> (B,), or 0-dim for a whole batch
Penalty = Callable[[Model, Inference], Tensor]


class Schedule(nn.Module):
    """A weight as a function of the step. `forward(step)`: a 0-dim tensor; None means the schedule's end."""

    def forward(self, step: Tensor | None) -> Tensor | float:
        """Returns the weight at `step`."""
        raise NotImplementedError


class Constant(Schedule):
    """The same weight at every step."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = float(value)

    def forward(self, step: Tensor | None) -> Tensor | float:
        """Returns the constant."""
        return self.value


class Warmup(Constant):
    """Rises linearly from 0 to `value` over `steps` (Bowman et al., 2016, https://arxiv.org/abs/1511.06349)."""

    def __init__(self, value: float, steps: int) -> None:
        super().__init__(value)
        self.steps = steps

    def forward(self, step: Tensor | None) -> Tensor | float:
        """Returns value · min(1, step / steps)."""
        return self.value if step is None else self.value * (step / self.steps).clamp(max=1.0)


class Cyclical(Constant):
    """`cycles` warm-ups of `steps` each, the second half of each held (Fu et al., 2019, https://arxiv.org/abs/1903.10145)."""

    def __init__(self, value: float, steps: int, cycles: int) -> None:
        super().__init__(value)
        self.steps, self.cycles = steps, cycles

    def forward(self, step: Tensor | None) -> Tensor | float:
        """Returns the weight; after the last cycle it stays at `value`."""
        if step is None:
            return self.value
        position = torch.where(step < self.steps * self.cycles, (step % self.steps) / self.steps, 1.0)
        return self.value * (2.0 * position).clamp(max=1.0)


class Objective(Part):
    """What is minimised. `forward(model, x, c, step)` returns an `ELBO`; `players` says who minimises which loss."""

    #: whether the objective has a rate weight that a recipe may schedule (`WeightedObjective.schedule`)
    has_rate_weight = False

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO of the examples `x` (B, *shape); `step` is a 0-dim tensor, None a schedule's end."""
        raise NotImplementedError

    def players(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Returns player -> its trainable parameters; together they are all of them, each once."""
        return {"model": [parameter for parameter in model.parameters() if parameter.requires_grad]}

    def bound_of(self, inference: Inference, distortion: Tensor, rate: Tensor) -> Tensor:
        """Returns the bound -(D + R), (B,); -inf where the posterior has no density."""
        return self.if_density(inference, -(distortion + rate))

    def if_density(self, inference: Inference, bound: Tensor) -> Tensor:
        """Returns `bound` (B,), or -inf where the posterior is a point mass in a continuous space."""
        return bound if has_density(inference.posterior) else torch.full_like(bound, -torch.inf)


class PenalizedObjective(Objective):
    r"""Minimises $D + \sum_i w_i T_i$: the distortion and named penalties, but no rate.

    Args:
        penalties: name -> ($w_i$, $T_i$); a penalty takes (model, inference) and returns (B,), or a 0-dim tensor that
            is one number for the whole batch. One of weight 0 is left out.
        samples: $K$, draws of z per example.
    """

    def __init__(self, penalties: Mapping[str, tuple[float, Penalty]] | None = None, *, samples: int = 1) -> None:
        super().__init__()
        self.penalties = {name: each for name, each in (penalties or {}).items() if each[0] != 0.0}
        self.samples = samples

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO, with the one player `model` and the penalties, unweighted, as its terms."""
        return self.report(model, self.infer(model, x, c), step)

    def infer(self, model: Model, x: Tensor, c: Tensor | None) -> Inference:
        """Returns the pass that is measured."""
        return model.infer(x, c, self.samples)

    def report(self, model: Model, inference: Inference, step: Tensor | None) -> ELBO:
        """Returns the ELBO of a pass."""
        distortion, rate = inference.distortion(), inference.rate()
        loss, terms = self.cost(distortion, rate, step), {}
        for name, (weight, penalty) in self.penalties.items():
            value = penalty(model, inference).expand_as(distortion)
            loss = loss + weight * value
            terms[name] = value.detach()
        return ELBO(
            distortion=distortion,
            rate=rate,
            bound=self.bound_of(inference, distortion, rate),
            losses={"model": loss},
            terms=terms,
            seen=model.observe(inference),
        )

    def cost(self, distortion: Tensor, rate: Tensor, step: Tensor | None) -> Tensor:
        """Returns the loss without its penalties, (B,)."""
        return distortion


class WeightedObjective(PenalizedObjective):
    r"""Minimises $D + \beta(t)\,\max(R, \lambda)$, or $D + \beta(t)\,|R - C(t)|$ with a capacity, and penalties.

    Args:
        rate: $\beta \ge 0$, a number or a `Schedule`; 0 removes the term.
        free_bits: $\lambda \ge 0$, nats per example that cost nothing (after Kingma et al., 2016,
            https://arxiv.org/abs/1606.04934).
        capacity: $C$, the rate in nats that is aimed at (Burgess et al., 2018, https://arxiv.org/abs/1804.03599).
        penalties: see `PenalizedObjective`; no schedule touches their weights.
        samples: $K$, draws of z per example.
    """

    has_rate_weight = True

    def __init__(
        self,
        rate: float | Schedule = 1.0,
        *,
        free_bits: float = 0.0,
        capacity: float | Schedule | None = None,
        penalties: Mapping[str, tuple[float, Penalty]] | None = None,
        samples: int = 1,
    ) -> None:
        super().__init__(penalties, samples=samples)
        self.rate = rate if isinstance(rate, Schedule) else Constant(rate)
        self.capacity = Constant(capacity) if isinstance(capacity, int | float) else capacity
        self.free_bits = float(free_bits)
        # What `schedule` starts from; in a tuple, so that it is not registered.
        self._built = (self.rate, self.free_bits)

    def cost(self, distortion: Tensor, rate: Tensor, step: Tensor | None) -> Tensor:
        """Returns the distortion and what the rate costs at this step, (B,)."""
        return distortion + self.penalty(rate, step)

    def penalty(self, rate: Tensor, step: Tensor | None) -> Tensor:
        """Returns what the rate costs at this step, (B,)."""
        weight: Tensor | float = self.rate(step)
        if isinstance(weight, float) and weight == 0.0:
            return torch.zeros_like(rate)
        if self.capacity is not None:
            rate = (rate - self.capacity(step)).abs()
        if self.free_bits > 0:
            rate = rate.clamp(min=self.free_bits)
        return rate if isinstance(weight, float) and weight == 1.0 else weight * rate

    def schedule(self, *, warmup: int = 0, cycles: int = 0, free_bits: float = 0.0) -> None:
        """Puts a stage's schedule on the rate's weight: warm-up or cycles over `warmup` steps, and free nats.

        What an earlier stage had put there is gone: without arguments the objective is as it was built.
        """
        self.rate, self.free_bits = self._built
        value = float(self.rate(None))
        if warmup:
            self.rate = Cyclical(value, warmup, cycles) if cycles else Warmup(value, warmup)
        if free_bits:
            self.free_bits = free_bits


def log_mean_exp(values: Tensor) -> Tensor:
    """Returns log((1/K) Σ_k exp(values_k)) over the first dimension."""
    return values.logsumexp(0) - math.log(values.shape[0])
