"""How a stage lays out and compiles the networks; after it they are as they were."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vaezoo.core import VAE
from vaezoo.errors import RecipeError
from vaezoo.recipe import Stage

__all__ = ["prepared_networks"]


@contextmanager
def prepared_networks(model: VAE, stage: Stage, device: torch.device) -> Iterator[None]:
    """Compiles the networks of a model and stores their convolutions channels last, as a stage says, for the block.

    Raises:
        RecipeError: networks are to be compiled for a CPU, and there is no C++ compiler.
    """
    compiled = networks(model) if stage.compile else []
    if compiled and device.type == "cpu":
        require_compiler()
    if stage.channels_last:
        restride(model, torch.channels_last)
    for network in compiled:
        network.compile(dynamic=False)
    try:
        yield
    finally:
        for network in compiled:
            vars(network).pop("_compiled_call_impl", None)
        if stage.channels_last:
            restride(model, torch.contiguous_format)


def networks(model: VAE) -> list[nn.Module]:
    """Returns what maps tensors to tensors in the parts of a model: each part's attribute `network`."""
    found = (getattr(part, "network", None) for part in (model.encoder, model.decoder, model.prior))
    return [network for network in found if isinstance(network, nn.Module)]


def restride(model: VAE, memory_format: torch.memory_format) -> None:
    """Changes the layout of every four-dimensional parameter, in place."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


def require_compiler() -> None:
    """Raises RecipeError unless there is a C++ compiler."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    if not any(name and shutil.which(name) for name in names):
        raise RecipeError(
            "train.compile = true needs a C++ compiler on a CPU, and none of CXX, g++ and clang++ was found. Install "
            "one (apt-get install g++), or leave compile out: it gains little on a CPU."
        )
