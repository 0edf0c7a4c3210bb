"""`torch.compile` and `torch.export` of every variant's public methods."""

from collections.abc import Callable

import pytest
import torch
from support.cases import NAMES, Case, contexts_of, over
from torch import Tensor, nn

from vaezoo.core import VAE, center
from vaezoo.errors import ConfigError

CASES = [Case(name, context=contexts_of(name)[place % len(contexts_of(name))]) for place, name in enumerate(NAMES)]
DAILY = [case for case in CASES if case.variant in ("cvae", "vq-vae")]
#: variants that differentiate within a pass, and the methods that do
DIFFERENTIATE = {"hamiltonian-vae": {"encode", "reconstruct", "forward"}, "rae-gp": {"forward"}}


def decoded(model: VAE, x: Tensor, c: Tensor | None = None) -> Tensor:
    assert model.latent is not None
    return model.decode(x.new_ones(x.shape[0], *model.latent), c).mean


def report(model: VAE, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
    elbo = model(x, c)
    return elbo.distortion, elbo.rate, elbo.bound, *elbo.losses.values()


CALLS: dict[str, Callable[..., object]] = {
    "encode": lambda model, *given: center(model.encode(*given)),
    "decode": decoded,
    "reconstruct": lambda model, *given: model.reconstruct(*given),
    "forward": report,
}


class Call(nn.Module):
    """A module with one of the calls as `forward`."""

    def __init__(self, model: VAE, call: str) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self, *given: Tensor) -> object:
        return CALLS[self.call](self.model, *given)


def arguments(case: Case, count: int = 4) -> tuple[Tensor, ...]:
    return tuple(each for each in case.inputs(count) if each is not None)


def agree(case: Case, call: str, module: nn.Module, found: Callable[..., object]) -> None:
    given = arguments(case)
    torch.default_generator.manual_seed(0)
    wanted = module(*given)
    torch.default_generator.manual_seed(0)
    torch.testing.assert_close(found(*given), wanted, rtol=1e-4, atol=1e-4, msg=lambda text: f"{call}: {text}")


@over(CASES, DAILY)
@torch.no_grad()
def test_one_graph_has_the_results_of_the_model(case: Case) -> None:
    torch.compiler.reset()
    for call in CALLS:
        module = Call(case.build().eval(), call).eval()
        agree(case, call, module, torch.compile(module, fullgraph=True, backend="eager"))


@over(CASES, DAILY)
@torch.no_grad()
def test_exported_programs_have_the_results_of_the_model(case: Case) -> None:
    for call in CALLS:
        module = Call(case.build().eval(), call).eval()
        batch = torch.export.Dim("batch", min=2, max=64)
        shapes = (tuple({0: batch} for _ in arguments(case)),)
        dynamic = None if case.couples_examples else shapes
        if call in DIFFERENTIATE.get(case.variant, ()):
            with pytest.raises(ConfigError, match="gradients inside a pass"):
                torch.export.export(module, arguments(case), strict=False)
            continue
        program = torch.export.export(module, arguments(case), dynamic_shapes=dynamic, strict=False)
        agree(case, call, module, program.module())
        if dynamic is not None and call != "forward":
            other = arguments(case, 7)
            torch.testing.assert_close(program.module()(*other), module(*other), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_compiled_report_has_no_bound_for_examples_without_a_density() -> None:
    torch.compiler.reset()
    model, (x, _) = Case("vae").build().eval(), Case("vae").inputs(3)
    x[1] = 0.5
    compiled = torch.compile(Call(model, "forward").eval(), fullgraph=True, backend="eager")
    assert torch.isfinite(compiled(x)[2]).tolist() == [True, False, True]
