"""The recipe keys `channels_last` and `compile`: memory layout of convolutions, and compilation of the loss."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor

from vaezoo.core import ELBO, VAE, Seeded
from vaezoo.errors import RecipeError
from vaezoo.recipe import Stage

Loss = Callable[[Tensor, Tensor | None, Tensor], ELBO]


def loss_function(model: VAE, stage: Stage, device: torch.device, noise: Seeded) -> Loss:
    """Returns the objective as a function of x, c and step, with `noise`; compiled where the stage sets it.

    `compile = "reduce-overhead"` also replays CUDA graphs on a GPU. Compiled code draws from torch's process-wide
    generators, which have the state of `noise` for the call: other threads must not draw from them meanwhile.

    Raises:
        RecipeError: compilation for a CPU without a C++ compiler.
    """

    def loss(x: Tensor, c: Tensor | None, step: Tensor) -> ELBO:
        return cast(ELBO, model.objective(model, x, c, step))

    def seeded_loss(x: Tensor, c: Tensor | None, step: Tensor) -> ELBO:
        with noise:
            return loss(x, c, step)

    if not stage.compile:
        return seeded_loss
    if device.type == "cpu":
        require_compiler()
    graphs = stage.compile == "reduce-overhead" and device.type == "cuda"
    options: dict[str, str | int | bool | Callable[..., object]] = {
        "fallback_random": True,
        "triton.cudagraphs": graphs,
    }
    compiled = cast(Loss, torch.compile(loss, dynamic=False, options=options))

    def call(x: Tensor, c: Tensor | None, step: Tensor) -> ELBO:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return noise.process_wide(lambda: compiled(x, c, step), device)

    return call


@contextmanager
def memory_format(model: VAE, stage: Stage) -> Iterator[None]:
    """Stores convolution weights channels last for the block if the stage sets it."""
    if stage.channels_last:
        restride(model, torch.channels_last)
    try:
        yield
    finally:
        if stage.channels_last:
            restride(model, torch.contiguous_format)


def restride(model: VAE, layout: torch.memory_format) -> None:
    """Changes the layout of every four-dimensional parameter, in place."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def require_compiler() -> None:
    """Raises RecipeError unless there is a C++ compiler."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    if not any(name and shutil.which(name) for name in names):
        raise RecipeError(
            "train.compile needs a C++ compiler on a CPU, and none of CXX, g++ and clang++ was found. Install one "
            "(apt-get install g++), or remove the key: it gains little on a CPU."
        )
