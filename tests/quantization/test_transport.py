"""The optimal transport of encoder outputs to codes, beside an exact assignment and plain matrices."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

import vaezoo
from vaezoo.quantization import transport_plan


def points(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_plan_of_little_entropy_is_the_best_assignment() -> None:
    cost = torch.cdist(points(12, 0), points(12, 1)).square()
    plan = transport_plan(cost, 5e-3, 5_000)
    rows, columns = linear_sum_assignment(cost.numpy())
    best = cost[torch.as_tensor(rows), torch.as_tensor(columns)].mean()
    torch.testing.assert_close((plan * cost).sum(), best, rtol=0.02, atol=0.0)


def test_a_plan_of_much_entropy_is_uniform() -> None:
    plan = transport_plan(torch.cdist(points(10, 0), points(4, 1)).square(), 1e6)
    torch.testing.assert_close(plan, torch.full((10, 4), 1 / 40, dtype=torch.float64), rtol=1e-4, atol=0.0)


def test_vectors_and_codes_have_their_shares_of_the_mass() -> None:
    plan = transport_plan(torch.cdist(points(200, 0), 3.0 + points(8, 1)).square(), 0.05)
    torch.testing.assert_close(plan.sum(1), torch.full((200,), 1 / 200, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(0), torch.full((8,), 1 / 8, dtype=torch.float64), rtol=0.02, atol=0.0)


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_equal_costs_have_a_finite_plan(value: float) -> None:
    plan = transport_plan(torch.full((6, 3), value), 0.05)
    torch.testing.assert_close(plan, torch.full((6, 3), 1 / 18))


SHAPES = {"shape": (2, 4, 4), "latent": [2, 2, 2], "backbone": {"name": "conv", "channels": [4]}}


class Grid(nn.Module):
    """Returns a corner of the data as the outputs of an encoder."""

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return x[:, None, :, :2, :2]


def test_the_penalty_and_its_gradients_are_those_of_the_cost_at_the_plan() -> None:
    model = vaezoo.create("vq-wae", **SHAPES, codes=5, transport=1.0, entropy=0.2).double()
    model.encoder.network = Grid()
    x = torch.rand(7, 2, 4, 4, dtype=torch.float64)
    codebook = model.encoder.codebook
    elbo = model(x)
    rows = x[..., :2, :2].movedim(1, -1).reshape(-1, 2)
    cost = (rows[:, None] - codebook.detach()).square().sum(-1)
    plan = transport_plan(cost, 0.2)
    torch.testing.assert_close(elbo.terms["transport"].mean(), 4 * (plan * cost).sum())
    expected = torch.stack([2 * 4 * (plan[:, v, None] * (codebook[v].detach() - rows)).sum(0) for v in range(5)])
    loss = elbo.losses["model"].mean()  # whose other terms do not move the codes
    torch.testing.assert_close(torch.autograd.grad(loss, codebook)[0], expected)


def test_codes_far_from_the_data_come_into_use() -> None:
    """Codes at one place beside the data die in a VQ-VAE without revival; transport distributes them."""
    torch.manual_seed(0)
    model = vaezoo.create("vq-wae", **SHAPES, codes=8).train()
    model.encoder.network = Grid()
    codebook = model.encoder.codebook
    nn.init.normal_(codebook, mean=3.0, std=0.01)
    optimizer = torch.optim.Adam([codebook], 0.05)
    x = torch.rand(64, 2, 4, 4)
    for _ in range(200):
        optimizer.zero_grad()
        model(x).losses["model"].mean().backward()
        optimizer.step()
    assert len(model.encode(x).indices.unique()) == 8
