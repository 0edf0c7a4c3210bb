"""Rows of a table whose columns are of different families, with gaps (NaN)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from vaezoo.distributions.joint_sampling import LOG_SCALE_LIMIT, LOG_TWO_PI

Family = Literal["gaussian", "student-t", "log-normal", "bernoulli", "categorical", "poisson", "negative-binomial"]
FAMILIES: tuple[str, ...] = get_args(Family)
COUNTS = ("poisson", "negative-binomial")

LOG_LIMIT = 20.0  # of the logarithms of locations: exp() stays finite in float32, and so do its gradients
WIDEST_LOG_NORMAL = 1.5  # log σ of log x, so that the mean exp(μ + σ²/2) is finite
LOG_COUNT_LIMIT = 7.0  # of a negative binomial's r: beyond it, differences of log Γ lose their digits in float32


@dataclass(frozen=True)
class Run:
    """Neighboring elements `start` to `stop` of x, whose columns are of one family and have `width` elements each."""

    family: str
    start: int
    stop: int
    width: int


def runs_of(columns: Sequence[tuple[str, int]]) -> tuple[Run, ...]:
    """Returns the runs of columns, which are pairs of a family and a number of elements."""
    found, start = list[Run](), 0
    for (family, width), group in groupby(columns):
        stop = start + width * len(list(group))
        found.append(Run(family, start, stop, width))
        start = stop
    return tuple(found)


def grouped(x: Tensor, run: Run) -> Tensor:
    """Returns the elements (..., n) of a run as (..., columns, width)."""
    return x.reshape(*x.shape[:-1], -1, run.width)


def log_of_sizes(x: Tensor, runs: Sequence[Run]) -> Tensor:
    """Returns x (..., D) with log x in the place of positive numbers and log(1 + x) of counts, for a network."""
    change = {"log-normal": lambda part: part.clamp(min=1e-9).log(), **dict.fromkeys(COUNTS, _log1p)}
    parts = [(change.get(run.family), x[..., run.start : run.stop]) for run in runs]
    return torch.cat([part if function is None else function(part) for function, part in parts], -1)


def _log1p(part: Tensor) -> Tensor:
    return part.clamp(min=0.0).log1p()


class MixedRows(Distribution):
    r"""Independent columns of several families; a gap (NaN) in a value contributes nothing to its log density.

    With the raw numbers $a, b$ of an element, and $\sigma = \max(e^b, \text{least scale})$: Gaussian
    $\mathcal{N}(a, \sigma^2)$, Student's t with location a and scale σ, log-normal with $\log x \sim \mathcal{N}(a,
    \sigma^2)$, Bernoulli with logit a, categorical with one logit a for each element of a one-hot vector, Poisson with
    mean $e^a$, negative binomial with mean $e^a$ and variance $e^a + e^{2a-b}$.

    Args:
        raw: (*batch, 2, *event), a and b.
        runs: the columns of the flattened event.
        event_dims: how many trailing dimensions are the event.
        degrees: degrees of freedom of Student's t, above 1.
        least_scale: the smallest σ.
    """

    arg_constraints = {}  # noqa: RUF012  (torch declares it as a plain class attribute)

    def __init__(
        self, raw: Tensor, runs: Sequence[Run], event_dims: int, *, degrees: float = 4.0, least_scale: float = 0.01
    ) -> None:
        split = raw.dim() - event_dims
        super().__init__(raw.shape[: split - 1], raw.shape[split:], validate_args=False)
        self.loc, self.log_scale = raw.flatten(split).unbind(-2)
        self.runs, self.degrees, self.least = runs, degrees, math.log(least_scale)

    def _parts(self) -> Iterator[tuple[Run, Tensor, Tensor]]:
        """Yields each run with its a and b, limited to the range of its family."""
        for run in self.runs:
            loc, log_scale = (each[..., run.start : run.stop] for each in (self.loc, self.log_scale))
            most = {"log-normal": WIDEST_LOG_NORMAL, "negative-binomial": LOG_COUNT_LIMIT}.get(
                run.family, LOG_SCALE_LIMIT
            )
            least = -LOG_COUNT_LIMIT if run.family == "negative-binomial" else self.least
            if run.family in ("log-normal", *COUNTS):
                loc = loc.clamp(-LOG_LIMIT, LOG_LIMIT)
            yield run, loc, log_scale.clamp(least, most)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value) over the observed elements, (*batch), nats; 0 for a value without any."""
        value = value.to(self.loc.dtype).flatten(value.dim() - len(self.event_shape))
        gap = value.isnan()
        known = torch.where(gap, 0.0, value)
        total = self.loc.new_zeros(())
        for run, loc, log_scale in self._parts():
            found = self._log_density(run, known[..., run.start : run.stop], loc, log_scale)
            if run.family != "categorical":  # whose vector of zeros in a gap gives 0 already
                found = torch.where(gap[..., run.start : run.stop], 0.0, found)
            total = total + found.sum(-1)
        return total

    def _log_density(self, run: Run, value: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        """Returns the log density of each element of a run."""
        match run.family:
            case "gaussian":
                return _normal(value, loc, log_scale)
            case "student-t":
                return self._student(value, loc, log_scale)
            case "log-normal":
                size = value.clamp(min=1e-9).log()
                return _normal(size, loc, log_scale) - size
            case "bernoulli":
                logits, target = torch.broadcast_tensors(loc, value)
                return -binary_cross_entropy_with_logits(logits, target, reduction="none")
            case "categorical":
                return grouped(loc, run).log_softmax(-1).flatten(-2) * value
            case "poisson":
                return value * loc - loc.exp() - torch.lgamma(value + 1.0)
            case _:
                count = log_scale.exp()
                choices = torch.lgamma(value + count) - torch.lgamma(count) - torch.lgamma(value + 1.0)
                return choices - count * softplus(loc - log_scale) - value * softplus(log_scale - loc)

    def _student(self, value: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        nu = self.degrees
        constant = math.lgamma(0.5 * (nu + 1.0)) - math.lgamma(0.5 * nu) - 0.5 * math.log(nu * math.pi)
        squared = ((value - loc) * (-log_scale).exp()).square()
        return constant - log_scale - 0.5 * (nu + 1.0) * torch.log1p(squared / nu)

    @property
    def mean(self) -> Tensor:
        """The mean of each element, (*batch, *event); probabilities of flags and categories."""
        parts = [_mean(*part) for part in self._parts()]
        return self._event(torch.cat(parts, -1))

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns rows without gaps, (*sample, *batch, *event)."""
        with torch.no_grad():
            parts = [self._drawn(torch.Size(sample_shape), *part) for part in self._parts()]
            return self._event(torch.cat(parts, -1))

    def _event(self, flat: Tensor) -> Tensor:
        return flat.reshape(flat.shape[:-1] + self.event_shape)

    def _drawn(self, sample: torch.Size, run: Run, loc: Tensor, log_scale: Tensor) -> Tensor:
        """Returns draws (*sample, *batch, elements) of a run."""
        shape = sample + loc.shape
        match run.family:
            case "gaussian" | "log-normal":
                found = loc + log_scale.exp() * torch.randn(shape, dtype=loc.dtype, device=loc.device)
                return found if run.family == "gaussian" else found.exp()
            case "student-t":
                student = torch.distributions.StudentT(self.degrees, loc, log_scale.exp(), validate_args=False)
                return student.sample(sample)
            case "bernoulli":
                return torch.bernoulli(loc.sigmoid().expand(shape))
            case "categorical":
                logits = grouped(loc, run)
                one_hot = torch.distributions.OneHotCategorical(logits=logits, validate_args=False)
                drawn: Tensor = one_hot.sample(sample)
                return drawn.flatten(-2)
            case "poisson":
                return torch.poisson(loc.exp().expand(shape))
            case _:
                gamma = torch.distributions.Gamma(log_scale.exp(), (log_scale - loc).exp(), validate_args=False)
                return torch.poisson(gamma.sample(sample))


def _normal(value: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    return -0.5 * (((value - loc) * (-log_scale).exp()).square() + LOG_TWO_PI) - log_scale


def _mean(run: Run, loc: Tensor, log_scale: Tensor) -> Tensor:
    match run.family:
        case "gaussian" | "student-t":
            return loc
        case "log-normal":
            return (loc + 0.5 * (2.0 * log_scale).exp()).exp()
        case "bernoulli":
            return loc.sigmoid()
        case "categorical":
            return grouped(loc, run).softmax(-1).flatten(-2)
        case _:
            return loc.exp()
