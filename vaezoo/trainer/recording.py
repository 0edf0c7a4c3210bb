"""What a function does, as a flat list of tensor operations that can be called again with other inputs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["CannotRecord", "record"]

aten = torch.ops.aten
# Methods that take the same arguments as the operation of their name: called through torch's own parser they cost half.
METHODS = frozenset(
    (
        *("abs", "add", "clamp", "div", "exp", "expand", "log", "mean", "mm", "mul", "mul_", "neg", "pow", "relu"),
        *("sigmoid", "sigmoid_", "squeeze", "sub", "sub_", "sum", "t", "tanh", "unbind", "unsqueeze", "view"),
    )
)

READERS = (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.data_ptr)

Outputs = Sequence[Tensor | None]


class CannotRecord(Exception):
    """A function does what tensor operations alone do not tell."""


def record(
    function: Callable[..., Outputs], inputs: Sequence[Tensor], most: int = 256 << 20
) -> Callable[..., list[Tensor | None]]:
    """Returns a function of the same inputs that does what `function` does with these, without autograd.

    Tensors that are no inputs, such as parameters, are read where they are now; views of them are taken once. Gradients
    that `function` takes are operations like others. Noise is drawn anew each time.

    Args:
        function: takes tensors to tensors; it is called once.
        inputs: what it is called with.
        most: how many bytes of tensors it may make; they are kept until it has returned.

    Raises:
        CannotRecord: `function` looks at the values of tensors, or at how many values fulfil a condition, or makes
            more tensors.
    """
    recorder = Recorder(inputs, most)
    with recorder, Watch():
        outputs = function(*inputs)
    return recorder.finish(outputs)


class Watch(TorchFunctionMode):
    """Refuses what reads values without an operation."""

    def __torch_function__(
        self,
        func: Any,  # as torch declares it
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Calls a function of torch."""
        if func in READERS:
            raise CannotRecord(f"Tensor.{func.__name__} looks at the values of tensors")
        return func(*args, **(kwargs or {}))


class Recorder(TorchDispatchMode):
    """Notes every operation that is called in its context, those of autograd's backward pass included."""

    def __init__(self, inputs: Sequence[Tensor], most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own has no types
        self._most = most
        self._graph = fx.Graph()
        self._nodes: dict[int, fx.Node] = {}
        self._kept: list[Tensor] = []  # as long as they live, no other tensor has their id
        self._bytes = 0
        self._constants: list[Tensor] = []
        self._constant: set[int] = set()
        self._origins: dict[int, Tensor] = {}  # of views
        for number, tensor in enumerate(inputs):
            self._last = self._graph.placeholder(f"given_{number}")
            self._bind(tensor, self._last)

    def __torch_dispatch__(
        self,
        func: Any,  # an OpOverload; torch declares it so
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Calls an operation and notes it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.is_view and self._views(result, args[0]):
            return result
        check(func, args, result)
        self._count(result)
        node = self._graph.call_function(func, map_aggregate(args, self._known), map_aggregate(kwargs, self._known))
        if isinstance(result, Tensor):
            self._bind(result, node)
        else:
            for place, each in enumerate(result):
                if isinstance(each, Tensor):
                    self._bind(each, self._graph.call_function(operator.getitem, (node, place)))
        return result

    def finish(self, outputs: Outputs) -> Callable[..., list[Tensor | None]]:
        """Returns what was noted as a function of the inputs alone."""
        self._graph.output(map_aggregate(list(outputs), self._known))
        self._graph.eliminate_dead_code()
        for node in self._graph.nodes:
            name = getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
            plain = name in METHODS and isinstance(node.args[0], fx.Node) and "out" not in node.kwargs
            if plain and node.target.namespace == "aten":
                node.target = getattr(Tensor, name)
        forward, constants = fx.GraphModule(nn.Module(), self._graph).forward, tuple(self._constants)

        def again(*inputs: Tensor) -> list[Tensor | None]:
            with torch.no_grad():
                values: list[Tensor | None] = forward(*inputs, *constants)
            return values

        return again

    def _views(self, result: object, tensor: Tensor) -> bool:
        """Says whether a view needs no operation: of what is read where it is, or of just what another tensor shows."""
        origin: Tensor | None = tensor
        if id(tensor) not in self._nodes or id(tensor) in self._constant:
            return True
        if not isinstance(result, Tensor):
            return False
        while origin is not None and place(origin) != place(result):
            origin = self._origins.get(id(origin))
        if origin is not None:
            self._bind(result, self._nodes[id(origin)])
        self._origins[id(result)] = tensor
        return origin is not None

    def _count(self, result: Tensor | Sequence[Tensor | None]) -> None:
        new = [result] if isinstance(result, Tensor) else [each for each in result if each is not None]
        self._bytes += sum(each.nbytes for each in new if each._base is None)
        if self._bytes > self._most:
            raise CannotRecord(f"a pass makes tensors of more than {self._most >> 20} MiB")

    def _bind(self, tensor: Tensor, node: fx.Node) -> None:
        self._nodes[id(tensor)] = node
        self._kept.append(tensor)

    def _known(self, value: Any) -> Any:  # whatever operations take
        """Returns the node of a tensor; one that is not known yet is read where it is."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._nodes:
            with self._graph.inserting_after(self._last):
                self._last = self._graph.placeholder(f"constant_{len(self._constants)}")
            self._bind(value, self._last)
            self._constants.append(value)
            self._constant.add(id(value))
        return self._nodes[id(value)]


def place(tensor: Tensor) -> tuple[object, ...]:
    """Returns where in memory which values of a tensor are."""
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def check(func: Any, args: tuple[Any, ...], result: object) -> None:  # as torch declares operations
    """Raises CannotRecord where Python learns more from an operation than a tensor whose shape it knew."""
    if isinstance(result, tuple | list) and all(each is None or isinstance(each, Tensor) for each in result):
        return
    if not isinstance(result, Tensor):
        raise CannotRecord(f"{func} looks at the values of tensors")
    if torch.Tag.dynamic_output_shape in func.tags:
        by_number = func is aten.index.Tensor and all(each is None or each.dtype == torch.int64 for each in args[1])
        all_counted = func is aten.bincount.default and args[1:] == (None, len(result))
        if not (by_number or all_counted):
            raise CannotRecord(f"the result of {func} has a shape that depends on values")
