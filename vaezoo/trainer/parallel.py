"""Engines of a stage: how its gradients are computed, averaged over the processes of a run, and where tensors lie.

`Engine` serves a single process, `Replicated` uses `DistributedDataParallel` (DDP), `Sharded` uses FSDP2
(`torch.distributed.fsdp.fully_shard`). In all of them a player's loss has a backward pass of its own with respect to
the parameters of that player alone.

DDP expects one module whose forward pass computes the loss, and one backward pass for each forward pass; objectives
call the parts in any order, and have several players. `Replicated` therefore has one DDP module for each player, around
its parameters alone, through which only the loss passes: DDP finds the parameters that the loss depends on in its
graph, and averages their gradients while the backward pass of that player runs.

FSDP2 replaces the parameters of modules. `Sharded` therefore trains a copy of the model (`VAE.replace`), and returns
the weights to the model at the end of a stage. The layers of a `torch.nn.Sequential` in encoder, decoder and prior with
at least `SMALLEST_LAYER` parameters are gathered one by one when they are called; all other parameters, such as those
of critics, are gathered for a whole pass, since objectives may read or differentiate them at any place of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vaezoo.core import ELBO, PARTS, VAE, as_part
from vaezoo.errors import ConfigError
from vaezoo.recipe import Stage
from vaezoo.trainer.processes import Processes

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

SMALLEST_LAYER = 2**18  # parameters of a layer that is gathered by itself


class Engine:
    """The engine of a single process, and the base of the others.

    Args:
        model: the model to train.

    Attributes:
        model: the model whose parameters the optimizers change; the given one, except for `Sharded`.
        players: the trainable parameters of each player that has any.
    """

    #: whether a pass is a collective operation, so that all processes must make equally many passes
    collective = False

    def __init__(self, model: VAE) -> None:
        self.model = model
        self.players = {name: own for name, own in model.players().items() if own}

    def run(self, function: Callable[[], ELBO]) -> ELBO:
        """Returns the result of a function that uses the parameters of `model`."""
        return function()

    def measure(self, x: Tensor, c: Tensor | None) -> ELBO:
        """Returns the ELBO of `x` (B, *shape) after the end of all schedules."""
        return self.run(lambda: cast(ELBO, self.model.objective(self.model, x, c, None)))

    def backward(self, player: str, loss: Tensor, *, keep: bool, last: bool) -> None:
        """Adds the gradient of a player's loss, 0-dim, to its parameters.

        Args:
            player: one of `players`.
            loss: its mean loss over a micro-batch, divided by the number of micro-batches.
            keep: whether the graph is used again, by another player.
            last: whether this is the last micro-batch of the step, after which gradients are means over all processes.
        """
        # A single player owns all trainable parameters; without a list of them the pass is faster.
        loss.backward(inputs=self.inputs(player) if len(self.players) > 1 else None, retain_graph=keep)

    def inputs(self, player: str) -> list[nn.Parameter]:
        """Returns the parameters of a player that are in the graph of its loss."""
        return self.players[player]

    def gathered(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Returns whole tensors to write, in the first process; all processes call it."""
        return tensors

    def placed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns whole tensors, named as in the state of `model`, as they lie in it."""
        return dict(tensors)

    def finish(self) -> None:
        """Returns the weights to the given model; all processes call it."""


class Passing(nn.Module):
    """A module with the parameters of a player, whose forward pass returns its input, a loss."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__()
        self.own = nn.ParameterList(parameters)
        # DDP searches for parameters without a gradient, and warns where it finds none. This one never has one.
        self.unused = nn.Parameter(parameters[0].new_zeros(1))

    def forward(self, loss: Tensor) -> Tensor:
        """Returns `loss`."""
        return loss


class Replicated(Engine):
    """The engine of processes that each hold the whole model: DDP, once for each player."""

    def __init__(self, model: VAE) -> None:
        super().__init__(model)
        self._reducers = {
            name: nn.parallel.DistributedDataParallel(
                Passing(own), find_unused_parameters=True, gradient_as_bucket_view=True
            )
            for name, own in self.players.items()
        }

    def backward(self, player: str, loss: Tensor, *, keep: bool, last: bool) -> None:
        """Adds a gradient as `Engine` does; in the last micro-batch DDP averages the sums of all micro-batches."""
        super().backward(player, self._reducers[player](loss) if last else loss, keep=keep, last=last)


class Whole(nn.Module):
    """The root module of FSDP: its forward pass is any function that uses the model's parameters."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Returns the losses of a function, on which FSDP registers hooks for the backward passes."""
        return {name: without_base(value) for name, value in function().items()}


class Sharded(Engine):
    """The engine of processes that each hold a share of parameters, gradients, averages and optimizer state: FSDP2.

    The parameters of the given model are empty until `finish`.

    Args:
        model: the model to train.
        device: its device.
        ranks: the processes.
    """

    collective = True

    def __init__(self, model: VAE, device: torch.device, ranks: Processes) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        twin = model.replace()
        twin.train(model.training)
        self._given, self._first = model, ranks.first
        self._mesh = mesh = init_device_mesh(device.type, (ranks.size,))
        for layer in layers_of(twin):
            layer.register_forward_hook(lambda _, __, output: without_base(output))  # before the hook of FSDP
            fully_shard(layer, mesh=mesh)
        self._root = fully_shard(Whole(twin), mesh=mesh, reshard_after_forward=True)
        for name, parameter in model.named_parameters():
            # The copy uses frozen networks of penalties, which an objective refers to, as they are.
            if parameter.requires_grad or not name.startswith("objective."):
                parameter.data = parameter.data.new_empty(0)
        self._leaves = self._graph_leaves()
        super().__init__(twin)

    def run(self, function: Callable[[], ELBO]) -> ELBO:
        """Returns the result of a function; parameters are gathered while it runs."""
        found = list[ELBO]()

        def losses() -> Mapping[str, Tensor]:
            found.append(function())
            return found[0].losses

        hooked = cast(nn.Module, self._root)(losses)
        return replace(found[0], losses=hooked)

    def inputs(self, player: str) -> list[nn.Parameter]:
        """Returns the gathered parameters of a player; FSDP averages their gradients after each backward pass."""
        return [self._leaves[parameter] for parameter in self.players[player]]

    def gathered(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Returns whole tensors on the CPU in the first process, none in others; one tensor at a time is gathered."""
        return {name: value.cpu() for name, value in whole_tensors(tensors) if self._first}

    def placed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns this process's shares of whole tensors that have the shape of the sharded tensor of the same name."""
        own = self.model.state_dict()
        return {name: as_sharded(value, own[name]) if name in own else value for name, value in tensors.items()}

    def finish(self) -> None:
        """Returns the weights to the given model."""
        with torch.no_grad():
            for given, own in zip(self._given.parameters(), self.model.parameters(), strict=True):
                given.data = whole(own.detach())
            for given_buffer, own_buffer in zip(self._given.buffers(), self.model.buffers(), strict=True):
                given_buffer.copy_(own_buffer)
        # Caches of DTensor keep the mesh, and in recent versions of torch a mesh keeps its group, with gloo's threads.
        getattr(self._mesh, "_pg_registry", {}).clear()

    def _graph_leaves(self) -> dict[nn.Parameter, nn.Parameter]:
        """Returns the gathered parameter, a leaf of each graph, of each sharded one; their memory is freed again."""
        found: dict[nn.Parameter, nn.Parameter] = {}
        modules = [module for module in cast(nn.Module, self._root).modules() if hasattr(module, "unshard")]
        for module in cast("list[FSDPModule]", modules):
            sharded = dict(cast(nn.Module, module).named_parameters())
            module.unshard()
            gathered = dict(cast(nn.Module, module).named_parameters())
            found |= {sharded[name]: each for name, each in gathered.items() if each is not sharded[name]}
            module.reshard()
        return found


def engine_of(model: VAE, stage: Stage, device: torch.device, ranks: Processes) -> Engine:
    """Returns the engine of a stage, of one process or as `stage.parallel` states."""
    if ranks.size == 1:
        return Engine(model)
    return Sharded(model, device, ranks) if stage.parallel == "fsdp" else Replicated(model)


def layers_of(model: VAE) -> Iterator[nn.Module]:
    """Yields the layers that are gathered one by one; none if a part reads or differentiates whole networks."""
    if any(as_part(model.get_submodule(name)).needs_whole_parameters for name in PARTS):
        return
    last = as_part(model.decoder).last_layer()
    for part in (model.encoder, model.decoder, model.prior):
        containers = [module for module in part.modules() if isinstance(module, nn.Sequential)]
        inner = {each for container in containers for child in container for each in child.modules()}
        for layer in (layer for container in containers if container not in inner for layer in container):
            large = sum(parameter.numel() for parameter in layer.parameters()) >= SMALLEST_LAYER
            if large and all(each is not last for each in layer.modules()):
                yield layer


def check_shardable(model: VAE) -> None:
    """Raises ConfigError for a parameter without dimensions, a penalty that learns, or a torch without FSDP2."""
    penalties: Mapping[str, tuple[float, object]] = getattr(model.objective, "penalties", {})
    for name, (_, penalty) in penalties.items():
        if isinstance(penalty, nn.Module) and any(each.requires_grad for each in penalty.parameters()):
            raise ConfigError(
                f"Got train.parallel = 'fsdp' and the penalty {name!r}, which has trainable parameters; expected "
                "frozen ones. Use train.parallel = 'ddp'."
            )
    scalars = [name for name, parameter in model.named_parameters() if not parameter.dim()]
    if scalars:
        raise ConfigError(
            f"Got train.parallel = 'fsdp' and parameters without dimensions ({', '.join(scalars[:3])}), which FSDP "
            "cannot shard; expected a model without them. Use train.parallel = 'ddp'."
        )
    try:
        from torch.distributed.fsdp import fully_shard  # noqa: F401  # torch 2.6
    except ImportError:
        raise ConfigError(
            f"Got train.parallel = 'fsdp' and torch {torch.__version__}, which lacks FSDP2; expected torch 2.6 or "
            "later. Upgrade it, or use train.parallel = 'ddp'."
        ) from None


def without_base(tensor: Tensor) -> Tensor:
    """Returns a tensor, copied if it is a view: hooks on a view, which FSDP uses, are lost where it is changed."""
    return tensor.clone() if tensor._is_view() else tensor


def whole(tensor: Tensor) -> Tensor:
    """Returns the whole of a tensor that may be sharded; all processes call it."""
    return cast("DTensor", tensor).full_tensor() if hasattr(tensor, "full_tensor") else tensor


def whole_tensors(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yields names and whole tensors in the order of names, which is the same in all processes; all of them call it.

    Tensors that were read from a file may have another order in each process.
    """
    for name in sorted(tensors):
        yield name, whole(tensors[name])


def local(tensor: Tensor) -> Tensor:
    """Returns this process's share of a tensor that may be sharded, in the same memory."""
    return cast("DTensor", tensor).to_local() if hasattr(tensor, "to_local") else tensor


def as_sharded(value: Tensor, like: Tensor) -> Tensor:
    """Returns this process's share of a whole tensor, if `like` is sharded and has its shape; else `value`."""
    if not hasattr(like, "device_mesh") or hasattr(value, "device_mesh") or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    given = cast("DTensor", like)
    return distribute_tensor(value.to(like.device), given.device_mesh, given.placements, src_data_rank=None)
