"""One optimizer per player: construction, learning rate, state as plain tensors; averaged weights."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vaezoo.recipe import Stage
from vaezoo.trainer.parallel import as_sharded, local

# Below these, Adam's moments are zeroed: the updates they would still cause are under 1e-17 of the learning rate.
TINY = {"exp_avg": 1e-25, "exp_avg_sq": 1e-35}
EVERY = 10  # steps between two updates
KINDS: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


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


def learning_rate(stage: Stage, player: str, done: int, steps: int) -> float:
    """Returns a player's learning rate after `done` of `steps` steps.

    It rises linearly over `stage.warmup` steps; with `schedule = "cosine"` it then falls to
    `stage.final_learning_rate`, scaled in proportion for a player with a learning rate of its own.
    """
    base = stage.learning_rates.get(player, stage.learning_rate)
    share = min(1.0, (done + 1) / stage.warmup) if stage.warmup else 1.0
    if stage.schedule == "cosine":
        low = stage.final_learning_rate * base / stage.learning_rate
        return share * (low + (base - low) * 0.5 * (1.0 + math.cos(math.pi * done / steps)))
    return share * base


def zero_denormals(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Zeroes the denormal tails of Adam's moments.

    Weights of pixels that are always black have zero gradients; their moments decay into denormal numbers, which many
    CPUs process tens of times slower.
    """
    for optimizer in optimizers:
        for state in optimizer.state.values():
            for key, limit in TINY.items():
                own = local(state[key])
                own.copy_(nn.functional.hardshrink(own, limit))


def pack(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Returns every optimizer's state as flat tensors, `player/index/key`."""
    return {
        f"{player}/{index}/{key}": value.detach()
        for player, optimizer in optimizers.items()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def unpack(optimizers: Mapping[str, torch.optim.Optimizer], flat: Mapping[str, Tensor]) -> None:
    """Restores the tensors that `pack` returned."""
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
                    # Fused kernels require the parameter's memory layout.
                    own[name] = torch.empty_like(parameter, requires_grad=False).copy_(as_sharded(value, parameter))


class Averages:
    """Exponentially averaged parameters, updated every `EVERY` steps; buffers are not averaged.

    Args:
        model: the model whose parameters are averaged.
        decay: of the average at each step, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay**EVERY
        own = {name: parameter.detach() for name, parameter in model.named_parameters()}
        self.values = {name: value.clone() for name, value in own.items()}
        self._pairs = list(zip(self.values.values(), own.values(), strict=True))

    def update(self, step: int) -> None:
        """Updates the averages after every `EVERY`th step; early updates use a larger weight (bias correction)."""
        if step % EVERY == 0:
            share = max(1.0 - self.decay, 1.0 / (1 + step // EVERY))
            for average, own in self._pairs:
                average.lerp_(own, share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges the averages and the model's parameters, in place."""
        for average, own in self._pairs:
            before = average.clone()
            average.copy_(own)
            own.copy_(before)
