"""Seeding that leaves all process-wide random states unchanged."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional, init
from torch.overrides import TorchFunctionMode

from vaezoo.core.checks import whole_seed
from vaezoo.errors import ConfigError

Function = Callable[..., Any]  # Any: torch's functions
R = TypeVar("R")

IN_PLACE = ("bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_", "random_", "uniform_")
WITH_GENERATOR: set[Function] = {
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli, torch.binomial),
    *(torch.multinomial, torch.poisson, torch._standard_gamma, torch._sample_dirichlet),
    *(getattr(Tensor, name) for name in (*IN_PLACE, "bernoulli", "multinomial")),
    *(init.normal_, init.uniform_, init.kaiming_uniform_),  # the others are composed of tensor methods
}
LIKE: dict[Function, str] = {torch.rand_like: "uniform_", torch.randn_like: "normal_", torch.randint_like: "random_"}
WITHOUT_GENERATOR: set[Function] = {
    *(functional.dropout1d, functional.dropout2d, functional.dropout3d, functional.alpha_dropout),
    *(functional.feature_alpha_dropout, functional.rrelu, functional.rrelu_),
    *(functional.multi_head_attention_forward, functional.scaled_dot_product_attention),
    *(getattr(torch, name + end) for name in ("dropout", "feature_dropout", "alpha_dropout") for end in ("", "_")),
    *(torch.native_dropout, torch.rrelu, torch.rrelu_, torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu),
}
FORK = threading.RLock()


def seeded(seed: int | None, generator: torch.Generator | None = None) -> AbstractContextManager[object]:
    """Returns a context in which this thread's torch functions draw from generators seeded with `seed`; None: none.

    With a `generator` they draw from it instead, and advance it.

    Each device has a generator of its own, made when it is first needed; the draws are those after
    `torch.manual_seed(seed)`. Process-wide random states are neither read nor changed, so threads may run it at the
    same time. Exceptions: functions without a generator argument (dropout of whole channels or within attention and
    recurrent layers) borrow the process-wide state under a lock; code outside torch's Python functions (compiled
    graphs, custom operators) draws from the caller's state; and `torch.utils.checkpoint` repeats no draw.

    Raises:
        ConfigError: a seed that is no whole number of 64 bits, both a seed and a generator, or another type.
    """
    if generator is not None:
        if seed is not None:
            raise ConfigError("Got a seed and a generator; expected one of them. Leave one out.")
        if not isinstance(generator, torch.Generator):
            raise ConfigError(f"Got a generator of type {type(generator).__name__}; expected a torch.Generator.")
        return Seeded(0, generator)
    return nullcontext() if seed is None else Seeded(whole_seed(seed))


class Seeded(TorchFunctionMode):
    """The context of `seeded`: passes a generator to every function that draws. Modes are thread-local."""

    def __init__(self, seed: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.seed, self.given = seed, generator
        self.generators = {} if generator is None else {torch.empty(0, device=generator.device).device: generator}

    def __torch_function__(
        self, func: Function, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        """Returns what `func` returns, with this context's generator in place of the process-wide one."""
        if func not in INTERCEPTED:  # first, since it is most of them
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        if kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        device = kwargs.get("device")
        if device is None:
            tensors = (each.device for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
            device = next(tensors, None) or torch.get_default_device()
        generator = self._generator(device)
        if func in WITHOUT_GENERATOR:
            if generator is None or not kwargs.get("training", True):
                return func(*args, **kwargs)
            return forked(generator, lambda: func(*args, **kwargs))
        if func in OURS:
            return OURS[func](generator, *args, **kwargs)
        if func not in LIKE:
            return func(*args, **{**kwargs, "generator": generator})
        bounds = [*args[1:], *(kwargs[name] for name in ("low", "high") if name in kwargs)]
        options = {key: each for key, each in kwargs.items() if key not in ("low", "high")}
        with torch.no_grad():  # older torch has no generator argument here
            return getattr(torch.empty_like(*args[:1], **options), LIKE[func])(*bounds, generator=generator)

    def reseed(self, seed: int) -> None:
        """Seeds the generators of all devices anew."""
        self.seed = seed
        for generator in self.generators.values():
            generator.manual_seed(seed)

    def process_wide(self, function: Callable[[], R], device: torch.device) -> R:
        """Returns what `function` returns while the process-wide states are those of this context; see `seeded`."""
        for each in {torch.device("cpu"), device}:
            generator = self._generator(each)
            if generator is not None:
                function = partial(forked, generator, function)
        return function()

    def _generator(self, device: torch.device | str | int) -> torch.Generator | None:
        """Returns the generator of `device`; None for the meta device, on which nothing is drawn."""
        device = torch.empty(0, device=device).device  # "cuda" is one of the numbered devices
        if device.type != "meta" and device not in self.generators:
            if self.given is not None:
                raise ConfigError(f"Got a generator on {self.given.device}; expected one on {device}. Make it there.")
            self.generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self.generators.get(device)


def dropout(
    generator: torch.Generator | None, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Returns `functional.dropout`, drawn as torch does on a CPU."""
    if not training or not 0.0 < p < 1.0 or x.is_meta:  # nothing is drawn
        return functional.dropout(x, p, training, inplace)
    kept = torch.empty_like(x).bernoulli_(1.0 - p, generator=generator).div_(1.0 - p)
    return x.mul_(kept) if inplace else x * kept


def gumbel_softmax(
    generator: torch.Generator | None,
    logits: Tensor,
    tau: float = 1.0,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
) -> Tensor:
    """Returns `functional.gumbel_softmax`; `eps` has no effect there either."""
    noise = torch.empty_like(logits, memory_format=torch.legacy_contiguous_format).exponential_(generator=generator)
    soft = ((logits - noise.log()) / tau).softmax(dim)
    if not hard:
        return soft
    return torch.zeros_like(soft).scatter_(dim, soft.argmax(dim, keepdim=True), 1.0) - soft.detach() + soft


OURS: dict[Function, Function] = {functional.dropout: dropout, functional.gumbel_softmax: gumbel_softmax}
INTERCEPTED = WITH_GENERATOR | LIKE.keys() | WITHOUT_GENERATOR | OURS.keys()


def forked(generator: torch.Generator, function: Callable[[], R]) -> R:
    """Returns what `function` returns while the process-wide state is that of `generator`, then restores it."""
    device = generator.device
    module = torch if device.type == "cpu" else torch.get_device_module(device)
    which = (device,) if device.type == "cuda" else ()
    with FORK:
        state = module.get_rng_state(*which)
        module.set_rng_state(generator.get_state(), *which)
        try:
            return function()
        finally:
            generator.set_state(module.get_rng_state(*which))
            module.set_rng_state(state, *which)
