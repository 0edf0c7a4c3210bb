"""`new`: a variant, a recipe or a data set to start from, with a test that passes, in the current folder."""

import keyword
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from vaezoo.data.load import datasets
from vaezoo.errors import ConfigError, shorten
from vaezoo.recipe import list_recipes
from vaezoo.registry import variants
from vaezoo.storage.files import write_file

VARIANT: Final = {
    "my_name.py": '''"""The variant my-name."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from vaezoo import VAE, Architecture, register
from vaezoo.objectives import WeightedObjective


@register("my-name", changes="objective")
def my_name(base: VAE, architecture: Architecture, *, beta: Annotated[float, Meta(ge=0, le=1e6)] = 2.0) -> VAE:
    r"""Minimizes $D + \\beta R$: replace this line, the equation and the option by yours.

    Hyperparameters:
        beta: $\\beta \\ge 0$, the weight of the rate.

    References: Higgins et al. (2017), https://openreview.net/forum?id=Sy2fzU9gl
    """
    return base.replace(objective=WeightedObjective(rate=beta))
''',
    "test_my_name.py": '''"""Tests of the variant my-name."""

import torch
import vaezoo

import my_name  # registers the variant


def test_the_loss_is_the_equation():
    model = vaezoo.create("my-name", shape=(1, 8, 8), latent=4, beta=3.0)
    elbo = model(torch.rand(5, 1, 8, 8).round())
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + 3.0 * elbo.rate)


def test_it_trains_saves_and_loads(tmp_path):
    x = torch.rand(64, 1, 8, 8).round()
    recipe = {"variant": "my-name", "architecture": {"latent": 4}, "train": {"steps": 20, "batch_size": 16}}
    run = vaezoo.train({**recipe, "data": {"name": "noise"}}, data=x, out=tmp_path / "run", trackers=())
    loaded = vaezoo.load(tmp_path / "run")
    assert torch.equal(loaded.reconstruct(x), run.model.reconstruct(x))
    assert my_name.my_name.__doc__
''',
}
RECIPE: Final = {
    "my-name.toml": """# A β-VAE of the 8 × 8 digits of scikit-learn; `vaezoo show beta-vae` lists the options.
# vaezoo train ./my-name.toml
variant = "beta-vae"
seed = 0

[options]
beta = 1.0

[architecture]
latent = 8
backbone = { name = "mlp", hidden = [128] }

[data]
name = "digits"
binarize = "dynamic"
validation = 200

[train]
steps = 2_000
batch_size = 64
learning_rate = 1e-3
""",
    "test_my_name.py": '''"""Tests of the recipe my-name."""

from pathlib import Path

import vaezoo

RECIPE = Path(__file__).with_name("my-name.toml")


def test_the_recipe_is_valid():
    assert vaezoo.read_recipe(RECIPE).variant == "beta-vae"


def test_the_bound_rises():
    run = vaezoo.train(RECIPE, "train.steps=60", out=None, trackers=())
    bounds = [line["validation_bound"] for line in run.history if "validation_bound" in line]
    assert bounds[-1] > bounds[0]
''',
}
DATASET: Final = {
    "my_name.py": '''"""The data set my-name: replace the stripes by your images."""

import torch
from vaezoo.data import Dataset
from vaezoo.data.splits import check_split


def my_name(split: str) -> Dataset:
    """Returns 64 images (1, 8, 8) of horizontal or vertical stripes, labels 0 and 1.

    Raises:
        DataError: `split` is neither "train" nor "test".
    """
    check_split("my-name", split)
    labels = torch.arange(64) % 2
    generator = torch.Generator().manual_seed(int(split == "test"))
    rows = torch.randint(2, (64, 8), generator=generator, dtype=torch.uint8)
    images = torch.where(labels[:, None, None] == 0, rows[:, :, None], rows[:, None, :])[:, None]
    return Dataset(name="my-name", split=split, images=images, labels=labels, classes=2, licence="CC0", scale=1)
''',
    "test_my_name.py": '''"""Tests of the data set my-name."""

import pytest
import torch
import vaezoo
from vaezoo.data import datasets

from my_name import my_name

datasets.register("my-name", my_name, override=True)


def test_splits_differ_and_are_always_the_same():
    train, test = vaezoo.load_dataset("my-name"), vaezoo.load_dataset("my-name", "test")
    assert train.shape == test.shape == (1, 8, 8) and not torch.equal(train.images, test.images)
    assert torch.equal(vaezoo.load_dataset("my-name").images, train.images)
    with pytest.raises(vaezoo.VaezooError):
        my_name("other")


def test_a_model_trains_on_it():
    recipe = {"variant": "vae", "architecture": {"latent": 2}, "data": {"name": "my-name"}, "train": {"steps": 20}}
    run = vaezoo.train(recipe, out=None, trackers=())
    assert run.model.shape == (1, 8, 8)
''',
}
SKELETONS: Final[Mapping[str, Mapping[str, str]]] = {"variant": VARIANT, "recipe": RECIPE, "dataset": DATASET}
NEXT: Final = {
    "variant": "In Python: import {module} before vaezoo.train. For commands, in a package: "
    '[project.entry-points."vaezoo.variants"] {name} = "PACKAGE.{module}:{module}".',
    "recipe": "Train it: vaezoo train ./{name}.toml",
    "dataset": "In Python: datasets.register, as in the test. For commands, in a package: "
    '[project.entry-points."vaezoo.datasets"] {name} = "PACKAGE.{module}:{module}".',
}


def new(kind: str, name: str, folder: str | Path = ".") -> list[Path]:
    """Writes the files of a new variant, recipe or data set, and returns their paths.

    Args:
        kind: "variant", "recipe" or "dataset".
        name: words of lower-case letters and digits, joined by "-", such as "my-vae".
        folder: where to write; it must exist.

    Raises:
        ConfigError: an unknown kind, a name that is malformed or taken, or a file that exists; nothing is written.
        CheckpointError: disk full, no permission.
    """
    if kind not in SKELETONS:
        raise ConfigError(f"Got {shorten(kind)}; expected one of {', '.join(SKELETONS)}.")
    check_name(kind, name)
    texts = {
        Path(folder) / file.replace("my_name", module_of(name)).replace("my-name", name): text
        for file, text in SKELETONS[kind].items()
    }
    if taken := [str(path) for path in texts if path.exists()]:
        raise ConfigError(f"{' and '.join(taken)} exists and is not overwritten. Choose another name or folder.")
    for path, text in texts.items():
        write_file(path, text.replace("my_name", module_of(name)).replace("my-name", name).encode())
    return [*texts]


def check_name(kind: str, name: str) -> None:
    """Raises ConfigError for a name that is malformed, that of something else, or that of a Python module."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 60 or keyword.iskeyword(module_of(name)):
        raise ConfigError(f'Got the name {shorten(name)}; expected lower-case words joined by "-", such as "my-vae".')
    known = {"variant": variants.names, "recipe": list_recipes, "dataset": datasets.names}[kind]()
    if name in known:
        raise ConfigError(f"{name!r} is the name of a {kind} already. Choose another one.")
    if kind != "recipe" and find_spec(module_of(name)) is not None:
        raise ConfigError(f"{module_of(name)!r} is the name of an installed Python module. Choose another one.")


def module_of(name: str) -> str:
    """Returns the name as that of a Python module."""
    return name.replace("-", "_")


def next_step(kind: str, name: str) -> str:
    """Returns what to do after `new`, as a sentence."""
    return NEXT[kind].format(name=name, module=module_of(name))
