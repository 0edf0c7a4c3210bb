"""A pass from a list of operations gives what the model itself gives, bit for bit, or is not used."""

import math
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from unittest import TestCase

import pytest
import torch
from msgspec import structs
from support.cases import COMPOSED
from support.runs import equal, fit, small_recipe, trainer
from torch import Tensor, nn

from vaezoo.core import VAE
from vaezoo.errors import InterruptedTrainingError, NonFiniteLossError
from vaezoo.quantization import CodebookEncoder
from vaezoo.recipe import Recipe
from vaezoo.registry import variants, with_requirements
from vaezoo.trainer import Run, Trainer, passes
from vaezoo.trainer import stage_run as stage
from vaezoo.trainer.batches import BatchStream
from vaezoo.trainer.capture import capture
from vaezoo.trainer.optimizers import make_optimizer, pack, update
from vaezoo.trainer.recording import CannotRecord, record

GRADIENTS = ("sticking-the-landing", "doubly-reparametrized")
RECIPES = {
    **{name: small_recipe(name, steps=12) for name in (*map(with_requirements, variants.names()), *COMPOSED)},
    **{each: structs.replace(small_recipe("iwae", steps=12), options={"gradient": each}) for each in GRADIENTS},
    "16 bits": small_recipe(steps=12, precision="bf16"),
    "micro-batches, clipped, averaged": small_recipe("factor-vae", steps=12, accumulation=2, clip=0.1, average=0.9),
    "rising rate": small_recipe("beta-vae", steps=12, rate_warmup=8, rate_cycles=2, free_bits=0.5),
    "channels last": small_recipe("vq-vae", steps=12, channels_last=True),
    "two stages": small_recipe(
        "vae", stages=[{"steps": 12, "batch_size": 8, "train": ["decoder"]}, {"steps": 9, "batch_size": 5}]
    ),
}


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Has short runs repeat operations after three passes; for each pass, whether it was such a one."""
    monkeypatch.setattr(passes, "AFTER", 3)
    monkeypatch.setattr(passes, "WORTH", 1)
    repeat, seen = passes.Passes._repeat, []

    def watched(self: passes.Passes, inputs: tuple[Tensor, ...]) -> passes.Values | None:
        trusted = self._trusted
        values = repeat(self, inputs)
        seen.append(trusted and values is not None)
        return values

    monkeypatch.setattr(passes.Passes, "_repeat", watched)
    return seen


def plainly(monkeypatch: pytest.MonkeyPatch, chosen: Trainer) -> Run:
    """Trains without a list of operations."""
    with monkeypatch.context() as patch:
        patch.setattr(passes, "WORTH", 10**9)
        return fit(chosen)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_repeated_operations_give_the_bits_of_the_model_itself(
    recipe: Recipe, repeated: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plainly(monkeypatch, trainer(recipe))
    assert not repeated
    run = fit(trainer(recipe))
    assert equal(run.model, expected.model) and run.history == expected.history
    accumulation = sum(each.accumulation for each in recipe.stages) // len(recipe.stages)
    assert sum(repeated) == sum(each.steps for each in recipe.stages) * accumulation - (3 + accumulation) * len(
        recipe.stages
    )


class Graph:
    """A CUDA graph's memory on a CPU: a replay reads and writes where the operations did when they were captured."""

    made: ClassVar[list["Graph"]] = []

    captured: tuple[Callable[..., passes.Values], tuple[Tensor, ...], passes.Values]

    def __init__(self) -> None:
        self.replays = 0
        Graph.made.append(self)

    def replay(self) -> None:
        """Does it again."""
        self.replays += 1
        function, given, outputs = self.captured
        for old, new in zip(outputs, function(*given), strict=True):
            if old is not None and new is not None:
                old.copy_(new)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Has operations captured on the CPU as on a GPU; the graphs that were made."""
    monkeypatch.setattr(Graph, "made", [])
    nothing = lambda *_: nullcontext()  # noqa: E731  # the same for several
    stream = SimpleNamespace(wait_stream=lambda other: None)
    fakes = {"device": nothing, "stream": nothing, "Stream": lambda: stream, "current_stream": lambda: stream}
    for name, fake in {**fakes, "CUDAGraph": Graph, "graph": lambda graph, **_: nullcontext(graph)}.items():
        monkeypatch.setattr(torch.cuda, name, fake)

    def noting(function: Callable[..., passes.Values], inputs: Sequence[Tensor], *, fresh: bool) -> object:
        calls: list[tuple[object, ...]] = []

        def noted(*given: Tensor) -> passes.Values:
            outputs = function(*given)
            calls.append((function, given, outputs))
            return outputs

        again = capture(noted, inputs, fresh=fresh)
        Graph.made[-1].captured = calls[-1]  # type: ignore[assignment]
        return again

    monkeypatch.setattr(passes, "GRAPHS", {"cpu"})
    monkeypatch.setattr(passes, "capture", noting)
    return Graph.made


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_what_a_replay_overwrites_is_not_needed_any_more(
    recipe: Recipe, repeated: list[bool], captured: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plainly(monkeypatch, trainer(recipe))
    run = fit(trainer(recipe))
    assert equal(run.model, expected.model) and run.history == expected.history
    assert len(captured) == len(recipe.stages)
    assert sum(graph.replays for graph in captured) == sum(repeated) + len(recipe.stages)  # one is for comparison


def losing(monkeypatch: pytest.MonkeyPatch, change: object) -> Trainer:
    """Returns a trainer whose objective's losses go through `change`."""
    chosen = trainer(small_recipe(steps=12))
    forward = chosen.model.objective.forward

    def changed(model: VAE, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> object:
        elbo = forward(model, x, c, step)
        return passes.ELBO(
            distortion=elbo.distortion,
            rate=elbo.rate,
            bound=elbo.bound,
            losses={"model": change(elbo.losses["model"])},  # type: ignore[operator]
        )

    monkeypatch.setattr(chosen.model.objective, "forward", changed)
    return chosen


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda loss: loss * (1.0 if loss.mean().item() > 0 else 2.0), "looks at the values of tensors"),
        (lambda loss: loss * random.random(), "gave something else for another"),
    ],
    ids=["a branch on a value", "noise that is not torch's"],
)
def test_what_operations_do_not_tell_is_left_to_the_model(
    change: object,
    why: str,
    repeated: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with TestCase().assertLogs("vaezoo", "INFO") as logs:
        random.seed(0)
        run = fit(losing(monkeypatch, change))
    assert not any(repeated)
    assert sum(why in message for message in logs.output) == 1
    if "value" in why:
        assert equal(run.model, plainly(monkeypatch, losing(monkeypatch, change)).model)


@pytest.mark.parametrize("kind", ["of a module", "of all modules", "of a parameter", "after a gradient"])
def test_hooks_see_every_pass(kind: str, repeated: list[bool]) -> None:
    chosen, seen = trainer(small_recipe(steps=12)), list[bool]()
    weight, objective = next(chosen.model.parameters()), chosen.model.objective

    def hook(owner: object, *_: object) -> None:
        if owner is not objective or objective.training:  # held-out images are no passes
            seen.append(weight.grad is None)

    with ExitStack() as stack:
        if kind == "of a module":
            objective.register_forward_hook(hook)
        elif kind == "of all modules":
            every = lambda owner, *_: hook(owner) if owner is objective else None  # noqa: E731
            stack.callback(nn.modules.module.register_module_forward_hook(every).remove)
        elif kind == "of a parameter":
            weight.register_hook(lambda gradient: hook(weight))
        else:
            weight.register_post_accumulate_grad_hook(hook)
        fit(chosen)
    assert len(seen) == 12
    if kind == "after a gradient":
        assert seen == [False] * 12
    else:
        assert not any(repeated)


class Counting(nn.Module):
    """A network that does more than map tensors to tensors."""

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind, self.calls, self.scale, self.box = network, kind, 0, 1.0, [1.0]
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns what the network makes of x, changed as `kind` says."""
        if self.kind == "norm":
            x = self.norm(x.flatten(1)).view_as(x)
        if self.kind == "in place":
            x.mul_(0.5)
        if self.kind == "calls":
            self.calls += 1
            x = x * (1.0 + self.calls // 6)
        made: Tensor = self.network(x) * self.scale * self.box[0]
        return made


@pytest.mark.parametrize("kind", ["norm", "in place", "calls", "attribute", "shape", "nothing"])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_networks_that_change_more_than_their_output(
    kind: str, accumulation: int, repeated: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = stage.StageRun.advance

    def changing(run: stage.StageRun) -> None:
        network = run.model.encoder.network
        assert isinstance(network, Counting)
        if kind == "attribute" and run.done == 8:
            network.scale = 0.5
        if kind == "shape" and run.done == 8:
            network.norm.running_var.data = network.norm.running_var.data[:3]
        advance(run)

    def made() -> Trainer:
        chosen = trainer(small_recipe(steps=12, accumulation=accumulation))
        chosen.model.encoder.network = Counting(chosen.model.encoder.network, kind)  # type: ignore[arg-type]
        return chosen

    monkeypatch.setattr(stage.StageRun, "advance", changing)
    expected = plainly(monkeypatch, made())
    run = fit(made())
    assert equal(run.model, expected.model) and run.history == expected.history
    if kind in ("norm", "calls"):
        assert not any(repeated)
    elif kind in ("in place", "nothing"):
        assert all(repeated[3 + accumulation :])
    else:
        assert repeated[8 * accumulation - 1] and not any(repeated[8 * accumulation :])


def test_what_no_attribute_tells_is_found_and_said_when_looked_at_again(
    repeated: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "AGAIN", 4)
    advance = stage.StageRun.advance

    def changing(run: stage.StageRun) -> None:
        if run.done == 5:
            run.model.encoder.network.box[0] = 0.5  # type: ignore[union-attr, operator, index]
        advance(run)

    chosen = trainer(small_recipe(steps=12))
    chosen.model.encoder.network = Counting(chosen.model.encoder.network, "nothing")  # type: ignore[arg-type]
    monkeypatch.setattr(stage.StageRun, "advance", changing)
    with pytest.warns(UserWarning, match="at pass 8 of a stage"):
        fit(chosen)
    assert repeated == [False] * 4 + [True] * 4


def test_a_buffer_that_is_replaced_is_not_missed(repeated: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    after_step = CodebookEncoder.after_step

    def replacing(self: CodebookEncoder, seen: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        after_step(self, seen, step)
        if int(step) >= 6:
            self.codebook = self.codebook.clone()

    monkeypatch.setattr(CodebookEncoder, "after_step", replacing)
    expected = plainly(monkeypatch, trainer(small_recipe("vq-vae", steps=12)))
    assert equal(fit(trainer(small_recipe("vq-vae", steps=12))).model, expected.model)
    assert repeated == [False] * 4 + [True] * 3 + [False] * 5


def test_what_is_not_finite_is_found_and_named(repeated: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, batch = small_recipe(steps=12), BatchStream.batch

    def spoilt(self: BatchStream, number: int) -> tuple[Tensor, Tensor | None]:
        x, c = batch(self, number)
        if number == 8:
            x[2] = math.nan
        return x, c

    monkeypatch.setattr(BatchStream, "batch", spoilt)
    texts = []
    for chosen, run in ((trainer(recipe), fit), (trainer(recipe), lambda each: plainly(monkeypatch, each))):
        with pytest.raises(
            NonFiniteLossError, match=r"The distortion became non-finite at step 9, .* images \["
        ) as error:
            run(chosen)
        texts.append((str(error.value), chosen.model))
    assert sum(repeated) == 5  # the last of them gave the NaN
    assert texts[0][0] == texts[1][0] and equal(texts[0][1], texts[1][1])


def test_a_run_goes_on_as_if_never_stopped(
    repeated: list[bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = small_recipe("factor-vae", steps=120, average=0.9)
    expected = plainly(monkeypatch, trainer(recipe, tmp_path / "straight"))
    chosen, advance = trainer(recipe, tmp_path / "stopped"), stage.StageRun.advance

    def stopped(run: stage.StageRun) -> None:
        if run.done == 57:
            chosen._stop.received = signal.SIGINT
        advance(run)

    with monkeypatch.context() as patch:
        patch.setattr(stage.StageRun, "advance", stopped)
        with pytest.raises(InterruptedTrainingError):
            fit(chosen)
    again = fit(trainer(recipe, tmp_path / "stopped"), resume=True)
    assert equal(again.model, expected.model) and again.history == expected.history
    assert sum(repeated) == 120 - 2 * 4


def test_a_recording_reads_weights_where_they_are_and_draws_noise_anew() -> None:
    weight, x = torch.nn.Parameter(torch.ones(3, 2)), torch.arange(6.0).view(2, 3)

    def function(x: Tensor) -> list[Tensor | None]:
        rows = (x @ weight.T.T).mul_(1.0 + torch.rand(()))
        return [rows.detach(), None, *torch.autograd.grad(rows.square().sum(), [weight])]

    again = record(function, [x])
    with torch.no_grad():
        weight.mul_(3.0)
    for seed, given in ((0, x), (1, x + 1.0)):
        torch.manual_seed(seed)
        expected = function(given)
        torch.manual_seed(seed)
        assert all(passes.is_same(*pair) for pair in zip(again(given), expected, strict=True))
        assert not any(each is not None and each.requires_grad for each in again(given))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: [x * x.sum().item()],
        lambda x: [x if (x > 0).all() else -x],
        lambda x: [x[x > 0].sum()],
        lambda x: [x.nonzero().float()],
        lambda x: [x.long().bincount().float()],
        lambda x: [x * x.sum().tolist()],
        lambda x: [x * float(x.sum().numpy())],
    ],
)
def test_what_depends_on_values_cannot_be_recorded(function: Callable[[Tensor], list[Tensor | None]]) -> None:
    with pytest.raises(CannotRecord):
        record(function, [torch.arange(6.0)])


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_an_update_is_the_step_of_the_optimizer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = small_recipe(optimizer=kind, weight_decay=0.1, learning_rate=0.01).stages[0]
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(4, 3)) for _ in range(3)]
    theirs = [torch.nn.Parameter(each.detach().clone()) for each in ours]
    torchs = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    plain = torchs(theirs, lr=0.01, betas=own.betas, eps=own.epsilon, weight_decay=0.1, fused=True)
    optimizers = [make_optimizer(own, ours, torch.device("cpu")), plain]
    assert isinstance(optimizers[0], torchs)
    step = torchs.step
    monkeypatch.delattr(torch.optim.Adam, "step")  # ours takes none of its steps, not even the first
    for number in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = None if mine is ours[1] and number != 2 else torch.randn(4, 3)
            other.grad = None if mine.grad is None else mine.grad.clone()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + number)
        update(optimizers[0])
        step(plain)
    assert all(map(torch.equal, ours, theirs))
    one, other_one = (pack({"model": each}) for each in optimizers)
    assert one.keys() == other_one.keys() and all(torch.equal(one[key], other_one[key]) for key in one)
