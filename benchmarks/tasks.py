"""The tasks: models, data, windows of steps, and the loops that vaezoo's trainer is compared with."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import peers
import straight
import torch
from clock import Clock
from torch import nn

from vaezoo import read_recipe
from vaezoo.core import VAE
from vaezoo.data import Dataset, binarize, load_dataset
from vaezoo.recipe import Recipe
from vaezoo.trainer import Trainer, build_model

Loop = Callable[[Clock, Dataset, int], object]

# The rows of vaezoo: name, tasks, and keys of [train].
OPTION_SETS: dict[str, tuple[str, dict[str, object]]] = {
    "vaezoo": ("mlp libraries conv vq iwae", {}),
    "vaezoo, bf16": ("mlp conv vq iwae", {"precision": "bf16"}),
    "vaezoo, bf16, channels last": ("conv vq", {"precision": "bf16", "channels_last": True}),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One table: a recipe without its [train], how many steps, which windows of them, and the other loops.

    `others` maps a row's name to a loop, and to the library that it needs ("" for none).
    """

    title: str
    recipe: dict[str, object]
    others: dict[str, tuple[Loop, str]]
    batch: int = 128
    steps: int = 100
    windows: tuple[tuple[int, int], ...] = ((0, 100),)

    def data(self) -> Dataset:
        """Returns MNIST, binarized as in the recipe."""
        return binarize(load_dataset("mnist", "train"), self.read({}, 1).data.binarize)

    def read(self, keys: dict[str, object], steps: int) -> Recipe:
        """Returns the recipe with these keys of [train]."""
        train = {"steps": steps, "batch_size": self.batch, "learning_rate": 1e-3, **keys}
        return read_recipe({"data": {"name": "mnist"}, **self.recipe, "train": train})


def ours(task: Task, keys: dict[str, object], clock: Clock, data: Dataset, steps: int) -> list[float]:
    """Runs vaezoo's `Trainer.fit` with the clock as a tracker; returns the logged distortions."""
    recipe = task.read(keys, steps)
    with warnings.catch_warnings(action="ignore"):  # of unused latents, after so few steps
        run = Trainer(recipe, build_model(recipe, data), data, trackers=[clock]).fit()
    return [line["distortion"] for line in run.history if line["distortion"] is not None]


def by_hand(build: Callable[[], nn.Module], batch: int, fused: bool | None) -> Loop:
    """Returns the straight loop around a new model."""
    return lambda clock, data, steps: straight.train(clock, data, steps, build(), batch, fused)


def loops(name: str) -> dict[str, tuple[Loop, str]]:
    """Returns the rows of a task: vaezoo's first, then the others."""
    task = TASKS[name]
    own = {row: keys for row, (where, keys) in OPTION_SETS.items() if name in where.split()}
    return {row: (partial(ours, task, keys), "") for row, keys in own.items()} | task.others


def mlp(hidden: list[int], activation: str) -> dict[str, object]:
    """Returns a backbone's table."""
    return {"name": "mlp", "hidden": hidden, "activation": activation}


TASKS = {
    "mlp": Task(
        title="MLP 784-400-20, ReLU, batch 128, grey MNIST",
        recipe={"variant": "vae", "architecture": {"latent": 20, "backbone": mlp([400], "relu")}},
        steps=4000,
        windows=((0, 500), (2000, 4000)),
        others={
            "straight loop, fused Adam": (by_hand(straight.mlp, 128, True), ""),
            "straight loop, Adam as it comes": (by_hand(straight.mlp, 128, None), ""),
        },
    ),
    "libraries": Task(
        title="The same MLP, a short run, beside other libraries",
        recipe={"variant": "vae", "architecture": {"latent": 20, "backbone": mlp([400], "relu")}},
        steps=1000,
        windows=((0, 500),),
        others={
            "straight loop, fused Adam": (by_hand(straight.mlp, 128, True), ""),
            "straight loop, Adam as it comes": (by_hand(straight.mlp, 128, None), ""),
            "straight loop of introductions (two heads, sigmoid)": (by_hand(straight.Introduction, 128, None), ""),
            "DataLoader + ToTensor for each image": (straight.data_loader, ""),
            "pythae": (partial(peers.pythae, build=straight.mlp, latent=20), "pythae"),
            "Lightning, default logging": (partial(peers.lightning, build=straight.mlp), "lightning"),
        },
    ),
    "conv": Task(
        title="Convolutions 32-64-128, SiLU, 16 latents, batch 128, grey MNIST",
        recipe={
            "variant": "conv-vae",
            "architecture": {"latent": 16, "backbone": {"name": "conv", "channels": [32, 64, 128], "dense": []}},
        },
        others={
            "straight loop, fused Adam": (by_hand(straight.conv, 128, True), ""),
            "straight loop, Adam as it comes": (by_hand(straight.conv, 128, None), ""),
            "pythae": (partial(peers.pythae, build=straight.conv, latent=16), "pythae"),
            "Lightning, default logging": (partial(peers.lightning, build=straight.conv), "lightning"),
        },
    ),
    "vq": Task(
        title="VQ-VAE, convolutions 32-64, 7 x 7 codes out of 512, 64 wide, moving averages, batch 128, grey MNIST",
        recipe={
            "variant": "vq-vae",
            "options": {"codes": 512},
            "architecture": {"latent": [64, 7, 7], "backbone": {"name": "conv", "channels": [32, 64]}},
        },
        others={
            "straight loop, one-hot codebook, fused Adam": (by_hand(partial(straight.VQ, True), 128, True), ""),
            "straight loop, indexed codebook, fused Adam": (by_hand(partial(straight.VQ, False), 128, True), ""),
        },
    ),
    "iwae": Task(
        title="IWAE, K = 50, MLP 2 x 200, tanh, 50 latents, batch 100, static MNIST",
        recipe={
            "variant": "iwae",
            "options": {"samples": 50},
            "architecture": {"latent": 50, "backbone": mlp([200, 200], "tanh")},
            "data": {"name": "mnist", "binarize": "static"},
        },
        batch=100,
        others={
            "straight loop, fused Adam": (by_hand(straight.iwae, 100, True), ""),
            "straight loop, Adam as it comes": (by_hand(straight.iwae, 100, None), ""),
        },
    ),
}


def twin(task: Task, plain: nn.Module, data: Dataset) -> VAE:
    """Returns vaezoo's untrained model of a task, and copies its weights to the straight one."""
    model = build_model(task.read({}, 1), data)
    # vaezoo has an offset for each pixel in place of the bias of a transposed convolution; both start at 0.
    own = [value for key, value in model.named_parameters() if not key.endswith("offset")]
    theirs = [value for value in plain.parameters() if value.shape != (1,)]
    with torch.no_grad():
        for value in plain.parameters():
            value.zero_()
        for value, mine in zip(theirs, own, strict=True):
            value.copy_(mine)
    return model
