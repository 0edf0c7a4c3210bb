"""`seeded`: the draws of `torch.manual_seed`, without process-wide states."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.cases import Case
from torch import Tensor, distributions, nn
from torch.nn import functional

from vaezoo.core import evaluating, seeded
from vaezoo.core.modes import HELD

P = torch.full((50,), 0.3)

DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(3, dtype=torch.float64),
    "randn": lambda: torch.randn(2, 33),
    "randint": lambda: torch.randint(5, (7,)),
    "randperm": lambda: torch.randperm(9),
    "normal": lambda: torch.normal(P, P),
    "bernoulli": lambda: torch.bernoulli(input=P) + P.bernoulli(),
    "multinomial": lambda: torch.multinomial(P, 7, replacement=True),
    "poisson": lambda: torch.poisson(P),
    "rand_like": lambda: torch.rand_like(P) + torch.randn_like(P, dtype=torch.float64),
    "randint_like": lambda: torch.randint_like(P, 5) + torch.randint_like(P, low=2, high=5),
    "in place": lambda: torch.empty(9).exponential_() + torch.empty(9).cauchy_() + torch.empty(9).log_normal_(),
    "gamma": lambda: distributions.Gamma(P, P).rsample(),
    "dirichlet": lambda: distributions.Dirichlet(P).rsample(),
    "binomial": lambda: distributions.Binomial(torch.full((50,), 9.0), P).sample(),
    "layers": lambda: nn.Linear(7, 5).weight.detach(),
    "init": lambda: nn.init.trunc_normal_(torch.empty(9)) + nn.init.xavier_normal_(torch.empty(9, 1)),
    "dropout": lambda: functional.dropout(P),
    "dropout in place": lambda: functional.dropout(P.clone(), 0.3, inplace=True) + functional.dropout(P, 1.0),
    "dropout of a view": lambda: functional.dropout(torch.ones(3, 5).T, 0.3),
    "dropout of channels": lambda: functional.dropout2d(torch.ones(3, 4, 2, 2), 0.3),
    "dropout of torch": lambda: torch.dropout(P, 0.3, True),
    "lstm": lambda: nn.LSTM(2, 3, 2, dropout=0.5)(torch.ones(4, 2))[0].detach(),
    "gumbel_softmax": lambda: functional.gumbel_softmax(P),
    "hard gumbel_softmax": lambda: functional.gumbel_softmax(P.view(5, 10).T, 0.5, hard=True, dim=0),
    "scaled_dot_product_attention": lambda: functional.scaled_dot_product_attention(
        *torch.ones(3, 1, 4, 2), dropout_p=0.5
    ),
    "attention": lambda: nn.MultiheadAttention(4, 2, dropout=0.5)(*torch.ones(3, 3, 1, 4))[0].detach(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_the_process_wide_generator(name: str) -> None:
    draw = DRAWS[name]
    torch.default_generator.manual_seed(5)
    expected = [draw(), torch.rand(2), draw()]
    torch.default_generator.manual_seed(9)
    state = torch.get_rng_state()
    with seeded(5):
        found = [draw(), torch.rand(2), draw()]
    assert all(map(torch.equal, found, expected)) and torch.equal(torch.get_rng_state(), state)


def test_contexts_nest_end_with_an_error_and_skip_the_meta_device() -> None:
    with seeded(1):
        one, two = torch.rand(2), torch.rand(2)
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(1):
        assert torch.equal(torch.rand(2), one)
        with seeded(1), torch.device("meta"):
            assert torch.rand(2).is_meta and nn.Linear(2, 2).weight.is_meta
            assert torch.equal(torch.rand(2, device="cpu"), one)
        assert torch.equal(torch.rand(2), two)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(None):
        assert not torch.equal(torch.rand(2), one)
    assert not torch.equal(torch.get_rng_state(), state)


def test_seeded_calls_in_threads_give_what_one_thread_gives() -> None:
    models = [Case(name).build().eval() for name in ("vae", "vq-vae")]
    x = Case("vae").inputs(3)[0]
    calls = [lambda m=m: m.sample(8, seed=0) for m in models] + [lambda: models[0].log_evidence(x, samples=9, seed=1)]
    expected, stop = [call() for call in calls], threading.Event()

    def draw_unseeded() -> Tensor:
        drawn = []
        while not stop.is_set() or len(drawn) < 2000:
            drawn.append(torch.rand(1))
        return torch.cat(drawn)

    torch.manual_seed(3)
    with ThreadPoolExecutor(17) as pool:
        beside = pool.submit(draw_unseeded)
        jobs = [pool.submit(lambda k=k: torch.equal(calls[k % 3](), expected[k % 3])) for k in range(16 * 9)]
        assert all(job.result() for job in jobs)
        stop.set()
        drawn = beside.result()
    state = torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(torch.cat([torch.rand(1) for _ in drawn]), drawn)  # as if it were alone
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_seed_the_state_of_the_caller_is_used() -> None:
    model, (x, _) = Case("vae").build(), Case("vae").inputs(3)
    for call in (lambda: model.sample(2), lambda: model.log_evidence(x, samples=2), lambda: model(x).bound):
        torch.manual_seed(7)
        one, two = call(), call()
        torch.manual_seed(7)
        assert torch.equal(call(), one) and not torch.equal(one, two)


def test_the_last_of_several_evaluations_restores_the_train_mode() -> None:
    module = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    module[0].eval()
    entered, leave = threading.Event(), threading.Event()

    def evaluate_meanwhile() -> bool:
        with evaluating(module):
            entered.set()
            leave.wait(60)
            return not any(each.training for each in module.modules())

    with ThreadPoolExecutor(1) as pool:
        with evaluating(module[1]), evaluating(module):
            other = pool.submit(evaluate_meanwhile)
            assert entered.wait(60)
        leave.set()
        assert other.result()
    assert [each.training for each in module.modules()] == [True, False, True]
    assert not HELD
