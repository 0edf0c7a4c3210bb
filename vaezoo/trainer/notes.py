"""Warnings about settings and data before the first step, and about a run that diverges."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from vaezoo.core import VAE, as_part, fast_bfloat16, rows_at_once, seeded
from vaezoo.data import Dataset, EndlessDataset
from vaezoo.data.dataset import stable_permutation
from vaezoo.likelihoods import ScaledLikelihood, UnitLikelihood
from vaezoo.recipe import Recipe
from vaezoo.registry import resolve
from vaezoo.trainer.batches import BatchStream, stage_steps

NOTED = 1_000  # examples on which a note is based
LARGE = 100.0  # root mean square of a column; of standardized data it is 1
SMALL = 0.01  # largest deviation of data in units of the likelihood's scale
GROWTH = 100.0  # of distortion + rate, in units of its first value
SHOWN = 5  # columns that a note names
SHORT = 0.5  # a stage of fewer steps, in units of the steps over which weights are averaged


def has_bound(recipe: Recipe) -> bool:
    """Returns whether the variant of a recipe has a bound on data that have a density."""
    return all(entry.rate != "no density" for entry in resolve(recipe.variant))


def notes_before(recipe: Recipe, model: VAE, feed: BatchStream, without: Sequence[Dataset]) -> list[str]:
    """Returns notes before the first step; `without` are the sets with examples to which p(x|z) gives no density."""
    found = [*notes_on_settings(recipe, feed), *notes_on_scale(model, feed)]
    likelihood = as_part(model.decoder).likelihood
    if likelihood is not None and has_bound(recipe):
        found += [
            f"The {data.split} set {data.name!r} has no density under the {type(likelihood).__name__} likelihood, "
            f"which needs {likelihood.support}: the loss is no likelihood, and no bound is reported. To get one, "
            f"{likelihood.remedy}."
            for data in without
        ]
    return found


def notes_on_settings(recipe: Recipe, feed: BatchStream) -> Iterator[str]:
    """Yields notes on precision, batch size and averages."""
    if any(stage.precision == "bf16" for stage in recipe.stages) and not fast_bfloat16(feed.device):
        yield (
            f'Got precision = "bf16" on a {feed.device.type} device without instructions for bfloat16, where a step '
            "takes about ten times as long as in float32. Set train.precision=float32; the results differ slightly."
        )
    largest, count = max(stage.batch_size for stage in recipe.stages), len(feed.data)
    if largest > count and not isinstance(feed.data, EndlessDataset):
        yield (
            f"Got batch_size = {largest} with {count} training examples; each batch has all {count}. Set "
            f"train.batch_size to {max(1, count // 2)} or less for several batches in an epoch."
        )
    for stage in recipe.stages:
        steps = stage_steps(stage, count)
        if stage.average and steps * (1.0 - stage.average) < SHORT:
            yield (
                f"Got average = {stage.average:g} in a stage of {steps:,} steps: the weights that are kept are a mean "
                "over all its steps, the first ones included, and far from those of its end. Set "
                f"train.average={f'{1.0 - 10.0 / steps:.2g}' if steps >= 20 else 0}, or train for more steps."
            )


@torch.no_grad()
def notes_on_scale(model: VAE, feed: BatchStream) -> Iterator[str]:
    """Yields a note if columns of real data are large, or small beside the likelihood's fixed scale."""
    likelihood = as_part(model.decoder).likelihood
    if likelihood is None or isinstance(likelihood, UnitLikelihood) or not feed.data.images.is_floating_point():
        return
    if likelihood.gaps:  # columns of several kinds, which a layout has scaled
        return
    sizes, deviations = column_figures(feed)
    fixed = isinstance(likelihood, ScaledLikelihood) and not likelihood.learned and not likelihood.optimal
    scale = float(torch.tensor(likelihood.start).exp()) if isinstance(likelihood, ScaledLikelihood) and fixed else 1.0
    large = (sizes > LARGE * max(1.0, scale)).nonzero().flatten().tolist()
    advice = "Standardize the columns, (x - x.mean(0)) / x.std(0) of the training set"
    if large and len(feed.data.shape) == 3 and float(sizes.max()) <= 255:
        yield (
            f"{feed.data.name}: got pixels of large values (root mean square up to {float(sizes.max()):.3g}), which "
            "dominate the loss; expected 0 to 1. Divide by 255, or pass uint8 images, which are divided by it."
        )
    elif large:
        named = f"{', '.join(map(str, large[:SHOWN]))}{', …' if len(large) > SHOWN else ''}"
        yield (
            f"{feed.data.name}: got columns of large values (number {named}; root mean square up to "
            f"{float(sizes.max()):.3g}), which dominate the loss; expected about 1. {advice}."
        )
    elif fixed and 0.0 < (most := float(deviations.max())) < SMALL * scale:
        yield (
            f"{feed.data.name}: got values that deviate by at most {most:.3g}, which a likelihood of scale {scale:g} "
            f"hardly distinguishes. {advice}, or set a smaller scale (architecture.likelihood)."
        )


def column_figures(feed: BatchStream) -> tuple[Tensor, Tensor]:
    """Returns root mean square and deviation of each element of x over `NOTED` examples, (D,) float64."""
    places = torch.from_numpy(stable_permutation(len(feed.data), 0)[:NOTED]).to(feed.device)
    total = torch.zeros(2, math.prod(feed.data.shape), dtype=torch.float64)
    with seeded(0):
        for part in places.split(rows_at_once(feed.data.shape, 500, feed.size)):
            x = feed.take(part)[0].flatten(1).to("cpu", torch.float64)
            total += torch.stack([x.sum(0), x.square().sum(0)])
    mean, square = total / len(places)
    return square.sqrt(), (square - mean.square()).clamp(min=0.0).sqrt()


def note_on_divergence(history: Sequence[Mapping[str, float | None]], bounded: bool) -> str | None:
    """Returns a note if the last line of training figures is not finite, or far worse than the first; else None.

    Args:
        history: the lines of `metrics.jsonl`, in which None is a figure that is not finite.
        bounded: whether the bound is defined, so that None is a failure; if not, the distortion alone is compared.
    """
    lines = [line for line in history if "distortion" in line]
    advice = "Lower the learning rate, or clip gradients (train.clip = 1.0)."
    if not lines:
        return None
    first, last = (loss_of(lines[place], bounded) for place in (0, -1))
    step = lines[-1]["step"]
    if last is None or (bounded and lines[-1]["bound"] is None):
        return f"The figures of step {step:,.0f} are not finite: the run diverges. {advice}"
    if first is not None and last - first > GROWTH * (abs(first) + 1.0):
        return (
            f"{'Distortion + rate' if bounded else 'The distortion'} rose from {first:,.0f} nats at step "
            f"{lines[0]['step']:,.0f} to {last:,.0f} at step {step:,.0f}: the run diverges. {advice}"
        )
    return None


def loss_of(line: Mapping[str, float | None], bounded: bool) -> float | None:
    """Returns distortion + rate of a line, or the distortion alone without a bound; None if either is not finite."""
    distortion, rate = line["distortion"], line["rate"] if bounded else 0.0
    return None if distortion is None or rate is None else distortion + rate
