"""Columns of several families, with gaps."""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import LARGEST_VALUE
from vaezoo.distributions.mixed import COUNTS, FAMILIES, MixedRows, Run, grouped, log_of_sizes, runs_of
from vaezoo.errors import ConfigError, shorten
from vaezoo.likelihoods import Likelihood

MOST_CATEGORIES = 10_000
DISCRETE = ("bernoulli", "categorical", *COUNTS)

ColumnName = Annotated[str, Meta(max_length=24)]


class Mixed(Likelihood):
    r"""A distribution of its own for each column of a table, over the observed entries alone.

    Nazábal et al., 2020, "Handling incomplete heterogeneous data using VAEs" (https://arxiv.org/abs/1807.03653); Mattei
    & Frellsen, 2019, "MIWAE" (https://arxiv.org/abs/1812.02633). NaN marks a gap in x: it adds nothing to $\log
    p(x|z)$, and the encoder receives 0 in its place and a mask. This bounds the likelihood of the observed entries,
    where gaps occur at random given these entries. A row without any observed entry has distortion 0.

    Args:
        shape: the event shape of x.
        columns: the family of each column, in the order of x: "gaussian", "student-t", "log-normal" (numbers above 0),
            "bernoulli" (0 or 1), "categorical-V" (one of V categories, V elements of x, one-hot), "poisson" or
            "negative-binomial" (whole numbers from 0). None: every element of x is Gaussian. A training on a table with
            a layout (`vaezoo.data.table`) sets it.
        degrees: degrees of freedom of Student's t.
        least_scale: the smallest standard deviation of a column, in units of x; without a limit the density of repeated
            values is unbounded.
    """

    outputs = 2
    gaps = True

    def __init__(
        self,
        shape: Sequence[int],
        *,
        columns: Annotated[tuple[ColumnName, ...], Meta(max_length=10_000)] = (),
        degrees: Annotated[float, Meta(ge=1.5, le=1000)] = 4.0,
        least_scale: Annotated[float, Meta(ge=1e-4, le=10)] = 0.01,
    ) -> None:
        super().__init__(shape)
        size = math.prod(shape)
        self.runs = runs_of([parsed(each) for each in columns] or [("gaussian", 1)] * size)
        self.degrees, self.least_scale = degrees, least_scale
        self.mass = all(run.family in DISCRETE for run in self.runs)
        if self.runs[-1].stop != size or (columns and len(shape) != 1):
            raise ConfigError(
                f"likelihood mixed: got {len(columns)} columns with {self.runs[-1].stop} elements and x of shape "
                f"{tuple(shape)}; expected ({self.runs[-1].stop},). Give a family for each column, categorical-V for V "
                "elements."
            )
        self.domain = self.support = (
            f"numbers up to {LARGEST_VALUE:g} in size that fit their columns (log-normal: above 0; bernoulli: 0 or 1; "
            "categorical: one-hot; counts: whole numbers from 0), or NaN for a gap"
        )

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for raw outputs (..., 2, *shape)."""
        return MixedRows(raw, self.runs, len(self.shape), degrees=self.degrees, least_scale=self.least_scale)

    def features(self) -> Callable[[Tensor], Tensor]:
        """Returns a function of x (..., *shape) whose values suit a network: logarithms of positive numbers, counts."""
        if all(run.family not in ("log-normal", *COUNTS) for run in self.runs):
            return torch.nn.Identity()
        return partial(log_of_sizes, runs=self.runs)

    def accepts(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its observed values fit their columns."""
        flat = x.flatten(1)
        return torch.stack([_fits(run, flat[:, run.start : run.stop]).all(1) for run in self.runs]).all(0)

    def initial_raw(self, mean: Tensor) -> Tensor | None:
        """Returns the raw outputs (2, *shape) whose means are those of the data."""
        flat = mean.flatten()
        parts = [_location(run, flat[run.start : run.stop]) for run in self.runs]
        return torch.stack([torch.cat(parts).view_as(mean), torch.zeros_like(mean)])

    def point(self, mean: Tensor) -> Tensor:
        """Returns means (..., *shape) as values of x: the most probable category and flag, counts rounded."""
        flat = mean.flatten(mean.dim() - len(self.shape))
        parts = [_point(run, flat[..., run.start : run.stop]) for run in self.runs]
        return torch.cat(parts, -1).view_as(mean)


def parsed(column: str) -> tuple[str, int]:
    """Returns family and number of elements of a column; raises ConfigError."""
    if column in FAMILIES and column != "categorical":
        return column, 1
    found = re.fullmatch(r"categorical-([1-9]\d{0,4})", column)
    if found and int(found[1]) <= MOST_CATEGORIES:
        return "categorical", int(found[1])
    names = ", ".join(f"{each}-V" if each == "categorical" else each for each in FAMILIES)
    raise ConfigError(f"likelihood mixed: got the column {shorten(column)}; expected one of {names}, V a number.")


def _fits(run: Run, x: Tensor) -> Tensor:
    """Returns a mask (B, n) of the values of a run that have a density, or are gaps."""
    gap = x.isnan()
    if run.family == "categorical":
        groups = grouped(x, run)
        one_hot = ((groups == 0) | (groups == 1)).all(-1) & (groups.sum(-1) == 1)
        return one_hot | groups.isnan().all(-1)
    if run.family == "bernoulli":
        return gap | (x == 0) | (x == 1)
    fits = x.abs() <= LARGEST_VALUE
    if run.family == "log-normal":
        return gap | (fits & (x > 0))
    return gap | (fits & (x >= 0) & (x == x.round()) if run.family in COUNTS else fits)


def _location(run: Run, mean: Tensor) -> Tensor:
    if run.family in ("gaussian", "student-t"):
        return mean
    if run.family == "bernoulli":
        return torch.logit(mean.clamp(0.0, 1.0), eps=1e-6).clamp(-5.0, 5.0)
    log = mean.clamp(min=1e-3).log()
    return log - 0.5 if run.family == "log-normal" else log  # a mean of exp(μ + σ²/2), with σ = 1


def _point(run: Run, mean: Tensor) -> Tensor:
    if run.family in COUNTS:
        return mean.round()
    if run.family == "bernoulli":
        return (mean > 0.5).to(mean.dtype)
    if run.family != "categorical":
        return mean
    groups = grouped(mean, run)
    return torch.zeros_like(groups).scatter_(-1, groups.argmax(-1, keepdim=True), 1.0).flatten(-2)
