"""`latent_report`: the distribution of a model's latents over a data set, and the factors that normalize it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from html import escape
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import ACTIVE_VARIANCE, LATENTS, VAE, check_model, evaluating, public_name, seeded
from vaezoo.core.checks import whole_number
from vaezoo.errors import ConfigError, DataError, SupportError, printable
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.latents import draws_for
from vaezoo.evaluation.moments import MOST_CHANNELS, LatentMoments, latent_batch
from vaezoo.evaluation.test_sets import limited, test_set

CONSTANT = 1e-6  # of the scale of all latents: a standard deviation below it is rounding
SHOWN = 16  # lines of channels in a text

Numbers = tuple[float, ...]
Known = tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class LatentReport:
    """The distribution of the latents of a data set, for each channel (grids) or each latent (vectors).

    Tuples have one value for each channel, C in all; moments are over examples and positions and divided by their
    number. With `noise`, they are those of draws of the posterior (the aggregate posterior), else of its centers.

    Attributes:
        data, split, examples, noise, seed: what was measured.
        latent: the shape of z, (C,) or (C, *grid).
        mean, std: of each channel.
        rate: nats for each example, with all latents; None for a posterior without density.
        rates: nats for each example and channel, summed over positions; None where the rate is no sum over latents.
        signal: the variance over the data of the posterior's mean, as a share of that of its draws: 0 for a channel
            without information, 1 for one without noise.
        dead: channels whose signal is at most 1 %, or which are constant.
        correlation: of channels, C rows of C; None (a value: of a constant channel; all: one channel, or above 512).
        neighbors: correlation of neighboring positions, a tuple of C for each axis of the grid; () for vectors.
        shift_factor, scaling_factor: mean of all latents, and 1 / their standard deviation.
        channel_shift_factors, channel_scaling_factors: those of each channel; a constant channel has scale 1.
    """

    data: str
    split: str
    examples: int
    noise: bool
    seed: int
    latent: tuple[int, ...]
    mean: Numbers
    std: Numbers
    rate: float | None
    rates: Numbers | None
    signal: Numbers
    dead: tuple[int, ...]
    correlation: tuple[Known, ...] | None
    neighbors: tuple[Known, ...]
    shift_factor: float
    scaling_factor: float
    channel_shift_factors: Numbers
    channel_scaling_factors: Numbers

    @property
    def verdict(self) -> str:
        """One sentence on channels with and without information, and on the scale of the latents."""
        name, count = self._unit, len(self.mean)
        dead = ", ".join(map(str, self.dead[:8])) + (f", … ({len(self.dead)} in all)" if len(self.dead) > 8 else "")
        without = f" ({name}{'s' * (len(self.dead) > 1)} {dead}: none)" if self.dead else ""
        return (
            f"{count - len(self.dead)} of {count} {name}s carry information about the data{without}; all latents have "
            f"mean {self.shift_factor:.3g} and standard deviation {1 / self.scaling_factor:.3g}."
        )

    @property
    def _unit(self) -> str:
        return "channel" if len(self.latent) > 1 else "latent"

    @property
    def _head(self) -> str:
        of = "draws" if self.noise else "centers"
        return f"{of} of the posterior of {self.examples:,} {self.split} examples of {self.data}"

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        shown: dict[str, Known] = {"mean": self.mean, "std": self.std}
        shown |= {} if self.rates is None else {"rate, nats": self.rates}
        shown |= {"signal": self.signal}
        shown |= {f"neighbors, axis {axis}": each for axis, each in enumerate(self.neighbors, 1)}
        rows = [(str(c), *(text(each[c]) for each in shown.values())) for c in range(min(SHOWN, len(self.mean)))]
        return [(self._unit, *shown), *rows]

    @property
    def _notes(self) -> list[str]:
        left, largest = len(self.mean) - SHOWN, self._largest_correlation
        notes = [f"… {left:,} more in as_dict()"] * (left > 0)
        notes += [] if self.rate is None else [f"rate: {self.rate:.2f} nats per example"]
        notes += [] if largest is None else [f"largest correlation of {self._unit}s: {largest}"]
        sign = "+" if self.shift_factor < 0 else "-"
        return [*notes, f"scaled = (z {sign} {abs(self.shift_factor):.5g}) * {self.scaling_factor:.5g}"]

    @property
    def _largest_correlation(self) -> str | None:
        if self.correlation is None:
            return None
        pairs = [
            (each, i, j) for i, row in enumerate(self.correlation) for j, each in enumerate(row[:i]) if each is not None
        ]
        value, i, j = max(pairs, key=lambda pair: abs(pair[0]), default=(None, 0, 0))
        return None if value is None else f"{value:.2f} ({j} and {i})"

    def __repr__(self) -> str:
        """Returns a line for the data, the verdict, a line for each of the first channels, and the scalar factors."""
        widths = [max(map(len, column)) for column in zip(*self._rows, strict=True)]
        table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in self._rows]
        return "\n  ".join([f"LatentReport: {self._head}", self.verdict, *table, *self._notes])

    def _repr_html_(self) -> str:
        """Returns the report with an HTML table, for notebooks."""
        head, *rows = (tuple(map(escape, row)) for row in self._rows)
        lines = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
        table = f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{''.join(lines)}</table>"
        before, after = ("".join(f"<p>{escape(each)}</p>" for each in (self._head, self.verdict))), self._notes
        return f"{before}{table}{''.join(f'<p>{escape(each)}</p>' for each in after)}"

    def as_dict(self) -> dict[str, object]:
        """Returns all fields and the verdict as plain values: numbers, text, None and lists."""
        return {key: plain(value) for key, value in asdict(self).items()} | {"verdict": self.verdict}

    def factors(self, *, per_channel: bool = False) -> dict[str, object]:
        """Returns the field `latents` of a config: the factors, and the data that gave them.

        Raises:
            ConfigError: factors for each of more than 512 channels.
        """
        check_storable(self.latent, per_channel)
        return {
            "scaling_factor": plain(self.channel_scaling_factors if per_channel else self.scaling_factor),
            "shift_factor": plain(self.channel_shift_factors if per_channel else self.shift_factor),
            "noise": self.noise,
            "data": self.data,
            "split": self.split,
            "examples": self.examples,
        }


def latent_report(
    model: VAE,
    data: object,
    *,
    split: str = "train",
    noise: bool = True,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    write: bool = False,
    per_channel: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> LatentReport:
    r"""Measures the latents of a data set in one pass, and the factors that give them mean 0 and standard deviation 1.

    $$\text{scaled} = (z - \text{shift}) \cdot \text{scale}, \qquad \text{shift} = \mathbb{E}\,z, \qquad
    \text{scale} = 1 / \sqrt{\mathbb{E}(z - \text{shift})^2}$$

    The scalar factors average over the data, channels and positions, as in latent diffusion (Rombach et al., 2022,
    https://arxiv.org/abs/2112.10752); those of a channel over the data and positions. z is a draw of q(z|x), whose
    variance is E_x Var(z|x) + Var_x E(z|x). It is computed in closed form if the posterior is factorized or a point,
    and is then independent of seed and batch size; otherwise from one draw for each example, as is a rate without a
    closed form. Codes are measured as embedded vectors.

    Args:
        model: the model; its mode is restored afterwards.
        data: a name, or anything else that `vaezoo.data.as_dataset` takes; binarized once, as in `fit_sampler`.
        split: split of a named data set.
        noise: whether z is a draw of the posterior; False: its center.
        limit: use at most so many examples, chosen with a fixed seed.
        seed: of all draws.
        batch_size: number of examples at a time; None for 500, or fewer where examples are large.
        write: whether to store the factors in `model.config`, which `vaezoo.save` writes and `VAE.latents` and
            `VAE.decode_latents` apply.
        per_channel: whether to store the factors of each channel instead of the scalar ones.
        report: called with (examples done, all examples).

    Raises:
        CompositionError: the latents are categories.
        ConfigError: `write`, but the model was made by hand, or has too many channels for factors of each;
            `per_channel` without `write`; or a batch size or seed out of range.
        DataError: fewer than 2 examples.
        SupportError: latents that are NaN, infinite, or all equal.
        ShapeError, ContextError: the data does not fit the model.
    """
    check_model(model)
    if write and model.config is None:
        raise ConfigError(
            "Got write=True for a model that was made by hand, which has no config; use report.factors()."
        )
    if per_channel and not write:
        raise ConfigError("Got per_channel=True, which states what to store; expected write=True (--write) with it.")
    check_storable(model.latent or (0,), per_channel)  # before the work
    seed = whole_number(seed, "seed", 0)
    batch_size = None if batch_size is None else whole_number(batch_size, "batch_size", 1)
    chosen = limited(test_set(model, data, split=split), limit)[0]
    if len(chosen) < 2:
        raise DataError(f"Got {len(chosen)} example of {chosen.name}; expected at least 2.")
    moments = LatentMoments(noise=noise)
    with evaluating(model), seeded(seed):
        for x, c in batches(model, chosen, batch_size):
            batch = latent_batch(cast(Distribution, model.encoder(x, c)), model.prior(c), draws_for(len(chosen)))
            moments.add(batch)
            if report is not None:
                report(moments.examples, len(chosen))
    facts = {"data": printable(public_name(chosen.name)), "split": chosen.split, "noise": noise, "seed": seed}
    found = LatentReport(latent=tuple(batch.center.shape[1:]), **facts, **summary(moments))  # type: ignore[arg-type]  # by name
    if write:  # not by assignment, which would declare that no other model shares the tensors
        vars(model)["config"] = {**(model.config or {}), LATENTS: found.factors(per_channel=per_channel)}
    return found


def check_storable(latent: tuple[int, ...], per_channel: bool) -> None:
    """Raises ConfigError if a config cannot store factors for each channel of latents of this shape."""
    if per_channel and latent[0] > MOST_CHANNELS:
        raise ConfigError(
            f"Got factors for each of {latent[0]:,} channels; a config stores at most {MOST_CHANNELS:,}. Store the "
            "scalar factors."
        )


def summary(moments: LatentMoments) -> dict[str, object]:
    """Returns the fields of a `LatentReport` that are computed from moments.

    Raises:
        SupportError: latents that are NaN, infinite, or all equal.
    """
    means, variances = moments.means, moments.variances
    shift = float(means.mean())
    std = math.sqrt(float((variances + (means - shift).square()).mean()))
    if not math.isfinite(std):
        raise SupportError("Got NaN, infinite or huge latents; expected finite ones. Inspect the encoder's weights.")
    size = max(std, float(means.abs().max()))
    if std <= CONSTANT * size:
        raise SupportError(f"Got latents that all equal {shift:.6g}; expected ones that vary. Train the model first.")
    deviations = variances.sqrt()
    deviations = deviations.where(deviations > CONSTANT * size, 0.0)
    signal, whole = moments.signals
    share = torch.where(whole > (CONSTANT * size) ** 2, signal / whole, 0.0).clamp(max=1.0)
    correlation, rate = moments.correlation, moments.rate
    return {
        "examples": moments.examples,
        "mean": numbers(means),
        "std": numbers(deviations),
        "rate": None if rate is None else float(rate) / moments.examples,
        "rates": None if moments.rates is None else numbers(moments.rates / moments.examples),
        "signal": numbers(share),
        "dead": tuple((share <= ACTIVE_VARIANCE).nonzero().flatten().tolist()),
        "correlation": None if correlation is None else tuple(map(known, correlation)),
        "neighbors": tuple(map(known, moments.neighbors())),
        "shift_factor": shift,
        "scaling_factor": 1.0 / std,
        "channel_shift_factors": numbers(means),
        "channel_scaling_factors": numbers(1.0 / deviations.where(deviations > 0.0, 1.0)),
    }


def numbers(values: Tensor) -> Numbers:
    """Returns values (N,) as a tuple."""
    return tuple(values.tolist())


def known(values: Tensor) -> Known:
    """Returns correlations (N,) as a tuple, from -1 to 1; None for those that are not defined."""
    return tuple(None if math.isnan(each) else max(-1.0, min(1.0, each)) for each in values.tolist())


def plain(value: object) -> object:
    """Returns a value with lists in place of tuples."""
    return [plain(each) for each in value] if isinstance(value, tuple) else value


def text(value: float | None) -> str:
    """Returns a number with 3 significant digits; a dash for None."""
    return "–" if value is None else f"{value:.3g}"
