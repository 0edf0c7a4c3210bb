"""Validation: figures of a model on a whole data set during training."""

import logging
import math
from itertools import count

import torch
from torch import Tensor

from vaezoo.core import ACTIVE_VARIANCE, VAE, code_indices, mean_or_center, rows_at_once, seeded
from vaezoo.data import Dataset
from vaezoo.data.dataset import stable_permutation
from vaezoo.evaluation.health import note_on_activity
from vaezoo.recipe import Recipe
from vaezoo.trainer.batches import HELD_OUT, BatchStream, noise_seed
from vaezoo.trainer.notes import NOTED
from vaezoo.trainer.parallel import Engine
from vaezoo.trainer.processes import Processes
from vaezoo.trainer.setup import every_example_has_a_density, make_feed


def held_out_figures(model: VAE, data: Dataset, recipe: Recipe, device: torch.device) -> tuple[float, float, float]:
    """Returns mean bound, distortion and rate (nats) of a model in eval mode; the noise is the same at every call.

    The bound is -inf where the likelihood gives the data no density.
    """
    feed = make_feed(recipe, model, data, largest_batch(recipe), device)
    return feed_figures(Engine(model), feed, every_example_has_a_density(model, feed), Processes())


@torch.no_grad()
def feed_figures(engine: Engine, feed: BatchStream, density: bool, ranks: Processes) -> tuple[float, float, float]:
    """Returns mean bound, distortion and rate (nats) over a whole set; without `density` the bound is -inf.

    The processes of `ranks` share the set; each batch has noise of its own, so the result does not depend on their
    number.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=feed.device if feed.device.type != "mps" else "cpu")
    rows = rows_at_once(feed.data.shape, 500, feed.size)
    for number, (x, c) in zip(count(ranks.rank, ranks.size), feed.whole(rows, ranks.rank, ranks.size), strict=False):
        with seeded(noise_seed(feed.seed, HELD_OUT, number)):
            elbo = engine.measure(x, c)
        sums += torch.stack([elbo.bound.sum(), elbo.distortion.sum(), elbo.rate.sum()]).to(sums)
    if engine.collective and 0 < math.ceil(len(feed.data) / rows) % ranks.size <= ranks.rank:
        with seeded(0):  # a pass that counts for nothing, as other processes have one batch more
            engine.measure(*feed.take(torch.zeros(1, dtype=torch.int64, device=feed.device)))
    ranks.average([sums])
    bound, distortion, rate = (sums * ranks.size / len(feed.data)).tolist()
    return bound if density else -torch.inf, distortion, rate


def largest_batch(recipe: Recipe) -> int:
    """Returns the largest batch size of a recipe, which fits into memory with its gradients."""
    return max(stage.batch_size for stage in recipe.stages)


def notes_on(model: VAE, feed: BatchStream) -> list[str]:
    """Returns notes on a finished run; none if they cannot be computed, since a note must not end a run."""
    try:
        return note_on_latents(model, feed)
    except Exception as error:
        logging.getLogger("vaezoo").debug("No note on the latents: %s: %s", type(error).__name__, error)
        return []


def note_on_latents(model: VAE, feed: BatchStream) -> list[str]:
    """Returns a warning if most latents are inactive; none for codes."""
    indices = torch.from_numpy(stable_permutation(len(feed.data), 0)[:NOTED]).to(feed.device)
    means = list[Tensor]()
    with torch.no_grad(), seeded(0):
        for part in indices.split(rows_at_once(feed.data.shape, 500, feed.size)):
            posterior = model.encoder(*feed.take(part))
            if code_indices(posterior) is not None:
                return []
            means.append(mean_or_center(posterior).flatten(1))
    centers = torch.cat(means)
    if len(centers) < 2:
        return []
    return note_on_activity(int((centers.var(0) > ACTIVE_VARIANCE).sum()), centers.shape[1])
