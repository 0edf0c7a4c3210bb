"""Copies of modules around the same tensors, and whether a module is trained."""

from copy import copy

from torch import nn


def is_frozen(part: nn.Module) -> bool:
    """Returns whether a part has parameters and none of them is trained."""
    flags = (parameter.requires_grad for parameter in part.parameters())
    return next(flags, None) is False and not any(flags)


def shallow_copy(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """Returns a new module, with new submodules, around the same tensors; `made`: the copies so far, by original."""
    if module not in made:
        made[module] = twin = copy(module)
        for name, value in vars(module).items():
            if isinstance(value, dict | list | set):  # hooks, parameters, buffers and the user's own
                twin.__dict__[name] = copy(value)
        for name, each in module._modules.items():
            twin._modules[name] = None if each is None else shallow_copy(each, made)
    return made[module]
