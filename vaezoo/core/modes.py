"""Inference mode and gradients of the public methods of a model."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from vaezoo.errors import ConfigError, shorten

A = ParamSpec("A")
R = TypeVar("R")

HELD: dict[int, int] = {}  # identities of modules that were in train mode, and the number of blocks of `evaluating`
LOCK = threading.Lock()


def outside_inference_mode() -> AbstractContextManager[object]:
    """Returns a context in which tensors may be differentiated, also inside `torch.inference_mode`.

    It leaves gradients as they were: not recorded inside `torch.inference_mode`.
    """
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return nullcontext()
    return _Outside()


class _Outside:
    """`torch.inference_mode(False)` without gradients."""

    def __enter__(self) -> None:
        self.contexts = torch.inference_mode(False), torch.no_grad()
        for each in self.contexts:
            each.__enter__()

    def __exit__(self, *error: object) -> None:
        for each in self.contexts[::-1]:
            each.__exit__(*error)  # torch has types for each argument


def differentiable(method: Callable[A, R]) -> Callable[A, R]:
    """Decorates a public method: it runs outside `torch.inference_mode`, on copies of tensors that were made inside.

    Hamiltonian dynamics and gradient penalties differentiate within a pass, which such tensors do not support.
    """

    @wraps(method)
    def run(*args: A.args, **kwargs: A.kwargs) -> R:
        if torch.compiler.is_compiling():
            return method(*args, **kwargs)
        with outside_inference_mode():
            own = [normal_tensor(each) for each in args]
            return method(*own, **{key: normal_tensor(each) for key, each in kwargs.items()})  # type: ignore[arg-type]

    return run


def learning(function: Callable[A, R]) -> Callable[A, R]:
    """Decorates a function that trains: it runs outside `torch.inference_mode`, and gradients are recorded."""

    @wraps(function)
    def run(*args: A.args, **kwargs: A.kwargs) -> R:
        with outside_inference_mode(), torch.enable_grad():
            return function(*args, **kwargs)

    return run


def normal_tensor(value: object) -> object:
    """Returns a copy of a tensor that was made in inference mode; other values unchanged."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def traced_gradient(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Returns the gradient of a scalar function at z, of the shape of z, in a graph of `torch.compile`.

    `torch.compile` traces functional gradients alone; outside it `torch.autograd.grad` is faster.

    Raises:
        ConfigError: `torch.export` is tracing, which supports no gradients inside a graph.
    """
    if getattr(torch.compiler, "is_exporting", lambda: False)():  # torch 2.7
        raise ConfigError(
            "Got a model that computes gradients inside a pass; torch.export expected one without. Export `decode`, "
            "use torch.compile, or export another variant."
        )
    return cast(Tensor, torch.func.grad(function)(z))


def recording(part: nn.Module, *inputs: Tensor | None) -> AbstractContextManager[object]:
    """Returns a context that records gradients where they are of use, and else none.

    They are if the part is in train mode, or if an input requires a gradient. In eval mode the results can thus be
    shown, stored and passed to numpy without `detach`. Inside `torch.no_grad` none are recorded.
    """
    useful = part.training or any(each is not None and each.requires_grad for each in inputs)
    return nullcontext() if useful else torch.no_grad()


def check_model(model: object) -> None:
    """Raises ConfigError for a name, or anything else that is no model, with what gives one."""
    if not isinstance(model, nn.Module):
        run = isinstance(getattr(model, "model", None), nn.Module)
        remedy = "Pass its attribute .model." if run else "Load it by its name or folder first: vaezoo.load(NAME)."
        raise ConfigError(f"Got {shorten(model)} as model; expected a vaezoo.VAE. {remedy}")


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Runs the block in eval mode and without gradients, then restores the mode of every submodule.

    Functions that measure or draw a model run in this context, so that they leave the model's mode as they found it.
    The last of several blocks of one model, nested or in threads, restores its mode.
    """
    for each in modules:
        check_model(each)
    with LOCK:
        training = [module for each in modules for module in each.modules() if module.training or id(module) in HELD]
        for module in training:
            HELD[id(module)] = HELD.get(id(module), 0) + 1
            module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        with LOCK:
            for module in training:
                HELD[id(module)] -= 1
                if not HELD[id(module)]:
                    del HELD[id(module)]
                    module.training = True
