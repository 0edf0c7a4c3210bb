"""Networks of deep compression autoencoders: attention, batch normalization, shapes, and options that do not fit."""

from typing import Any

import pytest
import torch
from torch.nn.functional import conv2d
from torch.testing import assert_close

import vaezoo
from vaezoo.core import VAE
from vaezoo.errors import ConfigError, ShapeError
from vaezoo.networks.diffusers_dc import LinearAttention, StoredBatchNormalization

SMALL = {"channels": [4, 8], "blocks": [1, 1], "attention": [False, True], "scales": [[], [3]], "head_width": 4}


def created(shape: tuple[int, ...] = (3, 8, 8), variant: str = "ae", **options: Any) -> VAE:
    torch.manual_seed(0)
    backbone = {"name": "diffusers-dc", **SMALL, **options.pop("backbone", {})}
    return vaezoo.create(variant, shape=shape, backbone=backbone, likelihood="gaussian", **options)


@torch.no_grad()
def test_attention_is_that_of_all_pairs_of_positions() -> None:
    """By a loop over heads and positions, whose cost is quadratic."""
    torch.manual_seed(0)
    attention = LinearAttention(8, 4, [3], "rms").double()
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    single = torch.einsum("oc,nchw->nohw", attention.inputs.weight, x)
    near = conv2d(single, attention.scales[0].proj_in.weight, padding=1, groups=24)  # type: ignore[union-attr]
    near = conv2d(near, attention.scales[0].proj_out.weight, groups=6)  # type: ignore[union-attr]
    heads = torch.cat([single, near], 1).reshape(2, 4, 12, 15)
    found = torch.zeros(2, 4, 4, 15, dtype=torch.float64)
    for n in range(2):
        for head in range(4):
            query, key, value = heads[n, head].chunk(3)
            for i in range(15):
                weights = (key.relu() * query.relu()[:, i : i + 1]).sum(0)
                found[n, head, :, i] = value @ weights / weights.sum() if weights.sum() > 0 else 0.0
    mixed = torch.einsum("oc,nchw->nohw", attention.output.weight, found.reshape(2, 16, 3, 5))
    expected = x + mixed / (mixed.square().mean(1, keepdim=True) + 1e-5).sqrt()
    assert_close(attention(x), expected)


def test_batch_normalization_has_stored_moments_and_keeps_examples_independent() -> None:
    layer = StoredBatchNormalization(3).train()
    layer.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))  # type: ignore[operator, union-attr]
    layer.running_var.fill_(4.0)  # type: ignore[operator, union-attr]
    x = torch.randn(5, 3, 2, 2)
    expected = (x - torch.tensor([1.0, 2.0, 3.0])[:, None, None]) / (4.0 + 1e-5) ** 0.5
    assert_close(layer(x), expected)
    assert_close(layer(x[:1]), expected[:1])
    assert layer.running_mean.tolist() == [1.0, 2.0, 3.0]  # type: ignore[operator, union-attr]


@pytest.mark.parametrize("latent", [7, (2, 4, 4)])
@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("options", [{}, {"blocks": [0, 1]}, {"down_shuffle": False, "up_shuffle": False}])
def test_shapes_contexts_and_gradients(latent: object, context: int, options: dict[str, Any]) -> None:
    model = created((3, 7, 8), latent=latent, context=context, backbone=options)
    x, c = torch.rand(2, 3, 7, 8), torch.eye(3)[:2] if context else None
    model(x, c).losses["model"].mean().backward()
    gradients = [each.grad for each in model.parameters()]
    assert all(each is not None and bool(each.isfinite().all()) for each in gradients)
    assert model.reconstruct(x, c).shape == x.shape


def test_posterior_with_two_outputs_has_its_shortcut_in_the_mean_alone() -> None:
    model = created(variant="kl-autoencoder", latent=(2, 4, 4))
    head = model.encoder.network.head
    with torch.no_grad():
        head.layer.weight.zero_()
        head.layer.bias.zero_()
    posterior = model.encode(torch.rand(2, 3, 8, 8))
    assert bool((posterior.stddev == 1.0).all()) and bool(posterior.mean.any())


@pytest.mark.parametrize("first", [0, 1])
def test_decoder_starts_at_the_mean_color(first: int) -> None:
    model = created(latent=(2, 4, 4), backbone={"blocks": [first, 1]})
    network, color = model.decoder.network, torch.tensor([0.1, 0.5, 0.9])
    with torch.no_grad():
        network.last_layer().weight.zero_()
        network.set_output_bias(color.reshape(1, 3, 1, 1).expand(1, 3, 8, 8))
        pixels = network(torch.randn(2, 2, 4, 4))
    assert_close(pixels, color.reshape(3, 1, 1).expand(2, 1, 3, 8, 8))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"blocks": [1]}, ConfigError, "1 entries in blocks for 2 grids"),
        ({"up_attention": [True]}, ConfigError, "1 entries in attention for 2 grids"),
        ({"blocks": [1, 0]}, ConfigError, "at least 1 on each grid but the first"),
        ({"channels": [4, 12]}, ConfigError, "multiple of the other"),
        ({"channels": [4, 6]}, ConfigError, "multiple of"),
        ({"scales": [[], [2]]}, ConfigError, "odd sizes"),
        ({"head_width": 16}, ConfigError, "head_width = 16"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        created(latent=(2, 4, 4), backbone=options)


def test_latents_that_do_not_divide_the_last_width_are_refused() -> None:
    with pytest.raises(ShapeError, match="3 channels beside 8"):
        created(latent=(3, 4, 4))
