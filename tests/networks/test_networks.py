"""Backbones: any size, any leading dimensions, contexts, and errors that name what is reachable."""

import pytest
import torch
from support.cases import SMALL_BACKBONES
from torch import Tensor

from vaezoo.backbones import Backbone
from vaezoo.backbones.conv import conv
from vaezoo.errors import ConfigError, ShapeError
from vaezoo.networks import MLP, ConvUp
from vaezoo.networks.convolutional import grid_sizes
from vaezoo.networks.initialization import scale_last_layer_to_data
from vaezoo.registry import backbones

SIZES = ((1, 1, 1), (1, 2, 1), (3, 2, 3), (1, 5, 4), (2, 17, 23), (1, 28, 28), (3, 32, 32), (1, 33, 64))


def make(name: str) -> Backbone:
    built = backbones.get(name)(**SMALL_BACKBONES.get(name, {}))
    assert isinstance(built, Backbone)
    return built


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("name", backbones.names())
def test_down_and_up_at_any_size(name: str, shape: tuple[int, ...], context: int) -> None:
    backbone = make(name)
    c = torch.randn(4, context) if context else None
    for latent in ((7,), backbone.grid(shape, 5)):
        down, up = backbone.down(shape, (2, *latent), context), backbone.up(latent, (3, *shape), context)
        features = down(torch.randn(4, *shape), c)
        assert features.shape == (4, 2, *latent)
        assert up(features[:, 0], c).shape == (4, 3, *shape)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("name", backbones.names())
def test_any_leading_dimensions_broadcast_the_context(name: str, context: int) -> None:
    up = make(name).up((4,), (1, 1, 8, 8), context).double()
    z = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    c = torch.randn(5, context, dtype=torch.float64) if context else None
    whole = up(z, c)
    assert whole.shape == (2, 3, 5, 1, 1, 8, 8)
    torch.testing.assert_close(whole[1, 2], up(z[1, 2], c))
    torch.testing.assert_close(whole[1, 2, 4], up(z[1, 2, 4], None if c is None else c[4]))
    torch.testing.assert_close(whole[1, 2, 4], up(z[1, 2, 4], None if c is None else c[4:]))
    if context:
        assert not torch.allclose(whole, up(z, c + 1.0))  # it is used
        assert up(z[:, :, :0], c[:0]).shape == (2, 3, 0, 1, 1, 8, 8) if c is not None else True


@pytest.mark.parametrize("name", backbones.names())
def test_the_last_bias_can_start_anywhere(name: str) -> None:
    up = make(name).up((4,), (2, 1, 8, 8), 0)
    target = torch.randn(2, 1, 8, 8)
    before = up(torch.zeros(1, 4))
    up.set_output_bias(torch.zeros_like(target))
    plain = up(torch.zeros(1, 4))
    up.set_output_bias(target)
    torch.testing.assert_close(up(torch.zeros(1, 4)) - plain, target[None])
    assert before.shape == (1, 2, 1, 8, 8)


@pytest.mark.parametrize("name", backbones.names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_of_any_precision_take_float32(name: str, dtype: torch.dtype) -> None:
    down = make(name).down((1, 8, 8), (2, 4), 3).to(dtype)
    assert down(torch.randn(2, 1, 8, 8), torch.randn(2, 3)).dtype == dtype


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu", "gelu", "elu", "leaky-relu"])
def test_activations(activation: str) -> None:
    for backbone in (conv(channels=[3], activation=activation, blocks=1), backbones.get("mlp")(activation=activation)):  # type: ignore[arg-type]
        assert isinstance(backbone, Backbone)
        assert torch.isfinite(backbone.down((1, 6, 6), (2, 4), 0)(torch.randn(2, 1, 6, 6))).all()


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_conv_meets_every_grid_exactly(kernel: int, depth: int) -> None:
    backbone = conv(channels=[2] * depth, kernel=kernel, blocks=1, dense=[4])  # type: ignore[arg-type]
    for height, width in ((1, 1), (9, 14), (31, 32)):
        shape = (1, height, width)
        latent = backbone.grid(shape, 2)
        assert latent[1:] == grid_sizes((height, width), depth)[-1]
        x: Tensor = backbone.up(latent, (1, *shape), 0)(
            backbone.down(shape, (1, *latent), 0)(torch.randn(2, *shape))[:, 0]
        )
        assert x.shape == (2, 1, *shape)
        up = backbone.up((3,), (1, *shape), 0)
        assert isinstance(up, ConvUp) and up.stages[-1].bias is None
        biased = [layer.bias is not None for layer in up.stages if isinstance(layer, torch.nn.ConvTranspose2d)]
        assert biased == [True] * (depth - 1) + [False]


def test_conv_names_the_grids_that_it_can_reach() -> None:
    with pytest.raises(ShapeError, match=r"Got latent \[4, 5, 5\].*grid of 7x7.*14x14 with 1, 7x7 with 2, 4x4 with 3"):
        make("conv").down((1, 28, 28), (2, 4, 5, 5), 0)
    with pytest.raises(ShapeError, match="Reachable grids"):
        make("conv").up((4, 5, 5), (1, 1, 28, 28), 0)
    for build in (lambda: make("conv").down((30,), (2, 4), 0), lambda: make("conv").up((4,), (1, 30), 0)):
        with pytest.raises(ShapeError, match=r"\(30,\).*channels, height, width.*'mlp'"):
            build()
    with pytest.raises(ShapeError, match="height"):
        make("conv").grid((30,), 4)


def test_what_is_too_large_is_refused_before_it_is_allocated() -> None:
    wide = [8192] * 8
    for build in (
        lambda: MLP((2**20,), (2**20,), 0, [], "relu"),
        lambda: MLP((10,), (10,), 0, [65536, 65536], "relu"),
        lambda: conv(channels=wide).down((1, 64, 64), (2, 4), 0),  # type: ignore[arg-type]
        lambda: conv(channels=wide).up((4,), (1, 1, 64, 64), 0),  # type: ignore[arg-type]
        lambda: conv(channels=[8192]).down((1, 2, 2), (2, 2**23, 1, 1), 0),
        lambda: conv(channels=[8192]).up((2**23, 1, 1), (1, 1, 2, 2), 0),
    ):
        with pytest.raises(ShapeError, match="weights; expected at most 268,435,456"):
            build()


def test_options_are_checked_by_the_registry() -> None:
    from vaezoo.registry import create

    for options in ({"channels": []}, {"channels": [0]}, {"kernel": 4}, {"activation": "swish"}, {"blocks": -1}):
        with pytest.raises(ConfigError, match="backbone conv: option"):
            create("vae", shape=(1, 8, 8), backbone={"name": "conv", **options})


def networks_of_all_kinds() -> list[tuple[torch.nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    image = (1, 9, 8)
    return [
        (torch.nn.Linear(6, 5), (6,)),
        (torch.nn.Linear(6, 5, bias=False), (6,)),
        (torch.nn.Conv2d(1, 5, 3), image),
        (make("mlp").down(image, (5,), 0), image),
        (make("conv").down(image, (5,), 0), image),
        (make("conv").down(image, (1, *make("conv").grid(image, 5)), 0), image),
    ]


@pytest.mark.parametrize("number", range(6))
def test_data_spreads_what_is_told_to_be_spread(number: int) -> None:
    network, shape = networks_of_all_kinds()[number]
    x = 5.0 + torch.randn(200, *shape)

    def outputs() -> Tensor:
        made: Tensor = network(x).detach()
        return made.reshape(200, 5, -1).transpose(0, 1).flatten(1)

    before = outputs()
    scale_last_layer_to_data(network, network(x).reshape(200, 5, -1), 0.25)
    torch.testing.assert_close(outputs().std(1), torch.full((5,), 0.25))
    if number != 1:  # it has no bias to move
        torch.testing.assert_close(outputs().mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    for old, new in zip(before, outputs(), strict=True):
        assert torch.corrcoef(torch.stack([old, new]))[0, 1] > 0.999  # the same directions, only larger
    scale_last_layer_to_data(network, network(x).reshape(200, 5, -1)[:, :3], 0.5)
    torch.testing.assert_close(outputs().std(1), torch.tensor([0.5, 0.5, 0.5, 0.25, 0.25]))


def test_what_does_not_vary_or_has_no_last_layer_is_not_spread() -> None:
    dead = torch.nn.Linear(4, 3)
    with torch.no_grad():
        dead.weight[1] = 0.0
    bias = float(dead.bias[1].detach())
    x = torch.randn(50, 4)
    scale_last_layer_to_data(dead, dead(x), 1.0)
    assert float(dead.bias[1].detach()) == bias
    assert not dead.weight[1].any()
    assert torch.isfinite(dead.weight).all()
    torch.testing.assert_close(dead(x).std(0)[[0, 2]], torch.ones(2))
    alone = dead(x[:1])
    scale_last_layer_to_data(dead, alone, 5.0)
    assert torch.equal(dead(x[:1]), alone)
    headless = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())
    old = headless(x)
    scale_last_layer_to_data(headless, old, 1.0)
    assert torch.equal(headless(x), old)
