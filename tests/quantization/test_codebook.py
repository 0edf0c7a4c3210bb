"""The codebook: initialization, moving averages, dead codes, and gradients."""

import math

import pytest
import torch
from support.cases import Case
from torch import Tensor

from vaezoo.core import VAE, Inference
from vaezoo.errors import ConfigError, ShapeError
from vaezoo.networks import Network
from vaezoo.quantization import CodebookEncoder, CodePoint
from vaezoo.registry import create


class Identity(Network):
    """Returns its input, so that codes are in the space of the data."""

    def __init__(self) -> None:
        super().__init__((2, 1), (1, 2, 1), 0)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        return self.scale * x


def quantizer(codes: int = 4, decay: float = 0.9, revival: float = 0.0) -> CodebookEncoder:
    return CodebookEncoder(Identity(), (2, 1), codes=codes, decay=decay, revival=revival)


def points(encoder: CodebookEncoder, x: Tensor) -> CodePoint:
    posterior = encoder(x)
    assert isinstance(posterior, CodePoint)
    return posterior


def advance(encoder: CodebookEncoder, *batches: Tensor) -> None:
    statistics = []
    for x in batches:
        posterior = points(encoder, x)
        inference = Inference(
            x=x,
            z=posterior.value[None],
            log_q=x.new_zeros(1, len(x)),
            posterior=posterior,
            prior=posterior,
            likelihood=posterior,
        )
        statistics.append(encoder.observe(inference))
    with torch.no_grad():
        encoder.after_step(statistics, torch.tensor(0))


def clusters(count: int = 400) -> tuple[Tensor, Tensor]:
    """Returns points (count, 2, 1) around four corners, and the corners (4, 2)."""
    corners = torch.tensor([[-3.0, -3.0], [-3.0, 3.0], [3.0, -3.0], [3.0, 3.0]])
    return (corners[torch.arange(count) % 4] + 0.1 * torch.randn(count, 2)).unsqueeze(-1), corners


def test_codes_are_initialized_by_k_means() -> None:
    encoder, (x, corners) = quantizer(), clusters()
    model = Case("vq-vae").build()
    encoder.initialize(model, [(x[:200], None), (x[200:], None)])
    indices = points(encoder, x).indices[:, 0]
    for code in indices.unique():  # every code is the mean of its vectors
        torch.testing.assert_close(encoder.codebook[code], x[indices == code, :, 0].mean(0), rtol=1e-4, atol=1e-4)
    assert torch.equal(encoder.sums, encoder.codebook) and bool((encoder.counts == 1).all())
    many = quantizer(codes=16)
    many.initialize(model, [(x, None)])
    assert float(torch.cdist(corners, many.codebook).amin(1).max()) < 0.3  # and every cluster has one
    one = quantizer(codes=5)
    one.initialize(model, [(x[:1], None)])  # fewer vectors than codes
    assert torch.isfinite(one.codebook).all()


def test_codes_are_moving_averages_of_the_vectors_that_chose_them() -> None:
    encoder, (x, _) = quantizer(decay=0.75), clusters(40)
    before, counts, sums = encoder.codebook.clone(), encoder.counts.clone(), encoder.sums.clone()
    indices = points(encoder, x).indices[:, 0]
    advance(encoder, x[:10], x[10:])
    for code in range(4):
        mine = x[indices == code, :, 0]
        n = 0.75 * counts[code] + 0.25 * len(mine)
        m = 0.75 * sums[code] + 0.25 * mine.sum(0)
        torch.testing.assert_close(encoder.counts[code], n)
        torch.testing.assert_close(encoder.codebook[code], m / n)
    assert not torch.equal(before, encoder.codebook)


def test_a_dead_code_is_moved_to_a_vector_of_the_batch() -> None:
    encoder, (x, _) = quantizer(decay=0.5, revival=0.1), clusters()
    with torch.no_grad():
        encoder.codebook[3] = encoder.sums[3] = 1e3
    for _ in range(6):
        advance(encoder, x)
    assert float(torch.cdist(encoder.codebook[3:], x[..., 0]).min()) < 0.5
    assert torch.isfinite(encoder.codebook).all()


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_without_revival_a_dead_code_stays_where_it_was(decay: float) -> None:
    encoder, (x, _) = quantizer(decay=decay, revival=0.0), clusters(40)
    with torch.no_grad():
        encoder.codebook[3] = encoder.sums[3] = 1e3
    for _ in range(400):
        advance(encoder, x)
    torch.testing.assert_close(encoder.codebook[3], torch.full((2,), 1e3))
    assert torch.isfinite(encoder.codebook).all()


def model_and_data() -> tuple[VAE, Tensor]:
    case = Case("vq-vae", backbone="conv", likelihood="gaussian")
    return case.build(torch.float64), case.inputs(6, torch.float64)[0]


def test_the_commitment_is_the_squared_distance_to_the_codes() -> None:
    model, x = model_and_data()
    elbo, posterior = model(x), model.encode(x)
    assert isinstance(posterior, CodePoint)
    codes = model.encoder.codebook[posterior.indices].movedim(-1, 1)
    wanted = (posterior.encoded - codes).square().flatten(1).sum(1)
    torch.testing.assert_close(elbo.terms["commitment"], wanted.detach())
    torch.testing.assert_close(elbo.terms["codebook"], wanted.detach())
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + 0.25 * wanted)
    free = create("vq-vae", shape=(1, 8, 8), codes=4, commitment=0)(x.float())
    assert torch.equal(free.losses["model"], free.distortion)


def test_the_decoder_receives_codes_alone() -> None:
    model, x = model_and_data()
    z = model.infer(x).z[0].movedim(1, -1).reshape(-1, 64)
    drawn = model.prior(None).sample((5,)).movedim(1, -1).reshape(-1, 64)
    for vectors in (z, drawn):
        assert float(torch.cdist(vectors.detach(), model.encoder.codebook).amin(1).max()) < 1e-6
    assert model.sample(5, seed=0).shape == (5, 1, 8, 8)
    assert torch.equal(model.reconstruct(x), model.decode(model.infer(x).z[0]).mean)


def test_a_codebook_of_a_single_position_and_of_a_frozen_encoder() -> None:
    model = create("vq-vae", shape=30, latent=5, codes=4, backbone="mlp", likelihood="gaussian")
    x = torch.randn(8, 30)
    elbo = model(x)
    torch.testing.assert_close(elbo.rate, torch.full((8,), math.log(4)))
    model.encoder.requires_grad_(False)
    before = model.encoder.codebook.clone()
    model.after_step([model(x).statistics], torch.tensor(0))
    assert torch.equal(before, model.encoder.codebook)


def test_invalid_codebooks_are_refused() -> None:
    for options in ({"codes": 1}, {"decay": 1.0}, {"commitment": -1.0}, {"revival": float("nan")}, {"codes": 10**9}):
        with pytest.raises(ConfigError, match="vq-vae: option"):
            create("vq-vae", shape=(1, 8, 8), **options)
    with pytest.raises(ShapeError, match="weights"):
        create("vq-vae", shape=(1, 8, 8), latent=(2**13, 2, 2), codes=2**22)
    with pytest.raises(ShapeError, match="'mlp'"):
        create("vq-vae", shape=30)
