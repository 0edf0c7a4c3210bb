"""Codes on two grids: their dependence, and the inputs of the decoder."""

import math

import pytest
import torch
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.errors import ShapeError
from vaezoo.quantization import CodePoint
from vaezoo.registry import create

CONV = {"name": "conv", "channels": [4], "dense": [8]}


def model_and_data(name: str = "vq-vae-2", **options: object) -> tuple[VAE, Tensor]:
    torch.manual_seed(0)
    model = create(name, shape=(1, 8, 8), latent=(6, 20), backbone=CONV, codes=5, **options)
    x = torch.rand(10, 1, 8, 8)
    model.initialize([(x, None)])
    return model, x


def point(model: VAE, x: Tensor) -> CodePoint:
    posterior = model.encode(x)
    assert isinstance(posterior, CodePoint)
    return posterior


def test_each_vector_takes_the_nearest_code_of_its_grid() -> None:
    """Razavi et al., 2019, algorithm 1, by hand."""
    model, x = model_and_data()
    encoder, posterior = model.encoder, point(model, x)
    h = encoder.bottom(x)[:, 0]
    books = [book.codebook for book in encoder.codebooks()]
    top = torch.cdist(encoder.top(h)[:, 0].flatten(2).mT, books[0]).argmin(2)
    e_top = books[0][top].mT.unflatten(2, (2, 2))
    fine = h + encoder.back(e_top)[:, 0]
    bottom = torch.cdist(fine.flatten(2).mT, books[1]).argmin(2)
    assert torch.equal(posterior.indices, torch.cat([top, bottom], 1))
    assert len(top.unique()) > 1 and len(bottom.unique()) > 1
    torch.testing.assert_close(posterior.value, torch.cat([books[0][top], books[1][bottom]], 1).mT)
    wanted = (encoder.top(h)[:, 0] - e_top).square().flatten(1).sum(1)
    wanted = wanted + (fine - books[1][bottom].mT.unflatten(2, (4, 4))).square().flatten(1).sum(1)
    torch.testing.assert_close(model(x).terms["commitment"], wanted.detach())
    torch.testing.assert_close(model(x).rate, torch.full((10,), 20 * math.log(5)))
    assert torch.equal(encoder.indices_of(posterior.value), posterior.indices)
    torch.testing.assert_close(encoder.look_up(posterior.indices), posterior.value)


def test_the_decoder_upsamples_the_coarse_codes() -> None:
    model = model_and_data()[0]
    network, z = model.decoder.network, torch.randn(3, 10, 6, 20)
    coarse = network.back(z[..., :4].reshape(30, 6, 2, 2))[:, 0]
    both = torch.cat([coarse, z[..., 4:].reshape(30, 6, 4, 4)], 1)
    torch.testing.assert_close(network(z), network.up(both).unflatten(0, (3, 10)))


def test_the_coarse_codes_are_first_in_the_learned_prior() -> None:
    model, _ = model_and_data("vq-vae-2+code-prior", prior_width=8, prior_depth=1, prior_heads=2)
    assert model.prior.network.sections == (4, 16)
    drawn = model.prior(None).sample((7,))
    assert drawn.shape == (7, 6, 20)
    torch.testing.assert_close(model.encoder.look_up(model.encoder.indices_of(drawn)), drawn)


def test_another_latent_than_the_grids_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 2\) and \(4, 4\) expected \[6, 20\]"):
        create("vq-vae-2", shape=(1, 8, 8), latent=(6, 4, 4), backbone=CONV)
    assert create("vq-vae-2", shape=30, backbone="mlp").latent == (32, 32)
