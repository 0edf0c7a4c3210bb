"""Modules that share their tensors."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

from torch import Tensor, nn

Convert = Callable[[Tensor], Tensor]  # what `nn.Module._apply` is given


def second(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """Returns a second module, with second submodules, around the same parameters and buffers.

    Args:
        module: is left unchanged.
        made: the second modules so far; one that occurs twice gets one.
    """
    if module not in made:
        made[module] = twin = copy(module)
        for name, value in vars(module).items():
            if isinstance(value, dict | list | set):  # hooks, parameters, buffers and the user's own
                twin.__dict__[name] = copy(value)
        twin._modules = {name: None if each is None else second(each, made) for name, each in module._modules.items()}
    return made[module]


def unshare(module: nn.Module, convert: Convert) -> None:
    """Gives a module parameters of its own where `convert` changes their type or device."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for each in module.modules():
        for name, parameter in each._parameters.items():
            if parameter is None:
                continue
            if parameter not in made:
                probe = convert(parameter.detach()[:0] if parameter.dim() else parameter.detach())
                changes = probe.dtype != parameter.dtype or probe.device != parameter.device
                own = nn.Parameter(parameter.detach(), parameter.requires_grad)
                made[parameter] = own if changes else parameter
            each._parameters[name] = made[parameter]
