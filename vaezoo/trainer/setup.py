"""Before the first step: the model of a recipe, its batches, and the check that the model fits the data."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vaezoo.core import VAE, rows_at_once, seeded
from vaezoo.data import Dataset, EndlessDataset, SeriesLayout, check_augmentation
from vaezoo.errors import ContextError, RecipeError, ShapeError, SupportError
from vaezoo.recipe import Recipe
from vaezoo.registry import Named, create, likelihoods, options_of
from vaezoo.registry.architecture import named
from vaezoo.trainer.batches import BUILD, BatchStream, EndlessStream, noise_seed


def build_model(recipe: Recipe, data: Dataset, options: dict[str, object] | None = None) -> VAE:
    """Returns the recipe's untrained model for a data set; the weights depend on the recipe's seed only.

    Args:
        recipe: variant, options and architecture.
        data: the training set, which determines shape, number of examples and context.
        options: replace the recipe's, such as those of a stage.

    Raises:
        RecipeError: the recipe needs a context that the data does not have.
        ConfigError, CompositionError, ShapeError: see `vaezoo.create`.
    """
    table = recipe.architecture
    with seeded(noise_seed(recipe.seed, BUILD, 0)):
        return create(
            recipe.variant,
            shape=data.shape,
            latent=table.latent,
            context=context_width(recipe, data),
            backbone=backbone_of(table.backbone, data),
            likelihood=likelihood_of(table.likelihood, data),
            examples=data.total or len(data) if isinstance(data, EndlessDataset) else len(data),
            **(recipe.options if options is None else options),
        )


def backbone_of(choice: Named | None, data: Dataset) -> Named | None:
    """Returns the backbone of a recipe; for series that is `conv1d` by default."""
    return "conv1d" if choice is None and isinstance(data.layout, SeriesLayout) else choice


def likelihood_of(choice: Named | None, data: Dataset) -> Named | None:
    """Returns the likelihood of a recipe, which takes the gaps of data that have a layout.

    For a table it is `mixed` by default, with its columns; for series `gaussian` with an optimal scale.
    """
    if isinstance(data.layout, SeriesLayout):
        chosen = named({"name": "gaussian", "scale_kind": "optimal"} if choice is None else choice, "likelihood")
        takes_gaps = "gaps" in options_of(likelihoods.get(str(chosen["name"])))
        return {"gaps": True, **chosen} if takes_gaps else chosen
    given: dict[str, object] = {"name": choice or "mixed"} if isinstance(choice, str | None) else dict(choice)
    if data.layout is None or given["name"] != "mixed" or "columns" in given:
        return choice
    return {**given, "columns": data.layout.families()}


def context_width(recipe: Recipe, data: Dataset) -> int:
    """Returns the width of the context, `data.context` or else one-hot `data.labels`, that the recipe uses; 0 for none.

    Raises:
        RecipeError: the recipe needs a context, and the data has neither.
    """
    if not recipe.data.context:
        return 0
    if data.context is not None:
        return data.context.shape[1]
    if data.labels is None or not data.classes:
        raise RecipeError(
            f"data.context = true, but the data set {data.name!r} has neither labels nor context vectors. Set it to "
            "false, or pass (x, c)."
        )
    return data.classes


def make_feed(
    recipe: Recipe, model: VAE, data: Dataset, batch_size: int, device: torch.device, *, labelled_share: float = 0.0
) -> BatchStream:
    """Returns the batches of a data set with the context that the model takes.

    Raises:
        RecipeError, ContextError: the data set has no context, or not that of the model.
        DataError: a labeled share of a set whose labels are all known or all missing; or augmentation of a table.
    """
    width = context_width(recipe, data)
    labels = data.labels if width and data.context is None else None
    if labels is not None and width != model.context and int(labels.max()) < model.context:
        width = model.context  # a user's held-out set may lack the highest classes
    if width != model.context:
        has = f"a context of width {width}" if width else "no context (data.context = false)"
        raise ContextError(
            f"The {data.split} set {data.name!r} gives {has}; the model takes one of width {model.context}. Build the "
            "model with build_model(recipe, data), and use sets of the same classes."
        )
    if labels is not None and int(labels.min()) < 0 and not model.takes_unlabelled:
        raise ContextError(
            f"The {data.split} set {data.name!r} lacks some labels (-1), which {recipe.variant!r} needs. Remove those "
            "examples, or use a variant that supports missing labels, such as m2-vae."
        )
    reads_on = isinstance(data, EndlessDataset) and data.split == "train"
    feed = (EndlessStream if reads_on else BatchStream)(
        data, batch_size, device, seed=recipe.seed, context=width, labelled_share=labelled_share
    )
    if data.split == "train":
        check_augmentation(data.shape, flip=recipe.data.flip, shift=recipe.data.shift)
        feed.flip, feed.shift = recipe.data.flip, recipe.data.shift
    return feed


@torch.no_grad()
def every_example_has_a_density(model: VAE, feed: BatchStream) -> bool:
    """Checks a whole data set, and returns whether every example has a density under the likelihood.

    Raises:
        ShapeError, SupportError, ContextError: the model cannot be trained on the data set, which is named.
    """
    data, density = feed.data, True
    with seeded(0):
        for x, c in support_batches(feed):
            try:
                x, _ = model.check(x, c)
            except (ShapeError, SupportError, ContextError) as error:
                raise type(error)(f"The {data.split} set {data.name!r} does not fit the model: {error}") from None
            density = density and model.has_density(x)
    return density


def support_batches(feed: BatchStream) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yields batches that hold every context and every value of a set, on which a likelihood's support depends."""
    data = feed.data
    rows = rows_at_once(data.shape, 1_000)
    parts = torch.arange(len(data), device=feed.device).split(rows)
    # Dynamic binarization yields 0 and 1 only.
    if not feed.dynamic and data.images.is_floating_point():
        yield from feed.whole(rows)
        return
    x, c = feed.take(parts[0])
    yield x, c
    if c is not None:
        yield from ((x[:1].expand(len(indices), *data.shape), feed.context_of(indices)) for indices in parts[1:])
    if not feed.dynamic:
        for values in data.levels().split(rows):  # at most 256: one example for each
            x = values.view(-1, *[1] * len(data.shape)).expand(-1, *data.shape)
            yield x, None if c is None else c[:1].expand(len(values), -1)
