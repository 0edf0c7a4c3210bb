"""Backbones: shapes, leading dimensions, contexts, precision, limits, and initialization from data."""

import pytest
import torch
from support.cases import SMALL_BACKBONES, Case, shaped
from torch import Tensor

import vaezoo
from vaezoo.backbones import Backbone
from vaezoo.backbones.conv import conv
from vaezoo.core import VAE, Part, seeded
from vaezoo.errors import ShapeError
from vaezoo.networks import MLP, scale_last_layer_to_data
from vaezoo.networks.network import ACTIVATIONS, LARGE_NETWORK, Network
from vaezoo.registry import backbones, recreate, variants, with_requirements

SIZES = ((1, 1, 1), (1, 2, 1), (3, 2, 3), (1, 5, 4), (2, 17, 23), (1, 28, 28), (1, 33, 64))


def make(name: str, **options: object) -> Backbone:
    return backbones.get(name)(**SMALL_BACKBONES.get(name, {}) | options)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("name", backbones.names())
def test_down_and_up_at_any_size(name: str, shape: tuple[int, ...], context: int) -> None:
    backbone, c, shape = make(name), torch.randn(4, context) if context else None, shaped(name, shape)
    for latent in ((7,), backbone.grid(shape, 4)):
        down, up = backbone.down(shape, (2, *latent), context), backbone.up(latent, (3, *shape), context)
        features = down(torch.randn(4, *shape), c)
        assert features.shape == (4, 2, *latent) and up(features[:, 0], c).shape == (4, 3, *shape)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("name", backbones.names())
def test_any_leading_dimensions_broadcast_the_context(name: str, context: int) -> None:
    shape = shaped(name, (1, 8, 8))
    up = make(name).up((4,), (1, *shape), context).double()
    z = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    c = torch.randn(5, context, dtype=torch.float64) if context else None
    whole = up(z, c)
    assert whole.shape == (2, 3, 5, 1, *shape)
    torch.testing.assert_close(whole[1, 2], up(z[1, 2], c))
    torch.testing.assert_close(whole[1, 2, 4], up(z[1, 2, 4], None if c is None else c[4]))
    torch.testing.assert_close(whole[1, 2, 4], up(z[1, 2, 4], None if c is None else c[4:]))
    if c is not None:
        assert not torch.allclose(whole, up(z, c + 1.0)) and up(z[:, :, :0], c[:0]).shape == (2, 3, 0, 1, *shape)


def test_gated_layers_are_products_of_a_linear_map_and_a_sigmoid_of_another() -> None:
    gated = make("mlp", hidden=(6, 3), gated=True)
    down, up = gated.down((1, 2, 2), (2, 4), 5), gated.up((4,), (1, 2, 2), 0)
    x, c = torch.randn(7, 1, 2, 2), torch.randn(7, 5)
    first, second = (layer for layer in down.layers if isinstance(layer, torch.nn.Linear))
    h = torch.cat([x.flatten(1), c], 1)
    for layer in (first, second):
        linear, gate = (layer.weight @ h.T).T.add(layer.bias).tensor_split(2, 1)
        h = linear / (1.0 + (-gate).exp())
    torch.testing.assert_close(down(x, c).flatten(1), down.head(h))
    assert [tuple(p.shape) for p in up.parameters()] == [(6, 4), (6,), (12, 3), (12,), (4, 6), (4,)]


@pytest.mark.parametrize("name", backbones.names())
def test_any_activation_precision_and_last_bias(name: str) -> None:
    shape = shaped(name, (1, 8, 8))
    for activation in ACTIVATIONS:
        option = {"activations": (activation,) * 2} if name == "diffusers-dc" else {"activation": activation}
        backbone = make(name, **option)
        for dtype in (torch.float64, torch.bfloat16):
            found = backbone.down(shape, (2, 4), 3).to(dtype)(torch.randn(2, *shape), torch.randn(2, 3))
            assert found.dtype == dtype and torch.isfinite(found).all()
    up, target = make(name).up((4,), (2, *shape), 0), torch.randn(2, *shape)
    if name == "resnet" or name.startswith("diffusers-"):  # they have one bias for each channel
        target = torch.randn(2, 1, 1, 1).expand(2, 1, 8, 8)
    up.set_output_bias(torch.zeros_like(target))
    before = up(torch.zeros(1, 4))
    up.set_output_bias(target)
    torch.testing.assert_close(up(torch.zeros(1, 4)) - before, target[None])


@pytest.mark.parametrize("kernel", [3, 4, 5, 7])
def test_conv_meets_every_grid_exactly(kernel: int) -> None:
    for depth in (1, 2, 3, 5):
        backbone = conv(channels=(2,) * depth, kernel=kernel, blocks=1, dense=(4,))
        for height, width in ((1, 1), (9, 14), (31, 32)):
            shape = (1, height, width)
            latent = backbone.grid(shape, 2)
            assert latent[1:] == (-(-height // 2**depth), -(-width // 2**depth))
            down, up = backbone.down(shape, (1, *latent), 0), backbone.up(latent, (1, *shape), 0)
            x: Tensor = up(down(torch.randn(2, *shape))[:, 0])
            assert x.shape == (2, 1, *shape)
            biases = [layer.bias is not None for layer in up.modules() if isinstance(layer, torch.nn.ConvTranspose2d)]
            assert biases == [True] * (depth - 1) + [False]  # the offset replaces the last one


def test_kernels_of_four_are_plain_strided_convolutions_on_even_grids() -> None:
    """As in the VQ-VAE paper: 4 x 4, stride 2, padding 1, and their transposes."""
    backbone = conv(channels=(3, 5), kernel=4)
    down, up = backbone.down((1, 8, 12), (1, 4, 2, 3), 0), backbone.up((4, 2, 3), (1, 1, 8, 12), 0)
    for network, kind in ((down, torch.nn.Conv2d), (up, torch.nn.ConvTranspose2d)):
        layers = [each for each in network.modules() if type(each) is kind and each.kernel_size == (4, 4)]
        found = [(each.stride, each.padding, each.output_padding) for each in layers]
        assert found == [((2, 2), (1, 1), (0, 0))] * 2
    x, layer = torch.randn(2, 1, 7, 5), conv(channels=(3,), kernel=4).down((1, 7, 5), (1, 3, 4, 3), 0).stages
    strided = next(each for each in layer.modules() if isinstance(each, torch.nn.Conv2d))
    padded = torch.nn.functional.pad(x, (0, 1, 0, 1))  # odd sides are rounded up
    torch.testing.assert_close(layer(x), torch.nn.functional.silu(strided(padded)))


def spread_within_the_borders(network: Network, latent: tuple[int, ...], border: int) -> float:
    """Returns the largest difference of outputs away from the borders, for a grid of equal features."""
    features = torch.randn(latent[0], dtype=torch.float64)[:, None, None].expand(latent)
    inner = network.double()(features[None]).detach()[0, 0, 0, border:-border, border:-border]
    return float((inner - inner.mean()).abs().max() / inner.abs().mean())


@pytest.mark.parametrize("kernel", [3, 4, 5])
@pytest.mark.parametrize("upsampling", ["transposed", "nearest", "pixel-shuffle"])
def test_upsampling_decides_on_the_checkerboard(upsampling: str, kernel: int) -> None:
    """Zeros outside of the image change at most 2 x 3 pixels of each of three grids, of which the first are doubled."""
    with seeded(0):
        backbone = conv(channels=(6, 6), kernel=kernel, upsampling=upsampling, blocks=1)  # type: ignore[arg-type]
        up = backbone.up((4, 16, 15), (1, 1, 64, 59), 0)
        spread = spread_within_the_borders(up, (4, 16, 15), 20)
        assert spread > 1e-2 if upsampling == "transposed" else spread < 1e-12
        for weight in up.parameters():  # as after training; offsets are learned pixel by pixel
            weight.data.add_(torch.randn_like(weight) * (weight is not up.offset))
        trained = spread_within_the_borders(up, (4, 16, 15), 20)
        assert trained < 1e-12 if upsampling == "nearest" else trained > 1e-2


@pytest.mark.parametrize("kernel", [3, 4, 5, 7])
@pytest.mark.parametrize("upsampling", ["nearest", "pixel-shuffle"])
def test_every_upsampling_meets_odd_grids(upsampling: str, kernel: int) -> None:
    for height, width in ((1, 1), (9, 14), (31, 32)):
        backbone = conv(channels=(2, 3, 2), kernel=kernel, upsampling=upsampling)  # type: ignore[arg-type]
        latent = backbone.grid((1, height, width), 2)
        assert backbone.up(latent, (2, 3, height, width), 0)(torch.randn(4, *latent)).shape == (4, 2, 3, height, width)


def test_configs_without_upsampling_build_the_networks_of_earlier_versions() -> None:
    earlier = {"name": "conv", "channels": [4, 4], "dense": [8], "blocks": 0, "kernel": 3, "activation": "silu"}
    model = recreate("conv-vae", {}, shape=(1, 9, 9), latent=3, backbone=earlier)
    layers = [each for each in model.decoder.modules() if isinstance(each, torch.nn.ConvTranspose2d)]
    assert [tuple(each.weight.shape) for each in layers] == [(4, 4, 3, 3), (4, 1, 3, 3)]
    bundled = vaezoo.load("conv-vae-mnist")  # with all names and shapes of its file
    assert any(isinstance(each, torch.nn.ConvTranspose2d) for each in bundled.decoder.modules())


def test_conv_lists_the_grids_that_it_can_reach() -> None:
    conv = make("conv")
    with pytest.raises(ShapeError, match=r"\[4, 5, 5\].*7x7.*14x14 with 1, 7x7 with 2, 4x4 with 3"):
        conv.down((1, 28, 28), (2, 4, 5, 5), 0)
    for build, *arguments in (
        (conv.up, (4, 5, 5), (1, 1, 28, 28), 0),
        (conv.down, (30,), (2, 4), 0),
        (conv.up, (4,), (1, 30), 0),
        (conv.grid, (30,), 4),
    ):
        with pytest.raises(ShapeError):
            build(*arguments)


def test_networks_that_are_too_large_are_refused_before_they_are_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, one = conv(channels=(8192,) * 8, kernel=7), conv(channels=(8192,))
    for build in (
        lambda: MLP((2**20,), (2**20,), 0, [], "relu"),
        lambda: wide.down((1, 64, 64), (2, 4), 0),
        lambda: wide.up((4,), (1, 1, 64, 64), 0),
        lambda: one.down((1, 2, 2), (2, 2**23, 1, 1), 0),
        lambda: one.up((2**23, 1, 1), (1, 1, 2, 2), 0),
    ):
        with pytest.raises(ShapeError, match="17,179,869,184"):
            build()
    monkeypatch.setattr("vaezoo.networks.network.LARGE_NETWORK", 999)
    with pytest.warns(UserWarning, match=r"1,000 weights.*'conv'"):
        MLP((100,), (10,), 0, [], "relu")
    with torch.device("meta"):
        MLP((2**15,), (2**15,), 0, [], "relu")  # no memory, no warning


def on_meta(name: str, *shape: int, backbone: object = None) -> VAE:
    with torch.device("meta"):
        return vaezoo.create(name, shape=shape, **({} if backbone is None else {"backbone": backbone}))


@pytest.mark.parametrize("shape", [(3, 256, 256), (3, 512, 512), (1, 1100, 2000)])
def test_defaults_for_large_images_have_a_bounded_size(shape: tuple[int, ...]) -> None:
    model = on_meta("conv-vae", *shape)
    for each in (model, on_meta("vae", *shape, backbone={"name": "conv", "dense": [128]})):
        assert all(parameter.numel() < LARGE_NETWORK / 8 for parameter in each.parameters())
    again = on_meta("vae", *shape, backbone=model.config["architecture"]["backbone"])  # a config keeps its meaning
    assert [p.shape for p in again.encoder.parameters()] == [p.shape for p in model.encoder.parameters()]


def test_defaults_for_small_images_and_for_grids_stay() -> None:
    own = {"name": "conv", "channels": [8, 8, 8, 8]}
    for name, side, backbone, channels in (
        ("conv-vae", 128, None, [32, 64]),
        ("conv-vae", 28, None, [32, 64]),
        ("vq-vae", 512, None, [32, 64]),
        ("top-down-vae", 512, None, [32, 64]),
        ("conv-vae", 512, own, [8, 8, 8, 8]),
    ):
        model = on_meta(name, 3, side, side, backbone=backbone)
        assert model.config["architecture"]["backbone"]["channels"] == channels


def test_the_advice_for_large_networks_works() -> None:
    backbone = {"name": "conv", "channels": [32, 64], "dense": [4096]}
    with pytest.raises(ShapeError, match=r"channels.*dense"):
        on_meta("vae", 3, 2048, 2048, backbone=backbone)
    on_meta("vae", 3, 2048, 2048, backbone=backbone | {"channels": [32, 64, 64, 64, 64]})
    on_meta("vae", 3, 2048, 2048, backbone=backbone | {"dense": [64]})
    with pytest.raises(ShapeError, match="'conv'"):
        on_meta("vae", 3, 4096, 4096)
    on_meta("vae", 3, 4096, 4096, backbone="conv")


IMAGE = (1, 9, 8)
NETWORKS = {
    "linear": lambda: (torch.nn.Linear(6, 5), (6,)),
    "linear without bias": lambda: (torch.nn.Linear(6, 5, bias=False), (6,)),
    "convolution": lambda: (torch.nn.Conv2d(1, 5, 3), IMAGE),
    "mlp": lambda: (make("mlp").down(IMAGE, (5,), 0), IMAGE),
    "gated mlp": lambda: (make("mlp", gated=True).down(IMAGE, (5,), 0), IMAGE),
    "conv to a vector": lambda: (make("conv").down(IMAGE, (5,), 0), IMAGE),
    "conv to a grid": lambda: (make("conv").down(IMAGE, (1, *make("conv").grid(IMAGE, 5)), 0), IMAGE),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_last_layers_are_scaled_to_data(kind: str) -> None:
    torch.manual_seed(0)
    network, shape = NETWORKS[kind]()
    x = 5.0 + torch.randn(200, *shape)

    def outputs() -> Tensor:
        return network(x).detach().reshape(200, 5, -1).transpose(0, 1).flatten(1)

    before = outputs()
    scale_last_layer_to_data(network, network(x).reshape(200, 5, -1), 0.25)
    torch.testing.assert_close(outputs().std(1), torch.full((5,), 0.25))
    if kind != "linear without bias":
        torch.testing.assert_close(outputs().mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    for old, new in zip(before, outputs(), strict=True):
        assert torch.corrcoef(torch.stack([old, new]))[0, 1] > 0.999  # only the scale differs
    scale_last_layer_to_data(network, network(x).reshape(200, 5, -1)[:, :3], 0.5)
    torch.testing.assert_close(outputs().std(1), torch.tensor([0.5, 0.5, 0.5, 0.25, 0.25]))


def test_constant_outputs_and_networks_without_a_last_layer_are_not_scaled() -> None:
    constant, x = torch.nn.Linear(4, 3), torch.randn(50, 4)
    with torch.no_grad():
        constant.weight[1] = 0.0
    bias = float(constant.bias[1].detach())
    scale_last_layer_to_data(constant, constant(x), 1.0)
    assert float(constant.bias[1].detach()) == bias and not constant.weight[1].any()
    torch.testing.assert_close(constant(x).std(0)[[0, 2]], torch.ones(2))
    for network, rows in ((constant, x[:1]), (torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh()), x)):
        old = network(rows)
        scale_last_layer_to_data(network, old, 5.0)
        assert torch.equal(network(rows), old)


@pytest.mark.parametrize("name", variants.names())
def test_models_accept_networks_that_take_x_alone(name: str) -> None:
    case = Case(with_requirements(name), context=3 if variants.get(name).context != "optional" else 0)
    model, (x, c) = case.build().eval(), case.inputs(3)
    with seeded(1), torch.no_grad():
        expected = model(x, c)
    for part in [module for module in model.modules() if isinstance(module, Part)]:
        for key, network in list(part.named_children()):
            if isinstance(network, Network) and not network.context:
                setattr(part, key, torch.nn.Sequential(network))  # whose `forward` has one argument
    with seeded(1), torch.no_grad():
        assert torch.equal(model(x, c).rate, expected.rate)
