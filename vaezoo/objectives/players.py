"""Players: groups of parameters, each of which minimizes a loss of its own."""

from collections.abc import Mapping

from torch import nn

from vaezoo.core import Model


def players_of(model: Model, modules: Mapping[str, nn.Module | None], rest: str) -> dict[str, list[nn.Parameter]]:
    """Returns player -> its trainable parameters: those of its module, and for the player `rest` all others.

    A player whose module is None (a critic that was not saved) or frozen is left out.
    """
    own: dict[str, list[nn.Parameter]] = {}
    for name, module in modules.items():
        if module is not None and (trainable := [p for p in module.parameters() if p.requires_grad]):
            own[name] = trainable
    taken = {id(parameter) for parameters in own.values() for parameter in parameters}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    return {rest: others} | own
