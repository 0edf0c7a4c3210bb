"""The backbone resnet: form, grids, upsampling, checkpointing, attention."""

import pytest
import torch
from torch import nn

from vaezoo.backbones.resnet import resnet
from vaezoo.errors import ShapeError
from vaezoo.networks.convolutional import Double
from vaezoo.networks.resnet import Attention, Halve


def test_form_is_that_of_the_autoencoders_of_latent_diffusion() -> None:
    """With f = 8 and 4 channels it has 83,653,863 parameters, 92 of them in 1 x 1 convolutions of the latents."""
    with torch.device("meta"):
        backbone = resnet(channels=(128, 256, 512, 512), blocks=2, attention=True)
        assert backbone.grid((3, 256, 256), 4) == (4, 32, 32)
        down, up = backbone.down((3, 256, 256), (2, 4, 32, 32), 0), backbone.up((4, 32, 32), (1, 3, 256, 256), 0)
    assert sum(p.numel() for net in (down, up) for p in net.parameters()) == 83_653_863 - 92


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("upsampling", ["nearest", "pixel-shuffle"])
def test_grids_of_any_size_are_rounded_up(patch: int, upsampling: str) -> None:
    for depth in (1, 2, 3):
        backbone = resnet(channels=(4,) * depth, patch=patch, upsampling=upsampling)  # type: ignore[arg-type]
        for height, width in ((1, 1), (9, 14), (16, 31)):
            latent, shape, factor = backbone.grid((3, height, width), 2), (3, height, width), patch * 2 ** (depth - 1)
            assert latent == (2, -(-height // factor), -(-width // factor))
            features = backbone.down(shape, (1, *latent), 0)(torch.randn(2, *shape))
            assert backbone.up(latent, (2, *shape), 0)(features[:, 0]).shape == (2, 2, *shape)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_context_has_one_plane_for_each_of_its_numbers_beside_the_patches(patch: int) -> None:
    torch.manual_seed(0)
    shape, c = (3, 9, 14), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    backbone = resnet(channels=(8, 8), patch=patch)  # type: ignore[arg-type]
    grid = backbone.grid(shape, 4)
    down, up = backbone.down(shape, (1, *grid), 2), backbone.up(grid, (1, *shape), 2)
    x = torch.randn(1, *shape).expand(2, *shape)
    features = down(x, c)
    assert down.stages[0].weight.shape[1] == 3 * patch**2 + 2 and features.shape == (2, 1, *grid)
    assert not torch.allclose(features[0], features[1])
    assert up(features[:, 0], c).shape == (2, 1, *shape)


def test_wrong_grid_names_those_that_can_be_reached() -> None:
    with pytest.raises(ShapeError, match=r"grid of 7x7.*28x28 with 1, 14x14 with 2, 7x7 with 3"):
        resnet().down((1, 28, 28), (2, 4, 4, 4), 0)
    with pytest.raises(ShapeError, match="resnet backbone expected"):
        resnet().up((4,), (1, 30), 0)


def test_checkpointing_stores_less_and_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain = resnet(channels=(8, 16), attention=True).down((3, 16, 16), (1, 4, 8, 8), 0)
    saving = resnet(channels=(8, 16), attention=True, checkpointing=True).down((3, 16, 16), (1, 4, 8, 8), 0)
    saving.load_state_dict(plain.state_dict())
    x, stored, gradients = torch.randn(2, 3, 16, 16), [], []
    for net in (plain, saving):
        kept = list[int]()

        def pack(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = net(x).square().sum()
        stored.append(sum(kept))
        gradients.append(torch.autograd.grad(loss, list(net.parameters())))
    assert stored[1] < 0.7 * stored[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_attention_equals_softmax_of_scaled_products() -> None:
    layer = Attention(6).double()
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    positions = layer.normalize(x).flatten(2).transpose(1, 2)
    query, key, value = (
        positions @ weight.T + bias
        for weight, bias in zip(layer.inputs.weight.chunk(3), layer.inputs.bias.chunk(3), strict=True)
    )
    mixed = (query @ key.transpose(1, 2) / 6**0.5).softmax(-1) @ value
    expected = x + layer.output(mixed).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected)


def test_halving_and_doubling() -> None:
    """Even sides are padded at the end alone, as in latent diffusion; nearest neighbors are repeated 2 x 2."""
    halve = Halve(3)
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(halve(x), halve.layer(nn.functional.pad(x, (0, 1, 0, 1))))
    double = Double(3, 3, (8, 7), "nearest")
    small = torch.randn(1, 3, 4, 4)
    larger = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(double(small), double.layer(larger)[..., :7])
    shuffled = Double(3, 3, (8, 8), "pixel-shuffle")
    nn.init.normal_(shuffled.layer.weight)  # the initial kernels of a block are equal
    block = shuffled.layer(small)[0, :4, 1, 2]  # the four values of channel 0 at one position
    torch.testing.assert_close(shuffled(small)[0, 0, 2:4, 4:6].flatten(), block)


def test_attention_without_gradients_is_that_with_them() -> None:
    torch.manual_seed(0)
    layer, x = Attention(8).double(), torch.randn(3, 8, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        found = layer(x)
    assert layer(x).requires_grad and not found.requires_grad
    torch.testing.assert_close(found, layer(x).detach(), rtol=1e-12, atol=1e-12)
