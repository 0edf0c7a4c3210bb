"""A context in which modules are evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Runs the block in eval mode and without gradients, then restores the mode of every submodule.

    Functions that measure or draw a model run in this context, so that they leave the model's mode as they found it.
    """
    training = [module for each in modules for module in each.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
