"""Objectives that are weighted sums of distortion, rate and penalties."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import ELBO, Inference, Model, Objective, as_part
from vaezoo.objectives.players import players_of
from vaezoo.objectives.schedules import Cyclical, Schedule, Warmup

#: a term of a loss: (model, inference) -> (B,), or a 0-dim tensor for the whole batch
Penalty = Callable[[Model, Inference], Tensor]


class PenalizedObjective(Objective):
    r"""The objective $D + \sum_i w_i T_i$: distortion and named penalties, but no rate.

    Without the rate nothing trains a learned prior. It is then a player of its own, `prior`, with the loss
    $-\log p(z)$ of the codes as constants: the prior is fitted to the codes and has no effect on them. So it is in each
    subclass whose `trains_prior` returns False, unless encoder or decoder share the prior's parameters.

    Args:
        penalties: name -> ($w_i$, $T_i$); a penalty takes (model, inference) and returns (B,), or a 0-dim tensor
            for the whole batch. Penalties of weight 0 are left out. One that is a module moves with the objective.
        samples: $K$, draws of z per example.
        posterior_type: the class of posteriors that the penalties need; None if they take any.
    """

    def __init__(
        self,
        penalties: Mapping[str, tuple[float, Penalty]] | None = None,
        *,
        samples: int = 1,
        posterior_type: type[Distribution] | None = None,
    ) -> None:
        super().__init__()
        self.posterior_type = posterior_type or type(self).posterior_type
        self.penalties = {name: each for name, each in (penalties or {}).items() if each[0] != 0.0}
        if networks := [each for _, each in self.penalties.values() if isinstance(each, nn.Module)]:
            self.networks = nn.ModuleList(networks)
        self.added: dict[str, tuple[float, Penalty]] = {}  # after it was built
        self.samples = samples

    def add_penalty(self, name: str, weight: float, penalty: Penalty) -> None:
        """Adds a penalty for this training, or replaces that of the same name; the config does not record it."""
        self.penalties[name] = self.added[name] = (weight, penalty)
        self.networks = nn.ModuleList(each for _, each in self.penalties.values() if isinstance(each, nn.Module))

    def trains_prior(self) -> bool:
        """Returns whether the rate is a term of the loss."""
        return False

    def players(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Returns the parameters of the model, and those of a learned prior that has a loss of its own."""
        return players_of(model, self.fitted_prior(model), rest="model")

    def fitted_prior(self, model: Model) -> dict[str, nn.Module]:
        """Returns {"prior": the prior} if it is fitted to the codes by a loss of its own, else {}."""
        fitted = not self.trains_prior() and not as_part(model.prior).is_shared
        return {"prior": model.prior} if fitted and any(p.requires_grad for p in model.prior.parameters()) else {}

    def codes(self, model: Model, inference: Inference) -> Tensor:
        """Returns the codes (K, B, *latent) that a prior with a loss of its own is fitted to."""
        return inference.z

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO, with the player `model` and the unweighted penalties as terms."""
        return self.report(model, self.infer(model, x, c), step)

    def infer(self, model: Model, x: Tensor, c: Tensor | None) -> Inference:
        """Returns the inference that `report` measures."""
        return model.infer(x, c, self.samples)

    def report(self, model: Model, inference: Inference, step: Tensor | None) -> ELBO:
        """Returns the ELBO of an inference."""
        distortion, rate = inference.distortion(), inference.rate()
        loss, terms = self.penalized(model, inference, self.cost(distortion, rate, step))
        fitted = self.fitted_prior(model)
        return ELBO(
            distortion=distortion,
            rate=rate,
            bound=self.bound_of(inference, distortion, rate),
            losses={
                "model": loss,
                **{name: -inference.prior.log_prob(self.codes(model, inference).detach()).mean(0) for name in fitted},
            },
            terms=terms,
            statistics=model.observe(inference),
        )

    def penalized(self, model: Model, inference: Inference, loss: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns a loss (B,) plus the weighted penalties, and the unweighted penalties, detached."""
        terms = {}
        for name, (weight, penalty) in self.penalties.items():
            value = penalty(model, inference).expand_as(loss)
            loss = loss + weight * value
            terms[name] = value.detach()
        return loss, terms

    def cost(self, distortion: Tensor, rate: Tensor, step: Tensor | None) -> Tensor:
        """Returns the loss without its penalties, (B,)."""
        return distortion


class WeightedObjective(PenalizedObjective):
    r"""The objective $D + \beta(t)\,\max(R, \lambda)$, or $D + \beta(t)\,|R - C(t)|$ with a capacity; and penalties.

    Args:
        rate: $\beta \ge 0$, a number or a `Schedule`; 0 removes the term.
        free_bits: $\lambda \ge 0$, nats per example without cost (after Kingma et al., 2016,
            https://arxiv.org/abs/1606.04934); a rate below it trains no prior. A rate that is sampled enters
            $\max(R, \lambda)$ and $|R - C|$ as the mean over K draws: convex functions of an estimate are too large in
            the mean, by up to its standard deviation, which `samples` reduces.
        capacity: $C$, the target of the rate in nats (Burgess et al., 2018, https://arxiv.org/abs/1804.03599).
        penalties: see `PenalizedObjective`; their weights have no schedule.
        samples: $K$, draws of z per example.
        posterior_type: see `PenalizedObjective`.
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
        posterior_type: type[Distribution] | None = None,
    ) -> None:
        super().__init__(penalties, samples=samples, posterior_type=posterior_type)
        self.rate = rate if isinstance(rate, Schedule) else Schedule(rate)
        self.capacity = Schedule(capacity) if isinstance(capacity, int | float) else capacity
        self.free_bits = float(free_bits)
        # The values that `schedule` restores; in a tuple, so that they are not registered.
        self._built = (self.rate, self.free_bits)

    def trains_prior(self) -> bool:
        """Returns whether the rate has a weight, at least at the end of its schedule."""
        return float(self.rate(None)) != 0.0

    def cost(self, distortion: Tensor, rate: Tensor, step: Tensor | None) -> Tensor:
        """Returns the distortion plus the cost of the rate at this step, (B,)."""
        return distortion + self.penalty(rate, step)

    def penalty(self, rate: Tensor, step: Tensor | None) -> Tensor:
        """Returns the cost of the rate at this step, (B,)."""
        weight: Tensor | float = self.rate(step)
        if isinstance(weight, float) and weight == 0.0:
            return torch.zeros_like(rate)
        if self.capacity is not None:
            rate = (rate - self.capacity(step)).abs()
        if self.free_bits > 0:
            rate = rate.clamp(min=self.free_bits)
        return rate if isinstance(weight, float) and weight == 1.0 else weight * rate

    def rate_weight(self, step: Tensor | None) -> float:
        """Returns the weight of the rate at `step`, a 0-dim tensor; None: after the schedule's end."""
        return float(self.rate(step))

    def schedule(self, *, warmup: int = 0, cycles: int = 0, free_bits: float = 0.0) -> None:
        """Sets the schedule of the rate weight for a stage; see `Objective.schedule`."""
        self.rate, self.free_bits = self._built
        value = float(self.rate(None))
        if warmup:
            self.rate = Cyclical(value, warmup, cycles) if cycles else Warmup(value, warmup)
        if free_bits:
            self.free_bits = free_bits
