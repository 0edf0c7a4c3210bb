"""Flows against the Jacobian of autograd, quadrature, and the transforms of zuko around the same networks."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import AffineTransform, Independent, IndependentTransform, Normal, Transform
from zuko.transforms import AutoregressiveTransform, CouplingTransform

from vaezoo.distributions import DiagonalNormal, FlowDistribution, FlowPosterior
from vaezoo.encoders.flow import planar_flow, planar_flows
from vaezoo.networks import MADE, Couplings, InverseAutoregressive
from vaezoo.networks.flows import Coupling

SIZES = (1, 2, 5)


def randomized(module: nn.Module, size: float = 0.5) -> nn.Module:
    """Returns the module in double precision with random weights, also for those that are initially 0."""
    torch.manual_seed(5)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(size * torch.randn_like(parameter))
    return module


def log_det(function: object, z: Tensor) -> Tensor:
    """Returns log |det| of the Jacobian by autograd at each row of z (N, D)."""
    rows = [torch.autograd.functional.jacobian(function, row.unsqueeze(0)).squeeze() for row in z]
    return torch.stack([torch.linalg.slogdet(row.reshape(z.shape[1], z.shape[1]))[1] for row in rows])


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("size", SIZES)
def test_couplings_have_an_inverse_and_their_jacobian(size: int, context: int) -> None:
    flow = randomized(Couplings(size, context, 6, [8]))
    z, c = (torch.randn(4, width, dtype=torch.float64) for width in (size, context))
    u, forward = flow(z, c)
    torch.testing.assert_close(flow.inverse(u, c), (z, forward))
    for row in range(4):
        own = c[row : row + 1]
        torch.testing.assert_close(forward[row], log_det(lambda each, own=own: flow(each, own)[0], z[row : row + 1])[0])
    if size > 1:
        assert forward.abs().min() > 1e-3 and (u - z).abs().max() > 0.1


@pytest.mark.parametrize("size", [2, 3, 8, 50])
def test_masks_separate_any_two_latents_and_couplings_are_initially_the_identity(size: int) -> None:
    flow, z = Couplings(size, 0, 2 * (size - 1).bit_length(), [4]), torch.randn(4, size)
    masks = torch.stack([layer.mask for layer in flow.layers])
    assert ((masks[:, :, None] != masks[:, None, :]).any(0) | torch.eye(size, dtype=torch.bool)).all()
    assert (masks == 0).any(0).all() and (masks == 1).any(0).all()
    u, log_det = flow(z)
    assert torch.equal(u, z) and torch.equal(log_det, torch.zeros(4))


def affine(raw: Tensor) -> Transform:
    shift, log_scale = raw.unbind(-2)
    return IndependentTransform(AffineTransform(shift, (2 * (log_scale / 2).tanh()).exp()), 1)


def test_a_coupling_is_zukos() -> None:
    """The network of zuko's takes the kept latents alone and returns the transform of the others."""
    layer = randomized(Coupling(torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0]), 0, [8]))
    mask = layer.mask.bool()

    def meta(kept: Tensor) -> Transform:
        whole = kept.new_zeros(*kept.shape[:-1], 5)
        whole[..., mask] = kept
        return affine(layer.network(whole)[..., ~mask])

    z = torch.randn(6, 5, dtype=torch.float64)
    theirs = CouplingTransform(meta, mask)
    u, log_det = layer(z)
    torch.testing.assert_close(theirs(z), u)
    torch.testing.assert_close(theirs.log_abs_det_jacobian(z, u), log_det)
    torch.testing.assert_close(layer.inverse(u)[0], theirs.inv(u))


def test_the_density_of_a_flow_integrates_to_one() -> None:
    flow = randomized(Couplings(2, 0, 4, [8]), 0.4)
    prior = FlowDistribution(flow, torch.zeros(1, 2, dtype=torch.float64))
    axis = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 * 32 - 16
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1)
    with torch.no_grad():
        density = prior.log_prob(grid).exp()
        z, log_prob = prior.rsample_and_log_prob((20_000,))
        torch.testing.assert_close(prior.log_prob(z), log_prob)
    cell = (32 / 400) ** 2
    assert density.sum() * cell == pytest.approx(1.0, abs=1e-4)
    mean = (density[:, None] * grid.flatten(1)).sum(0) * cell
    error = z.flatten(1).std(0) / 20_000**0.5
    assert ((z.flatten(1).mean(0) - mean).abs() < 4.5 * error).all()


def test_a_conditional_flow_has_a_batch() -> None:
    flow, c = randomized(Couplings(3, 2, 4, [8])), torch.randn(5, 2, dtype=torch.float64)
    prior = FlowDistribution(flow, torch.zeros(3, dtype=torch.float64), c)
    z, log_prob = prior.rsample_and_log_prob((7,))
    assert prior.batch_shape == (5,) and z.shape == (7, 5, 3)
    torch.testing.assert_close(prior.log_prob(z), log_prob)
    for number in range(5):
        alone = FlowDistribution(flow, torch.zeros(3, dtype=torch.float64), c[number : number + 1])
        torch.testing.assert_close(alone.log_prob(z[:, number : number + 1])[:, 0], log_prob[:, number])


@pytest.mark.parametrize("size", SIZES)
def test_masked_outputs_depend_on_earlier_inputs_and_the_context(size: int) -> None:
    network = randomized(MADE(size, 2, 3, [4 * size, 3 * size]))
    # Summed over many inputs, so that each hidden unit is active for some of them.
    z, c = (torch.randn(100, width, dtype=torch.float64) for width in (size, 3))
    found = [torch.autograd.functional.jacobian(network, (z[n : n + 1], c[n : n + 1])) for n in range(100)]
    by_z, by_c = (sum(each[kind].abs() for each in found) for kind in (0, 1))
    assert by_z.shape == (1, 2, size, 1, size)
    for kind in range(2):
        assert torch.equal(by_z[0, kind, :, 0] != 0, torch.ones(size, size).tril(-1).bool())
    assert (by_c != 0).any(-1).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_density_of_an_inverse_autoregressive_draw_is_zukos_and_autograds(size: int) -> None:
    """zuko inverts the flow from z, one latent after the other."""
    flow = randomized(InverseAutoregressive(size, 3, 3, [2 * size + 3]))
    h = torch.randn(2, 3, dtype=torch.float64)
    base = DiagonalNormal(*torch.randn(2, 2, size, dtype=torch.float64) * 0.3)
    posterior = FlowPosterior(base, lambda z: flow(z, h), (size,))
    z, log_q = posterior.rsample_and_log_prob((4,))

    def step(network: MADE) -> Transform:
        def meta(start: Tensor) -> Transform:
            shift, gate = network(start, h).unbind(-2)
            keep = (gate + 1.5).sigmoid()
            return IndependentTransform(AffineTransform((1 - keep) * shift, keep), 1)

        return AutoregressiveTransform(meta, passes=size)

    start, total = z, torch.zeros_like(log_q)
    for network in reversed(flow.networks):
        transform = step(network)
        start = transform.inv(start.flip(-1))
        total = total + transform.log_abs_det_jacobian(start, transform(start))
    expected = Independent(Normal(base.loc, base.log_scale.exp()), 1).log_prob(start) - total
    torch.testing.assert_close(log_q, expected)
    torch.testing.assert_close(flow(start, h)[0], z)
    for number in range(2):
        own = h[number : number + 1]
        found = log_det(lambda each, own=own: flow(each, own)[0], start[:, number])
        torch.testing.assert_close(total[:, number], found)
    torch.testing.assert_close(posterior.center, flow(base.loc, h)[0])


@pytest.mark.parametrize("size", SIZES)
def test_planar_flows_have_their_jacobian(size: int) -> None:
    torch.manual_seed(0)
    raw, z = torch.randn(1, 4, 2 * size + 1, dtype=torch.float64), torch.randn(3, 1, size, dtype=torch.float64)
    _, total = planar_flows(z, raw)
    found = log_det(lambda each: planar_flows(each.unsqueeze(1), raw)[0].squeeze(1), z[:, 0])
    torch.testing.assert_close(total[:, 0], found)
    assert found.abs().min() > 1e-3


@torch.no_grad()
def test_planar_steps_are_bounded_by_their_parameters() -> None:
    """The step and the invertibility of appendix A.1, by the definition, also where w vanishes."""
    u, direction = torch.randn(2, 400, 2, dtype=torch.float64)
    z = torch.randn(400, 2, dtype=torch.float64)
    for scale in (1e-12, 1e-6, 1e-3, 1.0, 30.0):
        w = scale * direction
        moved, log_det = planar_flow(z, u, w, torch.ones(400, dtype=torch.float64))
        height = ((w * z).sum(-1) + 1.0).tanh()
        u_hat = (moved - z) / height[:, None]
        assert (u_hat.norm(dim=-1) <= 2.0 * u.norm(dim=-1) + 1e-6).all()
        product = (w * u_hat).sum(-1)
        assert (product >= -1.0 - 1e-6).all()
        torch.testing.assert_close(log_det.exp(), 1.0 + (1.0 - height.square()) * product, atol=1e-5, rtol=1e-5)


def test_planar_flows_are_invertible_for_all_parameters() -> None:
    """In one dimension: they are increasing."""
    torch.manual_seed(1)
    z = torch.linspace(-12, 12, 5_001, dtype=torch.float64)[:, None, None]
    for scale in (0.1, 1.0, 10.0, 100.0):
        u, w, b = scale * torch.randn(3, 200, dtype=torch.float64)
        moved, log_det = planar_flow(z, u[:, None], w[:, None], b)
        assert torch.isfinite(log_det).all()
        assert (moved.diff(dim=0) > -1e-12 * moved.abs().max()).all()
    for zero in (torch.zeros(1, 3), torch.full((1, 3), 1e-20)):
        moved, log_det = planar_flow(start := torch.randn(2, 1, 3), zero, zero, torch.zeros(1))
        torch.testing.assert_close(moved, start)
        assert torch.isfinite(log_det).all()
