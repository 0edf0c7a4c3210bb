"""One optimizer per player: how it is made, its learning rate, its state as plain tensors."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from vaezoo.recipe import Stage

__all__ = ["learning_rate", "make_optimizer", "pack", "unpack", "update", "zero_denormals"]

# Below these, Adam's moments are zeroed: what they would still move a weight by is under 1e-17 of the learning rate.
TINY = {"exp_avg": 1e-25, "exp_avg_sq": 1e-35}


def without_compiler(kind: type[torch.optim.Adam]) -> type[torch.optim.Adam]:
    """Returns a class of optimizers whose methods do not import torch's compiler, which takes more than a second.

    torch wraps them so that they are never compiled themselves; nothing here compiles an optimizer.
    """
    wrapped = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    return type(kind.__name__, (kind,), {name: inspect.unwrap(getattr(kind, name)) for name in wrapped})


KINDS = {"adam": without_compiler(torch.optim.Adam), "adamw": without_compiler(torch.optim.AdamW)}


def make_optimizer(stage: Stage, parameters: Sequence[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """Returns a stage's optimizer of one player's parameters; fused where torch has it, several times faster."""
    return KINDS[stage.optimizer](
        parameters,
        lr=stage.learning_rate,
        betas=stage.betas,
        eps=stage.epsilon,
        weight_decay=stage.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )


def update(optimizer: torch.optim.Optimizer) -> None:
    """Takes an optimizer's step; on a CPU without what `step` does around it in Python, half of its time here."""
    group = optimizer.param_groups[0]
    learning = [parameter for parameter in group["params"] if parameter.grad is not None]
    if getattr(optimizer, "found_inf", None) is not None or any(each.device.type != "cpu" for each in learning):
        optimizer.step()
        return
    states = [optimizer.state[parameter] or begin(optimizer.state[parameter], parameter) for parameter in learning]
    with torch.no_grad():
        adam(
            learning,
            [parameter.grad for parameter in learning],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            max_exp_avg_sqs=[],
            state_steps=[state["step"] for state in states],
            fused=True,
            decoupled_weight_decay=isinstance(optimizer, torch.optim.AdamW),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def begin(state: dict[str, Tensor], parameter: Tensor) -> dict[str, Tensor]:
    """Returns Adam's `state` of a parameter (any shape), filled with what it is before the first step."""
    moments = (torch.zeros_like(parameter, memory_format=torch.preserve_format) for _ in range(2))
    state.update(zip(("step", "exp_avg", "exp_avg_sq"), (torch.zeros(()), *moments), strict=True))
    return state


def learning_rate(stage: Stage, player: str, done: int, steps: int) -> float:
    """Returns a player's learning rate after `done` of `steps` steps.

    It rises linearly over `stage.warmup` steps, and by `schedule = "cosine"` it falls to `stage.final_learning_rate`,
    which is scaled alike for a player with a rate of its own.
    """
    base = stage.learning_rates.get(player, stage.learning_rate)
    share = min(1.0, (done + 1) / stage.warmup) if stage.warmup else 1.0
    if stage.schedule == "cosine":
        low = stage.final_learning_rate * base / stage.learning_rate
        return share * (low + (base - low) * 0.5 * (1.0 + math.cos(math.pi * done / steps)))
    return share * base


def zero_denormals(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Zeroes the denormal tails of Adam's moments.

    Weights of pixels that are always black get no gradient; their moments decay into denormal numbers, which a CPU
    handles tens of times slower.
    """
    for optimizer in optimizers:
        for state in optimizer.state.values():
            for key, limit in TINY.items():
                state[key].copy_(nn.functional.hardshrink(state[key], limit))


def pack(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Returns every optimizer's state as flat tensors, `player/index/key`."""
    return {
        f"{player}/{index}/{key}": value.detach()
        for player, optimizer in optimizers.items()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def unpack(optimizers: Mapping[str, torch.optim.Optimizer], flat: Mapping[str, Tensor]) -> None:
    """Puts the tensors of `pack` back."""
    for player, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in flat.items():
            owner, index, name = key.rsplit("/", 2)
            if owner == player:
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        for parameter, own in optimizer.state.items():
            for name, value in own.items():
                if value.shape == parameter.shape:
                    # The fused kernel reads all of them in the order of memory.
                    own[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)
