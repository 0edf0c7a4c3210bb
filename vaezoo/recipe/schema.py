"""The tables of a recipe, each key with its type, range and default."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta

__all__ = ["ArchitectureTable", "DataTable", "Recipe", "Stage"]

Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]
Rate = Annotated[float, Meta(gt=0, le=10)]
Share = Annotated[float, Meta(ge=0, lt=1)]
# No path and no address, but for the one kind that says so.
DataName = Annotated[str, Meta(pattern=r"^([^:/\\]+|torchvision:\w+|folder:.+)$", max_length=1000)]
Name = Annotated[str, Meta(min_length=1, max_length=1000)]


class ArchitectureTable(msgspec.Struct, frozen=True, kw_only=True):
    """`[architecture]`: what all variants share; left out, the variant's own default."""

    latent: Positive | list[Positive] | None = None
    backbone: str | dict[str, object] | None = None
    likelihood: str | dict[str, object] | None = None


class DataTable(msgspec.Struct, frozen=True, kw_only=True):
    """`[data]`: a data set by name, how it is binarized, whether it gives a context, how many images are held out.

    `pad` is how many zeros are put on each side of an image. `labels` is how many labels of the training set are told,
    as many of each class, 0 for all, and `labelled_share` the share of each batch that has one, 0 for as it comes: both
    for variants that can do without labels.

    `name` is a registered name, `torchvision:NAME` or `folder:PATH`; with data of one's own, any text. A folder is read
    with the rights of whoever runs the recipe: look at a recipe of somebody else's before you run it. Loading a model
    runs none.
    """

    name: DataName
    binarize: Literal["none", "dynamic", "static"] = "none"
    context: bool = False
    validation: Count = 0
    pad: Annotated[int, Meta(ge=0, le=4096)] = 0
    labels: Count = 0
    labelled_share: Share = 0.0


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """`[train]`, or one of several `[[stage]]`s.

    Exactly one of `steps` and `epochs`. `learning_rate` falls to `final_learning_rate` by `schedule = "cosine"`, after
    `warmup` steps of rising; `learning_rates` sets single players'. `average` is the decay of averaged weights (0:
    none), `clip` the largest gradient norm (0: none). `rate_warmup`, `rate_cycles`, `free_bits` schedule the rate's
    weight. `precision = "bf16"` runs the networks in bfloat16 and keeps weights and densities in float32,
    `channels_last` stores convolutions with the channels innermost, `compile` compiles the networks (minutes, once, and
    it needs a C++ compiler). `train` names the parts that learn (all by default), `options` changes the objective's
    options for this stage.
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
    clip: Annotated[float, Meta(ge=0)] = 0.0
    average: Share = 0.0
    precision: Literal["float32", "bf16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    rate_warmup: Count = 0
    rate_cycles: Count = 0
    free_bits: Annotated[float, Meta(ge=0)] = 0.0
    train: list[Literal["encoder", "decoder", "prior", "objective"]] = msgspec.field(default_factory=list)
    options: dict[str, object] = msgspec.field(default_factory=dict)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A whole recipe; `stages` come from `[train]` or from `[[stage]]`s."""

    variant: Name
    data: DataTable
    stages: tuple[Stage, ...]
    name: str = ""
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    init: Name | None = None
    options: dict[str, object] = msgspec.field(default_factory=dict)
    architecture: ArchitectureTable = msgspec.field(default_factory=ArchitectureTable)

    def as_dict(self) -> dict[str, object]:
        """Returns the tables of the recipe, all defaults written out, as `read_recipe` takes them."""
        tables = cast(dict[str, object], written_out(self))
        stages = cast(list[object], tables.pop("stages"))
        return tables | ({"train": stages[0]} if len(stages) == 1 else {"stage": stages})

    @property
    def digest(self) -> str:
        """The SHA-256 of the recipe's canonical JSON, without its name and what equals the defaults.

        A key that vaezoo learns later changes no digest of today.
        """
        text = json.dumps(self.settings, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def settings(self) -> dict[str, object]:
        """What the digest is of: everything but the name and what equals the defaults, as plain values."""
        return {key: value for key, value in differing(self).items() if key != "name"}

    @classmethod
    def from_settings(cls, settings: object) -> Recipe | None:
        """Returns the recipe of `settings`; None where they are of a vaezoo that has other keys."""
        try:
            return msgspec.convert(settings, cls)
        except msgspec.ValidationError:
            return None


@cache
def fields_of(struct: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """Returns the fields of a table by name; looked up once, since annotations are code that is compiled."""
    return {field.name: field for field in msgspec.structs.fields(struct)}


def differing(table: msgspec.Struct) -> dict[str, object]:
    """Returns the fields of a table that are not as by default, tables inside it likewise, as plain values."""
    found: dict[str, object] = {}
    for field in fields_of(type(table)).values():
        value = getattr(table, field.name)
        made = None if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if field.required or value != (field.default if made is None else made):
            each = [differing(stage) for stage in value] if field.name == "stages" else value
            found[field.name] = differing(value) if isinstance(value, msgspec.Struct) else each
    return found


def written_out(value: object) -> object:
    """Returns structs as dicts with every field, tuples as lists."""
    if isinstance(value, msgspec.Struct):
        return {key: written_out(each) for key, each in msgspec.structs.asdict(value).items()}
    return [written_out(each) for each in value] if isinstance(value, tuple) else value
