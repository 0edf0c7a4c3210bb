"""What `vaezoo explore` computes: from a model and inputs to images, figures and maps; without an interface."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import VAE, center, class_names, closed_form_rate, code_indices, evaluating, exact_mean, seeded
from vaezoo.data import Dataset, ImageOptions, binarize, bundled_images, fit_images, from_tensors, load_dataset, pad
from vaezoo.data.bundled import BUNDLED
from vaezoo.data.readers.pixels import image_tensor, open_image
from vaezoo.distributions.normal import DiagonalNormal, StandardNormal
from vaezoo.errors import ConfigError, ContextError, DataError, DownloadError, MissingExtraError, ShapeError
from vaezoo.evaluation.test_sets import test_set
from vaezoo.pictures.images import check_images
from vaezoo.pictures.latents import check_support, continuous_center, decoded, moments, moved
from vaezoo.pictures.plots import Plane, panel, principal_plane, scatter
from vaezoo.workflows.load import load
from vaezoo.workflows.measure import data_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES: Final = 64  # test images to choose from, as many as are in the package
POINTS: Final = 1_000  # of a map
SLIDERS: Final = 8
SAMPLES: Final = 16
STEP: Final = 0.01  # of a slider
SPAN: Final = 3.0  # standard deviations of the prior that each slider covers at least
NO_DRAWING: Final = "The canvas is empty. Draw on it with the brush."


@dataclass(frozen=True, kw_only=True)
class Explored:
    """A model in eval mode, and the images that it is explored with.

    `examples` are test images as the model expects them; `note` states where they are from if they are no test images.
    `obstacle` is the reason why latents cannot be moved, empty where they can; the latents, sliders and the plane of
    such a model must not be read.
    """

    name: str
    model: VAE
    examples: Dataset
    note: str = ""
    obstacle: str = ""

    @cached_property
    def contexts(self) -> Tensor | None:
        """The class of each example (N,), -1 where it is unknown; None for an unconditional model."""
        if not self.model.context:
            return None
        labels = None if self.model.takes_unlabelled else self.examples.labels
        return torch.full((len(self.examples),), -1) if labels is None else labels

    @cached_property
    def latents(self) -> Tensor:
        """The centers of the posteriors of the examples, (N, D), float64."""
        rows = list[Tensor]()
        with evaluating(self.model):
            for indices in torch.arange(len(self.examples)).split(250):
                c = None if self.contexts is None else self.contexts[indices]
                x, context = self.model.check(self.examples.batch(indices), c)
                rows.append(continuous_center(self.model, x, context).flatten(1).double())
        return torch.cat(rows)

    @cached_property
    def active(self) -> list[int]:
        """The latents whose centers vary most over the examples, at most `SLIDERS`, the most active first."""
        c = None if self.contexts is None else self.contexts[:1]
        with evaluating(self.model):
            prior = cast(Distribution, self.model.prior(self.model.check_context(c, 1)))
            free = set(movable(prior, self.latents[:1].float().reshape(1, *(self.model.latent or (-1,)))))
        order: list[int] = self.latents.var(0).argsort(descending=True, stable=True).tolist()
        return [index for index in order if index in free][:SLIDERS]

    @cached_property
    def plane(self) -> Plane:
        """The plane of the map."""
        return principal_plane(self.latents)

    @property
    def classes(self) -> list[str]:
        """The names of the classes of a conditional model, or their numbers; empty for other models."""
        names = class_names(self.model.config)
        return [str(names[index]) if index < len(names) else str(index) for index in range(self.model.context)]


def prepare(name: str) -> Explored:
    """Returns a model by name, with test images from the package or the cache: nothing is downloaded for them.

    Raises:
        UnknownNameError, CorruptWeightsError, DownloadError: see `load`.
        ShapeError: the model's x are not images (C, H, W) of one or three channels.
    """
    model = load(name).eval()
    check_images(model)
    if model.shape is None or len(model.shape) != 3 or model.shape[0] not in (1, 3):
        raise ShapeError(f"Got a model of x with shape {model.shape}; expected images with one or three channels.")
    examples, note = examples_of(model)
    return Explored(name=name, model=model, examples=examples, note=note, obstacle=obstacle_of(model, examples))


def examples_of(model: VAE) -> tuple[Dataset, str]:
    """Returns test images as the model expects them; its own samples, and a note, where none are on this machine."""
    try:
        name = data_of(model, None)
        try:
            found = load_dataset(name, "test", download=False)
        except DownloadError:
            if name not in BUNDLED:
                raise
            found = bundled_images(name)
        return test_set(model, found.subset(slice(POINTS))), ""
    except (ConfigError, DataError, DownloadError, MissingExtraError, LookupError):
        c = torch.arange(IMAGES) % model.context if model.context else None
        samples = model.sample(IMAGES, c, seed=0)
        labels = {} if c is None else {"labels": c, "classes": model.context}
        made = Dataset(name="samples", split="test", images=samples, **labels)  # type: ignore[arg-type]  # by name
        note = "The test images of this model are not on this machine: its own samples are shown in their place."
        return made, f"{note} `vaezoo evaluate` downloads them." if "data" in (model.config or {}) else note


def obstacle_of(model: VAE, examples: Dataset) -> str:
    """Returns the reason why no latent of a model can be moved alone; an empty text if one can."""
    c = None
    if model.context:
        c = torch.tensor([-1 if model.takes_unlabelled else 0])
    try:
        with evaluating(model):
            x, context = model.check(examples.batch([0]), c)
            continuous = movable(cast(Distribution, model.prior(context)), continuous_center(model, x, context))
    except ShapeError:
        return "The latents of this model are discrete codes, which have no values in between."
    if not continuous:
        return "The latents of this model are one-hot vectors or points of a sphere: none of them can move alone."
    return ""


def movable(prior: Distribution, z: Tensor) -> list[int]:
    """Returns the latents of z (1, *latent) that can change alone within the support of the prior."""
    try:
        support = prior.support
    except NotImplementedError:
        support = None
    every = torch.arange(z.numel())
    turned = moved(z, every, z.flatten() + 0.1)
    return every.tolist() if support is None else every[support.check(turned).reshape(len(every), -1).all(1)].tolist()


def context_for(explored: Explored, choice: str, index: int | None) -> Tensor | None:
    """Returns the context (1,) of a chosen class, or for an empty choice that of example `index`; None without classes.

    Raises:
        ContextError: the choice is empty and there is no label, or it is no class of the model.
    """
    if not explored.model.context:
        return None
    if choice in explored.classes:
        return torch.tensor([explored.classes.index(choice)])
    if explored.contexts is not None and index is not None and not choice:
        return explored.contexts[index % IMAGES % len(explored.examples)][None]
    if explored.model.takes_unlabelled:
        return torch.tensor([-1])
    raise ContextError("This model is conditional, and the image has no label. Choose a class.")


# Images


def example(explored: Explored, index: int) -> Tensor:
    """Returns test image number `index` as the model expects it, (1, *shape)."""
    return explored.examples.batch([index % IMAGES % len(explored.examples)])


def uploaded(path: str | Path) -> Tensor:
    """Returns an image file as `uint8` (3, H, W).

    Raises:
        DataError: it is no image in a known format, or damaged, or too large.
    """
    file = Path(path)
    try:
        with open_image(file) as image:
            return image_tensor(image, file.name, ImageOptions(), gray=False)
    except DataError as error:
        raise DataError(str(error).replace(str(file), file.name)) from None


def drawn(canvas: object) -> Tensor:
    """Returns the ink of a drawing, `uint8` (1, H, W): 255 where it is black, 0 where it is white or transparent.

    Args:
        canvas: the value of an editor, a mapping with "composite": an array (H, W, 3) or (H, W, 4), RGB and opacity.

    Raises:
        DataError: nothing was drawn.
    """
    page = cast("NDArray[np.uint8] | None", canvas.get("composite") if isinstance(canvas, dict) else None)
    if page is not None and page.ndim == 3 and page.shape[-1] in (3, 4):
        darkness = 255.0 - page[..., :3].mean(-1)
        opacity = page[..., 3] / 255.0 if page.shape[-1] == 4 else 1.0
        ink = torch.from_numpy(np.rint(darkness * opacity).astype(np.uint8))[None]
        if bool(ink.any()):
            return ink
    raise DataError(NO_DRAWING)


def centered(ink: Tensor) -> Tensor:
    """Returns a drawing (1, H, W), `uint8`, as those of MNIST: in a box of 20/28 of the side, at its center of mass.

    LeCun et al., 1998, "Gradient-based learning applied to document recognition", section III.A.
    """
    rows, columns = (ink[0].any(axis).nonzero().flatten() for axis in (1, 0))
    crop = ink[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(crop.shape[1:])
    weights = crop[0].double() / crop.sum()
    middles = [float((weights.sum(1 - axis) * (torch.arange(crop.shape[1 + axis]) + 0.5)).sum()) for axis in (0, 1)]
    page = torch.zeros(1, *[round(28 / 20 * side)] * 2, dtype=torch.uint8)
    starts = [
        min(max(round(page.shape[1 + axis] / 2 - middles[axis]), 0), page.shape[1 + axis] - crop.shape[1 + axis])
        for axis in (0, 1)
    ]
    page[:, starts[0] : starts[0] + crop.shape[1], starts[1] : starts[1] + crop.shape[2]] = crop
    return page


def fitted(explored: Explored, image: Tensor, *, ink: bool = False, inverted: bool = False) -> Tensor:
    """Returns an image, `uint8` (C, H, W), as the model's data: resized, padded and binarized, (1, *shape).

    Args:
        explored: the model.
        image: one channel or three.
        ink: whether it is a drawing, 255 where the brush was; it is centered for models of MNIST.
        inverted: whether dark and light are exchanged.
    """
    model = explored.model
    table = cast("dict[str, object]", (model.config or {}).get("data") or {})
    channels, high, wide = cast("tuple[int, int, int]", model.shape)
    margin = int(cast(int, table.get("pad", 0)))
    if ink and table.get("name") == "mnist":
        image = centered(image)
    if inverted or (ink and channels == 3):  # dark strokes on white paper
        image = 255 - image
    options = ImageOptions(
        size=(high - 2 * margin, wide - 2 * margin), crop="none", channels="gray" if channels == 1 else "color"
    )
    data = pad(fit_images(from_tensors(image[None], name="image", split="test"), options), margin)
    return binarize(data, str(table.get("binarize", "none"))).batch([0])


# Figures of one image


@dataclass(frozen=True, kw_only=True)
class View:
    """An image (1, *shape), its reconstruction and the absolute error of each pixel, both of that shape; figures.

    `z`, `mean`, `deviation` and `rates` are (D,): the posterior's center, mean and standard deviation, and the rate of
    each latent, nats; None where the model has none. `distortion`, `rate` and `bound` are in nats, the bound -inf
    without a density.
    """

    x: Tensor
    reconstruction: Tensor
    error: Tensor
    z: Tensor | None
    mean: Tensor | None
    deviation: Tensor | None
    rates: Tensor | None
    distortion: float
    rate: float
    bound: float


def view(explored: Explored, x: Tensor, c: Tensor | None = None) -> View:
    """Returns the reconstruction and the figures of one image (1, *shape); equal inputs give equal figures."""
    model = explored.model
    with evaluating(model), seeded(0):
        elbo = model(x, c)
        x, context = model.check(x, c)
        posterior = cast(Distribution, model.encoder(x, context))
        z = center(posterior)
        made = cast(Tensor, model.decoder(z, context).mean)
        continuous = code_indices(posterior) is None and not explored.obstacle
        mean = exact_mean(posterior) if continuous else None
        return View(
            x=x, reconstruction=made, error=(x - made).abs(),
            z=z[0].flatten() if continuous else None,
            mean=None if mean is None else mean[0].flatten(),
            deviation=deviation_of(posterior) if continuous else None,
            rates=rates_of(posterior, cast(Distribution, model.prior(context))),
            distortion=float(elbo.distortion[0]), rate=float(elbo.rate[0]), bound=float(elbo.bound[0]),
        )  # fmt: skip


def deviation_of(posterior: Distribution) -> Tensor | None:
    """Returns the standard deviation of each latent (D,) of a posterior of one example; None without a closed form."""
    try:
        return posterior.stddev[0].flatten()
    except (NotImplementedError, AttributeError):
        return None


def rates_of(posterior: Distribution, prior: Distribution) -> Tensor | None:
    """Returns the rate of each latent (D,), nats, for one example; their sum is the rate.

    None unless posterior and prior are diagonal normals: other rates are no sums over latents.
    """
    if not (isinstance(posterior, DiagonalNormal) and isinstance(prior, DiagonalNormal)):
        return None
    standard = isinstance(prior, StandardNormal)
    each = StandardNormal(prior.loc, 0) if standard else DiagonalNormal(prior.loc, prior.log_scale, 0)
    rates = closed_form_rate(DiagonalNormal(posterior.loc, posterior.log_scale, 0), each)
    return None if rates is None else rates[0].flatten()


# Latents


@dataclass(frozen=True, kw_only=True)
class Slider:
    """The slider of a latent: its number, range and value."""

    latent: int
    low: float
    high: float
    value: float


def sliders(explored: Explored, z: Tensor, c: Tensor | None = None) -> list[Slider]:
    """Returns the sliders of the most active latents at z (D,).

    Each covers ±3 standard deviations of the prior, the latents of all examples, and z.
    """
    with evaluating(explored.model):
        context = explored.model.check_context(c, 1)
        mean, deviation = moments(cast(Distribution, explored.model.prior(context)))
    rows = torch.cat(
        [explored.latents, z[None].double(), (mean - SPAN * deviation)[None], (mean + SPAN * deviation)[None]]
    )
    low, high = rows.amin(0), rows.amax(0)
    return [
        Slider(latent=index, low=floor(low[index]), high=-floor(-high[index]), value=round(float(z[index]), 2))
        for index in explored.active
    ]


def floor(value: Tensor) -> float:
    """Returns the largest multiple of 0.1 that is not above a value."""
    return float((value * 10).floor()) / 10


def at_sliders(explored: Explored, z: Tensor, values: Sequence[float], c: Tensor | None = None) -> Tensor:
    """Returns the image (1, *shape) decoded from z (D,) with the most active latents set to the sliders' `values`.

    A latent whose slider is at its rounded value keeps its exact value, so that untouched sliders give the
    reconstruction.
    """
    z = z.clone()
    for index, value in zip(explored.active, values, strict=False):
        if abs(float(z[index]) - value) > 0.5001 * STEP:
            z[index] = value
    return at_latents(explored, z[None], c)


def at_latents(explored: Explored, z: Tensor, c: Tensor | None = None) -> Tensor:
    """Returns the images (N, *shape) decoded from latents (N, D), in one context.

    Raises:
        ShapeError: latents outside the support of the prior, as between two one-hot vectors.
    """
    model = explored.model
    with evaluating(model):
        context = model.check_context(c, 1)
        z = z.float().reshape(len(z), *(model.latent or z.shape[1:]))
        check_support(cast(Distribution, model.prior(context)), z, "Some latents of this model are discrete")
        return decoded(model, z, context)


def between(explored: Explored, first: int, second: int, steps: int = 9, c: Tensor | None = None) -> Tensor:
    """Returns images (steps, *shape) decoded on the line between the latents of two test images.

    The first and the last one are their reconstructions. `c` is the context of all; None is that of the first image.
    """
    c = context_for(explored, "", first) if c is None else c
    with evaluating(explored.model):
        x, context = explored.model.check(
            torch.cat([example(explored, first), example(explored, second)]), None if c is None else c.expand(2)
        )
        z = continuous_center(explored.model, x, context).flatten(1)
    return at_latents(
        explored, torch.stack([torch.lerp(z[0], z[1], each) for each in torch.linspace(0, 1, steps).tolist()]), c
    )


def samples(explored: Explored, seed: int, c: Tensor | None = None) -> Tensor:
    """Returns `SAMPLES` samples (N, *shape), of one class, or for None of the classes in turn."""
    model = explored.model
    if model.context and (c is None or bool((c < 0).any())):
        c = torch.arange(SAMPLES) % model.context
    return model.sample(SAMPLES, None if c is None else c.expand(SAMPLES), seed=seed)


# The map of the latents


@dataclass(frozen=True, kw_only=True)
class MapPicture:
    """A map of latents as an image (H, W, 3), `uint8`, and the limits of its axes: left, right, bottom, top.

    `frame` is the rectangle of the axes in the image: left, right, bottom, top, in pixels from the top left.
    """

    image: "NDArray[np.uint8]"
    frame: tuple[float, float, float, float]
    limits: tuple[float, float, float, float]

    def place(self, column: float, row: float) -> Tensor:
        """Returns the place (2,) in the plane at a pixel, float64; of the nearest one within the axes."""
        return self._scaled((column, row), self.frame, self.limits)

    def pixel(self, place: Tensor) -> tuple[float, float]:
        """Returns column and row of a place (2,) in the plane."""
        column, row = self._scaled(tuple(place.tolist()), self.limits, self.frame).tolist()
        return column, row

    def _scaled(self, point: Sequence[float], source: Sequence[float], target: Sequence[float]) -> Tensor:
        shares = [(point[axis] - source[2 * axis]) / (source[2 * axis + 1] - source[2 * axis]) for axis in (0, 1)]
        kept = [min(max(share, 0.0), 1.0) for share in shares]
        pairs = [(target[2 * axis], target[2 * axis + 1]) for axis in (0, 1)]
        return torch.tensor(
            [low + share * (high - low) for share, (low, high) in zip(kept, pairs, strict=True)]
        ).double()


def map_picture(explored: Explored, mark: Tensor | None = None) -> MapPicture:
    """Returns the map of the examples' latents in the colors of their classes, with a cross at `mark` (2,)."""
    figure, axes = panel(3.0, 2.6)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    plane, labels = explored.plane, explored.examples.labels
    axes.set_position((0.14, 0.15, 0.66 if labels is not None else 0.84, 0.82))
    scatter(axes, plane.project(explored.latents), labels, class_names(explored.model.config))
    limits = (*axes.get_xlim(), *axes.get_ylim())
    if mark is not None:
        axes.plot(*mark.tolist(), "+", color="black", markersize=14, markeredgewidth=2)
    axes.set_xlim(limits[:2])
    axes.set_ylim(limits[2:])
    axes.tick_params(labelsize=6)
    axes.set_xlabel(plane.names[0], fontsize=6)
    axes.set_ylabel(plane.names[1], fontsize=6)
    if labels is not None:
        axes.legend(fontsize=6, frameon=False, markerscale=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    box, high = axes.get_window_extent(), image.shape[0]
    return MapPicture(image=image, frame=(box.x0, box.x1, high - box.y0, high - box.y1), limits=limits)


def at_place(explored: Explored, place: Tensor, c: Tensor | None = None) -> Tensor:
    """Returns the image (1, *shape) decoded at a place (2,) of the map.

    With more than two latents the others are those of the plane of the map: the mean of the examples' latents moved
    along the principal components.
    """
    return at_latents(explored, explored.plane.latents(place[None]), c)
