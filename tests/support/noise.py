"""Noise that is equal for all examples, so that a batch and its single examples can be compared exactly."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class SharedNoise(TorchDispatchMode):
    """A mode in which a draw depends on the number of draws before it, and is equal along the batch dimension."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch, self.draws = batch, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if (
            torch.Tag.nondeterministic_seeded not in func.tags or "attention" in func._schema.name
        ):  # attention without dropout is deterministic
            return func(*args, **kwargs)
        self.draws += 1
        generator = torch.Generator().manual_seed(self.draws)
        name = func._schema.name.removeprefix("aten::")
        if name in INVERSES:
            return INVERSES[name](self, generator, *args)
        if isinstance(args[0], Tensor):
            return self._like(func, name, generator, args, kwargs)
        sizes = next(arg for arg in args if isinstance(arg, list | tuple))
        once = [self._once(arg) if arg is sizes else arg for arg in args]
        torch.default_generator.manual_seed(self.draws)
        return func(*once, **kwargs).expand(*sizes).contiguous()

    def _once(self, shape: Any) -> list[int]:
        return [1 if size == self.batch else size for size in shape]

    def _like(self, func: Any, name: str, generator: torch.Generator, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        target = args[0]
        torch.default_generator.manual_seed(self.draws)
        drawn: Tensor = func(target.new_zeros(self._once(target.shape)), *args[1:], **kwargs)
        return target.copy_(drawn.expand_as(target)) if name.endswith("_") else drawn.expand_as(target).contiguous()

    def uniform(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.rand(self._once(like.shape), generator=generator, dtype=like.dtype).expand_as(like)


def bernoulli(mode: SharedNoise, generator: torch.Generator, p: Tensor, *_: object) -> Tensor:
    return (mode.uniform(p, generator) < p).to(p.dtype)


def normal(mode: SharedNoise, generator: torch.Generator, mean: Tensor | float, std: Tensor | float, *_: object) -> Any:
    like = mean if isinstance(mean, Tensor) else std
    assert isinstance(like, Tensor)
    noise = torch.randn(mode._once(like.shape), generator=generator, dtype=like.dtype)
    return mean + std * noise.expand_as(like)


def multinomial(mode: SharedNoise, generator: torch.Generator, p: Tensor, samples: int, *_: object) -> Tensor:
    """Samples by the inverse of the distribution function; rows (B·N, V), the examples outermost."""
    u = torch.rand(len(p) // mode.batch, samples, generator=generator, dtype=p.dtype).repeat(mode.batch, 1)
    return torch.searchsorted(p.cumsum(-1), u * p.sum(-1, keepdim=True)).clamp(max=p.shape[-1] - 1)


INVERSES: dict[str, Callable[..., Any]] = {"bernoulli": bernoulli, "normal": normal, "multinomial": multinomial}
