"""Hamiltonian posteriors against plain numpy, autograd's Jacobian, and models whose evidence is known."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from support.cases import Case
from support.gaussian_models import linear_gaussian
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.distributions import DiagonalNormal, HamiltonianPosterior
from vaezoo.encoders import HamiltonianEncoder
from vaezoo.registry import create

PRECISION = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
STEP = torch.tensor([0.2, 0.1], dtype=torch.float64)
COOLING = torch.tensor([1.3, 1.1, 1.05], dtype=torch.float64)


def quadratic(z: Tensor) -> Tensor:
    return -0.5 * (z @ PRECISION * z).sum(-1)


def posterior() -> HamiltonianPosterior:
    torch.manual_seed(0)
    base = DiagonalNormal(*torch.randn(2, 4, 2, dtype=torch.float64))
    return HamiltonianPosterior(base, quadratic, STEP, COOLING)


def test_the_steps_agree_with_numpy() -> None:
    ours = posterior()
    z, momentum = torch.randn(2, 5, 4, 2, dtype=torch.float64)
    found = [each.detach() for each in ours.move(z, momentum)]
    q, p = z.numpy(), momentum.numpy()
    for cooling in COOLING.tolist():
        p = p - STEP.numpy() / 2 * (q @ PRECISION.numpy())
        q = q + STEP.numpy() * p
        p = (p - STEP.numpy() / 2 * (q @ PRECISION.numpy())) / cooling
    np.testing.assert_allclose(found[0].numpy(), q)
    np.testing.assert_allclose(found[1].numpy(), p)
    with torch.no_grad():
        again = ours.move(z, momentum)
        torch.testing.assert_close(again, tuple(found))
        torch.testing.assert_close(ours.center, ours.move(ours.base.loc, torch.zeros(4, 2))[0])


def test_steps_keep_the_volume_and_the_ratio_is_that_of_densities() -> None:
    ours = posterior()

    def whole(pair: Tensor) -> Tensor:
        z, momentum = ours.move(pair[:2], pair[2:] * COOLING.prod())
        return torch.cat([z, momentum])

    jacobian = torch.autograd.functional.jacobian(whole, torch.randn(4, dtype=torch.float64))
    assert torch.linalg.det(jacobian).item() == pytest.approx(1.0)
    torch.manual_seed(3)
    z, log_ratio = ours.rsample_and_log_prob((6,))
    torch.manual_seed(3)
    start, log_q = ours.base.rsample_and_log_prob((6,))
    noise = torch.randn_like(start)
    end, momentum = ours.move(start, noise * COOLING.prod())
    normal = torch.distributions.Normal(0.0, 1.0)
    assert torch.equal(end, z)
    torch.testing.assert_close(log_ratio, log_q + normal.log_prob(noise).sum(-1) - normal.log_prob(momentum).sum(-1))


def hamiltonian(model: VAE, encoder: torch.nn.Module, leapfrogs: int = 4) -> VAE:
    moved = HamiltonianEncoder(encoder, (2,), leapfrogs, 0.1, 0.4).double()
    return model.replace(encoder=moved)


def test_the_weights_of_a_linear_gaussian_model_average_to_its_evidence() -> None:
    model, x, exact = linear_gaussian(True, shift=0.3, widen=1.3)
    inference = hamiltonian(model, model.encoder).infer(x, None, 2_500)
    ratio = (inference.log_weights() - exact).exp()
    assert ((ratio.mean(0) - 1).abs() < 4.5 * ratio.std(0) / 50).all()
    bound = -(inference.distortion() + inference.rate())
    assert (bound < exact + 4 * inference.log_weights().std(0) / 50).all() and (exact - bound).mean() > 0.01


def test_the_gradient_in_step_size_and_temperature_is_that_of_differences() -> None:
    model, x, _ = linear_gaussian(True, shift=0.3)
    moved = hamiltonian(model, model.encoder)

    def loss() -> Tensor:
        torch.manual_seed(0)
        return moved(x).losses["model"].mean()

    for parameter in (moved.encoder.raw_step, moved.encoder.raw_beta):
        (found,) = torch.autograd.grad(loss(), parameter)
        with torch.no_grad():
            for place in range(parameter.numel()):
                values = []
                for change in (1e-5, -2e-5):
                    parameter.view(-1)[place] += change
                    values.append(loss().item())
                parameter.view(-1)[place] += 1e-5
                assert found.view(-1)[place].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_temperatures_follow_the_schedule_of_the_paper() -> None:
    model = create("hamiltonian-vae", shape=(1, 8, 8), leapfrogs=5, beta_zero=0.25, step_size=0.1).double()
    x, _ = Case("vae").inputs(2, torch.float64)
    cooling = model.encode(x).cooling
    roots = [1 / ((1 - 1 / math.sqrt(0.25)) * k**2 / 25 + 1 / math.sqrt(0.25)) for k in range(6)]  # √β_k
    wanted = [later / earlier for earlier, later in pairwise(roots)]
    torch.testing.assert_close(cooling, torch.tensor(wanted, dtype=torch.float64))
    torch.testing.assert_close(model.encode(x).step, torch.full((16,), 0.1, dtype=torch.float64))
