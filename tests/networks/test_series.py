"""Convolutions along time: the content and the length of padding, and gaps, have no effect."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from vaezoo.backbones.conv1d import conv1d as backbone
from vaezoo.errors import ShapeError
from vaezoo.networks import GapNetwork, with_mask
from vaezoo.networks.series import SeriesDown, SeriesOptions, SeriesStage

OPTIONS = SeriesOptions(channels=[4, 6], blocks=2, kernel=5, dense=[8], activation="silu")


def network(length: int, out: tuple[int, ...], context: int = 0) -> GapNetwork:
    shape = (2, length)
    return GapNetwork(SeriesDown(with_mask(shape), out, context, OPTIONS), shape, nn.Identity()).double()


def with_weights_of(long: GapNetwork, short: GapNetwork) -> GapNetwork:
    """Returns `long` with the weights of `short`; its dense weights of later positions stay random."""
    state = long.state_dict()
    for key, given in short.state_dict().items():
        if given.shape == state[key].shape:
            state[key].copy_(given)
        else:  # (hidden, 6 channels * positions + context)
            width = short.context
            own, other = (each[:, : each.shape[1] - width].unflatten(1, (6, -1)) for each in (state[key], given))
            own[:, :, : other.shape[2]] = other
            state[key][:, state[key].shape[1] - width :] = given[:, given.shape[1] - width :]
    return long


def padded(x: Tensor, length: int) -> Tensor:
    return torch.cat([x, x.new_full((*x.shape[:-1], length - x.shape[-1]), torch.nan)], -1)


@pytest.mark.parametrize(("length", "longer"), [(16, 17), (13, 16), (11, 40), (1, 9)])
@pytest.mark.parametrize("context", [0, 3])
def test_the_amount_of_padding_has_no_effect(length: int, longer: int, context: int) -> None:
    x, c = torch.randn(3, 2, length).double(), torch.randn(3, context).double() if context else None
    short = network(length, (2, 5), context)
    long = with_weights_of(network(longer, (2, 5), context), short)
    torch.testing.assert_close(long(padded(x, longer), c), short(x, c), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("length", "longer"), [(16, 17), (13, 16), (11, 40)])
def test_a_grid_of_latents_is_zero_beyond_the_end(length: int, longer: int) -> None:
    grids = [-(-each // 4) for each in (length, longer)]
    short, long = (network(each, (2, 3, grid)) for each, grid in zip((length, longer), grids, strict=True))
    long.load_state_dict(short.state_dict())
    x = torch.randn(3, 2, length).double()
    found = long(padded(x, longer))
    torch.testing.assert_close(found[..., : grids[0]], short(x), rtol=1e-12, atol=1e-12)
    assert found.shape == (3, 2, 3, grids[1]) and bool((found[..., grids[0] :] == 0).all())


def test_gradients_are_those_of_the_shorter_series() -> None:
    x = torch.randn(3, 2, 11).double()
    short = network(11, (2, 5))
    long = with_weights_of(network(24, (2, 5)), short)
    for net, given in ((short, x), (long, padded(x, 24))):
        net(given).square().sum().backward()
    convolutions = [key for key, value in short.named_parameters() if value.dim() == 3]
    own, other = dict(short.named_parameters()), dict(long.named_parameters())
    assert len(convolutions) == 10
    for key in convolutions:
        torch.testing.assert_close(own[key].grad, other[key].grad, rtol=1e-10, atol=1e-12)


def test_a_stage_is_a_convolution_of_zeros_in_gaps_at_observed_pairs() -> None:
    """One stage without blocks, against an explicit sum over the kernel at each position."""
    stage = SeriesStage(3, 4, SeriesOptions(channels=[4], blocks=0, kernel=3, dense=[], activation="tanh")).double()
    mask = torch.tensor([1, 1, 0, 0, 1, 0, 0.0]).double().view(1, 1, 7)
    x = torch.randn(2, 3, 7).double() * mask
    found, after = stage((x, mask))
    assert after.flatten().tolist() == [1, 0, 1, 0]
    wide, weight = torch.nn.functional.pad(x, (1, 1)), stage.layer.weight
    for place in range(4):
        window = wide[:, :, 2 * place : 2 * place + 3]
        expected = torch.tanh(torch.einsum("nck,dck->nd", window, weight) + stage.layer.bias)
        torch.testing.assert_close(found[:, :, place], expected * after[0, 0, place])
    assert torch.allclose(conv1d(x, weight, stage.layer.bias, 2, 1)[:, :, 0].tanh(), found[:, :, 0])


def test_gaps_in_one_channel_are_no_gaps_of_the_other() -> None:
    net, x = network(12, (2, 5)), torch.randn(2, 2, 12).double()
    x[0, 0, 3:6] = torch.nan
    moved = x.clone()
    moved[0, 1, 4] += 1.0  # beside the gap
    assert bool((net(x)[0] != net(moved)[0]).any()) and torch.equal(net(x)[1], net(moved)[1])
    x[0, 1, 3:6] = torch.nan
    assert bool(net(x).isfinite().all())


def test_long_series_have_more_stages_before_dense_layers() -> None:
    made = backbone()
    assert made.defaults((1, 512), (8,)) == {"channels": (32, 64, 64)}
    assert made.defaults((1, 4000), (8,)) == {"channels": (32, 64, 64, 64, 64, 64)}
    assert made.defaults((1, 4000), (8, 500)) == {"channels": (32, 64, 64)} and made.grid((1, 4000), 8) == (8, 500)
    with pytest.raises(ShapeError, match=r"conv1d backbone expected \(channels, length\)\. Use backbone 'mlp'"):
        made.down((1, 8, 8), (2, 4), 0)
