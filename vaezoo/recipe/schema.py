"""The tables of a recipe: each key with its type, range and default."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal, Self, cast

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]
Side = Annotated[int, Meta(ge=1, le=8192)]
Byte = Annotated[int, Meta(ge=0, le=255)]
# Lists, since msgspec 0.22 crashes on a union of a constrained type and a tuple of fixed length.
Color = Annotated[list[Byte], Meta(min_length=3, max_length=3)]
Rate = Annotated[float, Meta(gt=0, le=10)]
Share = Annotated[float, Meta(ge=0, lt=1)]
# Neither a path nor an address, except `folder:PATH`, `table:FILE` and `series:FILE`.
DataName = Annotated[
    str, Meta(pattern=r"^((?!\w*(tps?|file|s3):)[^:/\\]+(:[\w,]+)?|(folder|table|series):.+)$", max_length=1000)
]
Name = Annotated[str, Meta(min_length=1, max_length=1000)]


class ArchitectureTable(msgspec.Struct, frozen=True, kw_only=True):
    """`[architecture]`: settings that all variants share; None means the variant's default.

    `from_init`: None means the setting of the model that `init` names.
    """

    latent: Positive | list[Positive] | None = None
    backbone: str | dict[str, object] | None = None
    likelihood: str | dict[str, object] | None = None
    from_init: bool = False


class DataTable(msgspec.Struct, frozen=True, kw_only=True):
    """`[data]`: data set, binarization, whether to pass labels or context vectors, number of held-out images.

    `validation` is a number of training images, or "split" for the validation split of the set itself. `split = "all"`
    trains on the test images, too. `size` (pixels, or height and width), `crop`, `channels` and `background` are those
    of `load_dataset`; they precede `pad`, the number of zeros on each side of an image. `labels` is the number of
    labels to keep in the training set, balanced over classes, 0 for all; `labelled_share` is the share of labeled
    examples in each batch, 0 for that of the set. Both are for semi-supervised variants. `window` and `stride` cut
    series into windows, see `vaezoo.data.series`; 0 for whole series.

    `name` is a registered name, `torchvision:NAME`, `folder:PATH`, `table:FILE` or `series:FILE`; with data passed from
    Python, any text. Folders and files are read with the rights of the user who runs the recipe: read recipes of others
    before running them. Loading a model runs no recipe.
    """

    name: DataName
    split: Literal["train", "all"] = "train"
    size: Side | Annotated[list[Side], Meta(min_length=2, max_length=2)] | None = None
    crop: Literal["center", "none"] = "center"
    channels: Literal["gray", "color"] | None = None
    background: Annotated[str, Meta(min_length=1, max_length=40)] | Color | None = None
    binarize: Literal["none", "dynamic", "static"] = "none"
    context: bool = False
    validation: Count | Literal["split"] = 0
    pad: Annotated[int, Meta(ge=0, le=4096)] = 0
    labels: Count = 0
    labelled_share: Share = 0.0
    flip: bool = False
    shift: Annotated[int, Meta(ge=0, le=4096)] = 0
    image_key: Name | None = None
    window: Count = 0
    stride: Count = 0


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """`[train]`, or one of several `[[stage]]`s.

    Exactly one of `steps` and `epochs`. `learning_rate` rises over `warmup` steps and falls to `final_learning_rate` by
    `schedule = "cosine"`; `learning_rates` overrides it by parameter group. `average` is the decay of averaged weights
    (0: none), `clip` the largest gradient norm (0: none). `rate_warmup`, `rate_cycles`, `free_bits` schedule the rate's
    weight. `precision = "bf16"` runs the networks in bfloat16 and keeps weights and densities in float32,
    `channels_last` stores convolutions with the channels innermost, `compile` compiles the loss. `parallel` is
    how several processes share a step: "ddp" copies the model to each, "fsdp" shards parameters, gradients, averages
    and optimizer state. `train` names the trained parts (all by default), `options` changes the objective's options
    for this stage.
    """

    steps: Count = 0
    epochs: Count = 0
    batch_size: Positive = 128
    accumulation: Positive = 1
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: Rate = 1e-3
    final_learning_rate: Annotated[float, Meta(ge=0, le=10)] = 0.0
    learning_rates: dict[str, Rate] = msgspec.field(default_factory=dict)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Count = 0
    betas: tuple[Share, Share] = (0.9, 0.999)
    epsilon: Annotated[float, Meta(gt=0, le=1)] = 1e-8
    weight_decay: Annotated[float, Meta(ge=0, le=10)] = 0.0
    clip: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    patience: Count = 0
    average: Share = 0.0
    precision: Literal["float32", "bf16"] = "float32"
    channels_last: bool = False
    compile: bool | Literal["reduce-overhead"] = False
    parallel: Literal["ddp", "fsdp"] = "ddp"
    rate_warmup: Count = 0
    rate_cycles: Count = 0
    free_bits: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    train: list[Literal["encoder", "decoder", "prior", "objective"]] = msgspec.field(default_factory=list)
    options: dict[str, object] = msgspec.field(default_factory=dict)


class Teacher(msgspec.Struct, frozen=True, kw_only=True):
    """`[teacher]`: a trained model, named as in `init`, whose latents and images are targets for the recipe's model.

    `latents` and `pixels` are the weights of the two distances, see `DistillationPenalty`. The trained model contains
    nothing of the teacher.
    """

    name: Name
    latents: Annotated[float, Meta(ge=0, le=1e6)] = 1.0
    pixels: Annotated[float, Meta(ge=0, le=1e6)] = 1.0


SMALLEST_DIFFERENCE = 0.1  # nats: what a mean changes by when the same test images are binarized again


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """`[published]`: metrics that the literature reports for the same class of model; no setting of the run.

    In the file, the keys of `metrics`, such as `bound` or `log_evidence`, stand beside the others. `samples` is K of
    the log-evidence, 0 if the source does not state it; `protocol` states binarization and split; `note` the network.
    `data` and `binarize` are by default those of the recipe.
    """

    metrics: dict[str, float]
    data: Name = ""
    binarize: Name = ""
    samples: Count = 0
    source: Name = ""
    protocol: Name = ""
    note: Name = ""

    def text(self, metric: str) -> str:
        """Returns the value of a metric with note and source, such as "-86.76 (Burda et al., 2016)", or ""."""
        if metric not in self.metrics:
            return ""
        return f"{self.metrics[metric]:.2f} ({'; '.join(filter(None, (self.note, self.source)))})"

    def value(self, metric: str) -> str:
        """Returns the value of a metric, of the log-evidence with its K, such as "-86.76 (5000)"; "" without one."""
        if metric not in self.metrics:
            return ""
        return f"{self.metrics[metric]:.2f}" + (f" ({self.samples or '?'})" if metric == "log_evidence" else "")

    @property
    def facts(self) -> dict[str, object]:
        """K, source, protocol and note, as plain values."""
        return {key: value for key, value in msgspec.structs.asdict(self).items() if key != "metrics"}

    @property
    def origin(self) -> str:
        """Note, source and protocol in one line."""
        return "; ".join(filter(None, (self.note, self.source, self.protocol)))

    def verdict(self, metrics: Mapping[str, object]) -> str:
        """Returns whether the log-evidence in `metrics` is above or below the published one.

        Only for whole test sets of the same data, probabilities (of binarized images) or densities alike, and the same
        K, since the estimate rises with K. A mean differs by up to 0.1 nats between binarizations of the test set, so
        that a smaller difference is neither.
        """
        evidence = metrics.get("log_evidence")
        mean = evidence.get("mean") if isinstance(evidence, Mapping) else None
        if mean is None or "log_evidence" not in self.metrics:
            return ""
        if metrics.get("subset_seed") is not None or metrics.get("split") != "test":
            return "not comparable: other images"
        if self.data and metrics.get("data") != self.data:
            return f"not comparable: {self.data} is published"
        gray = self.binarize == "none"
        if self.binarize and gray != (metrics.get("binarization") == "none"):
            return "not comparable: other images"
        if self.binarize and not gray and metrics.get("measure", "mass") != "mass":
            return "not comparable: a probability is published"
        if metrics.get("samples") != self.samples:
            return f"not comparable: K = {self.samples or 'not stated'}"
        difference = float(mean) - self.metrics["log_evidence"]
        if abs(difference) < SMALLEST_DIFFERENCE:
            return f"equal within {SMALLEST_DIFFERENCE} nats"
        return f"{'above' if difference > 0 else 'below'} by {abs(difference):.2f}"


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe; `stages` are from `[train]` or `[[stage]]`. `name` and `published` are no settings of the run."""

    variant: Name
    data: DataTable
    stages: tuple[Stage, ...]
    name: str = ""
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    init: Name | None = None
    options: dict[str, object] = msgspec.field(default_factory=dict)
    architecture: ArchitectureTable = msgspec.field(default_factory=ArchitectureTable)
    teacher: Teacher | None = None
    published: Published | None = None

    def as_dict(self) -> dict[str, object]:
        """Returns the tables of the recipe with all defaults, as `read_recipe` accepts them, but not `published`."""
        tables = cast(dict[str, object], written_out(self))
        del tables["published"]
        stages = cast(list[object], tables.pop("stages"))
        return tables | ({"train": stages[0]} if len(stages) == 1 else {"stage": stages})

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of `settings`; keys that later versions add do not change it."""
        text = json.dumps(self.settings, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def settings(self) -> dict[str, object]:
        """The settings of the run that differ from the defaults, as plain values."""
        return {key: value for key, value in differing(self).items() if key not in ("name", "published")}

    @classmethod
    def from_settings(cls, settings: object) -> Self | None:
        """Returns the recipe of `settings`; None if this version does not have their keys."""
        try:
            return msgspec.convert(settings, cls)
        except msgspec.ValidationError:
            return None


@cache
def fields_of(struct: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """Returns the fields of a table by name; cached, since msgspec evaluates annotations."""
    return {field.name: field for field in msgspec.structs.fields(struct)}


def differing(table: msgspec.Struct) -> dict[str, object]:
    """Returns the fields of a table that differ from their defaults, recursively, as plain values."""
    found: dict[str, object] = {}
    for name, field in fields_of(type(table)).items():
        value = getattr(table, name)
        if value != (field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()):
            each = [differing(stage) for stage in value] if name == "stages" else value
            found[name] = differing(value) if isinstance(value, msgspec.Struct) else each
    return found


def written_out(value: object) -> object:
    """Returns structs as dicts with every field, tuples as lists."""
    if isinstance(value, msgspec.Struct):
        return {key: written_out(each) for key, each in msgspec.structs.asdict(value).items()}
    return [written_out(each) for each in value] if isinstance(value, tuple) else value
