"""Building modules whose parameters are replaced at once, without drawing their initial values."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.overrides import TorchFunctionMode

DRAWS = frozenset({"uniform_", "normal_", "kaiming_uniform_"})


class Undrawn(TorchFunctionMode):
    """A context in which this thread's draws of the values of parameters leave memory as it is.

    Weights of torch's linear and convolutional layers are then arbitrary and take no time; memory that is never written
    is not taken from the system. Every parameter must be replaced before the module is used. Other tensors, such as
    buffers that are not saved, are drawn as usual.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Returns the tensor itself for a draw, otherwise what `func` returns."""
        given = dict(kwargs or {})
        if getattr(func, "__name__", "") in DRAWS:
            tensor = args[0] if args else given["tensor"]
            if isinstance(tensor, torch.nn.Parameter):
                return tensor
        return func(*args, **given)
