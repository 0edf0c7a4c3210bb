"""Quantizers against vector-quantize-pytorch on the same codes, moving averages by hand, and Razavi et al.'s algorithm.

The library is imported inside tests, since the import takes seconds.
"""

import itertools
import math
from typing import cast

import pytest
import torch
from support.cases import Case
from support.networks import Given
from torch import Tensor, nn
from torch.nn.functional import normalize

from vaezoo.core import VAE, Inference
from vaezoo.errors import ConfigError, ShapeError
from vaezoo.evaluation import evaluate
from vaezoo.quantization import (
    CodebookEncoder,
    CodePoint,
    ResidualEncoder,
    ScalarEncoder,
    SignEncoder,
    entropy_penalty,
    straight_through,
)
from vaezoo.registry import create

D, GRID = 5, (3, 4)


def encoded(width: int = D, count: int = 20, spread: float = 1.0) -> Tensor:
    torch.manual_seed(0)
    return (spread * torch.randn(count, width, *GRID)).requires_grad_()


def point(encoder: nn.Module, x: Tensor) -> CodePoint:
    posterior = encoder(x)
    assert isinstance(posterior, CodePoint)
    return posterior


def same(ours: CodePoint, value: Tensor, indices: Tensor) -> None:
    torch.testing.assert_close(ours.value, value)
    assert torch.equal(ours.indices.reshape(len(value), -1), indices.reshape(len(value), -1).long())


def advance(encoder: CodebookEncoder | ResidualEncoder, *batches: Tensor) -> None:
    statistics = []
    for x in batches:
        q = point(encoder, x)
        log_q, z = x.new_zeros(1, len(x)), q.value[None]
        statistics.append(encoder.observe(Inference(x=x, z=z, log_q=log_q, posterior=q, prior=q, likelihood=q)))
    with torch.no_grad():
        encoder.after_step(statistics, torch.tensor(0))


# Codebooks


def quantizer(codes: int = 4, decay: float = 0.9, revival: float = 0.0) -> CodebookEncoder:
    return CodebookEncoder(Given(2, 1), (2, 1), codes=codes, decay=decay, revival=revival)


def clusters(count: int = 400) -> tuple[Tensor, Tensor]:
    """Returns points (count, 2, 1) around four corners, and the corners (4, 2)."""
    corners = torch.tensor([[-3.0, -3.0], [-3.0, 3.0], [3.0, -3.0], [3.0, 3.0]])
    return (corners[torch.arange(count) % 4] + 0.1 * torch.randn(count, 2)).unsqueeze(-1), corners


def test_codes_are_initialized_by_k_means() -> None:
    encoder, (x, corners) = quantizer(), clusters()
    model = Case("vq-vae").build()
    encoder.initialize(model, [(x[:200], None), (x[200:], None)])
    indices = point(encoder, x).indices[:, 0]
    for code in indices.unique():  # every code is the mean of its vectors
        torch.testing.assert_close(encoder.codebook[code], x[indices == code, :, 0].mean(0), rtol=1e-4, atol=1e-4)
    assert torch.equal(encoder.sums, encoder.codebook) and bool((encoder.counts == 1).all())
    many, one = quantizer(codes=16), quantizer(codes=5)
    many.initialize(model, [(x, None)])
    assert float(torch.cdist(corners, many.codebook).amin(1).max()) < 0.3  # and every cluster has one
    one.initialize(model, [(x[:1], None)])  # fewer vectors than codes
    assert torch.isfinite(one.codebook).all()


def test_codes_are_moving_averages_of_the_vectors_that_chose_them() -> None:
    encoder, (x, _) = quantizer(decay=0.75), clusters(40)
    before, counts, sums = encoder.codebook.clone(), encoder.counts.clone(), encoder.sums.clone()
    indices = point(encoder, x).indices[:, 0]
    advance(encoder, x[:10], x[10:])
    for code in range(4):
        mine = x[indices == code, :, 0]
        n = 0.75 * counts[code] + 0.25 * len(mine)
        m = 0.75 * sums[code] + 0.25 * mine.sum(0)
        torch.testing.assert_close(encoder.counts[code], n)
        torch.testing.assert_close(encoder.codebook[code], m / n)
    assert not torch.equal(before, encoder.codebook)


@pytest.mark.parametrize(("decay", "revival", "steps"), [(0.5, 0.1, 6), (0.0, 0.0, 160), (0.5, 0.0, 160)])
def test_a_dead_code_is_moved_to_a_vector_of_the_batch_or_stays(decay: float, revival: float, steps: int) -> None:
    encoder, (x, _) = quantizer(decay=decay, revival=revival), clusters(40)
    with torch.no_grad():
        encoder.codebook[3] = encoder.sums[3] = 1e3
    for _ in range(steps):
        advance(encoder, x)
    if revival:
        assert float(torch.cdist(encoder.codebook[3:], x[..., 0]).min()) < 0.5
    else:
        torch.testing.assert_close(encoder.codebook[3], torch.full((2,), 1e3))
    assert torch.isfinite(encoder.codebook).all()


def test_the_decoder_receives_codes_and_the_commitment_is_the_distance_to_them() -> None:
    case = Case("vq-vae", backbone="conv", likelihood="gaussian")
    model, x = case.build(torch.float64), case.inputs(6, torch.float64)[0]
    elbo, posterior, codebook = model(x), point(model.encoder, x), model.encoder.codebook
    wanted = (posterior.encoded - codebook[posterior.indices].movedim(-1, 1)).square().flatten(1).sum(1)
    torch.testing.assert_close(elbo.terms["commitment"], wanted.detach())
    torch.testing.assert_close(elbo.terms["codebook"], wanted.detach())
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + 0.25 * wanted)
    for z in (model.infer(x).z[0], model.prior(None).sample((5,))):
        vectors = z.movedim(1, -1).reshape(-1, 64).detach()
        assert float(torch.cdist(vectors, codebook).amin(1).max()) < 1e-6
    assert torch.equal(model.reconstruct(x), model.decode(model.infer(x).z[0]).mean)
    free = create("vq-vae", shape=(1, 8, 8), codes=4, commitment=0)(torch.rand(3, 1, 8, 8))
    assert torch.equal(free.losses["model"], free.distortion)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_a_codebook_equals_vector_quantize_pytorch(distance: str) -> None:
    from vector_quantize_pytorch import VectorQuantize

    x = encoded()
    ours = CodebookEncoder(Given(D, *GRID), (D, *GRID), codes=16, decay=0.9, revival=0.0, distance=distance)  # type: ignore[arg-type]
    theirs = VectorQuantize(D, codebook_size=16, accept_image_fmap=True, use_cosine_sim=distance == "cosine").eval()
    theirs._codebook.embed.copy_(ours.codebook[None])
    value, indices, _ = theirs(x)
    same(point(ours, x), value, indices)
    if distance == "cosine":
        rows = normalize(x.movedim(1, -1), dim=-1)
        assert torch.equal(point(ours, x).indices, (rows @ ours.codebook.T).argmax(-1))
        with torch.no_grad():
            ours.kmeans_init(x)
        for _ in range(5):
            advance(ours, x)
        torch.testing.assert_close(ours.codebook.norm(dim=1), torch.ones(16))  # codes stay on the sphere


def test_the_rotation_equals_vector_quantize_pytorch_and_keeps_the_angle() -> None:
    """The gradient has the same angle to the vector as it has to the code (Fifty et al., section 4.1)."""
    from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

    x, weight, codes = encoded(), torch.randn(20, D, *GRID), torch.randn(20, D, *GRID)
    value = straight_through(x, codes, "rotation")
    assert torch.equal(value, codes)  # exactly
    (ours,) = torch.autograd.grad((value * weight).sum(), x)
    rotated = rotate_to(x.movedim(1, -1), codes.movedim(1, -1))
    torch.testing.assert_close(ours, torch.autograd.grad((rotated * weight.movedim(1, -1)).sum(), x)[0])
    straight = torch.autograd.grad((straight_through(x, codes) * weight).sum(), x)[0]
    assert torch.equal(straight, weight) and not torch.allclose(ours, weight)
    cosine = torch.cosine_similarity
    torch.testing.assert_close(cosine(ours, x.detach(), 1), cosine(weight, codes, 1), rtol=1e-4, atol=1e-4)
    for vector, code in ((torch.zeros(1, D), torch.ones(1, D)), (torch.ones(1, D), -torch.ones(1, D))):
        vector.requires_grad_()
        value = straight_through(vector, code, "rotation")
        assert torch.equal(value, code) and torch.isfinite(torch.autograd.grad(value.sum(), vector)[0]).all()


# Several codebooks


def residual(depth: int = 3) -> ResidualEncoder:
    return ResidualEncoder(Given(D, *GRID), (D, *GRID), depth, codes=8, decay=0.9, revival=0.0)


def test_residual_codes_equal_vector_quantize_pytorch() -> None:
    """The commitment is the squared distance to each partial sum (Lee et al., 2022, equation 9)."""
    from vector_quantize_pytorch import ResidualVQ

    x, ours = encoded(), residual()
    theirs = ResidualVQ(dim=D, codebook_size=8, num_quantizers=3).eval()
    for layer, book in zip(theirs.layers, ours.codebooks(), strict=True):
        layer._codebook.embed.copy_(book.codebook[None])
    value, indices, _ = theirs(x.flatten(2).mT)  # (B, N, D) and (B, N, depth)
    posterior, total, wanted = point(ours, x), torch.zeros_like(x), torch.zeros(20)
    same(posterior, value.mT.unflatten(2, GRID), indices.mT)
    for level in posterior.levels:
        total = total + level.codes
        wanted = wanted + (x - total).square().flatten(1).sum(1)
    torch.testing.assert_close(posterior.distance(), wanted)
    torch.testing.assert_close(ours.look_up(posterior.indices), posterior.value)
    assert torch.equal(torch.autograd.grad(posterior.value.sum(), x)[0], torch.ones_like(x))


@pytest.mark.parametrize("grid", [(), GRID])
def test_residual_indices_of_a_sum_are_those_of_all_sums(grid: tuple[int, ...]) -> None:
    """Against an enumeration of all 512 sums; the nearest codes of a sum, one after the other, are often others."""
    x = torch.randn(200, D, *grid)
    encoder = ResidualEncoder(Given(D, *grid), (D, *grid), 3, codes=8, decay=0.9, revival=0.0)
    encoder.initialize(Case("vae").build(), [(x, None)])
    every = torch.cartesian_prod(*[torch.arange(8)] * 3)
    sums = sum(book.codebook[each] for book, each in zip(encoder.codebooks(), every.unbind(1), strict=True))
    posterior = point(encoder, x)
    for z in (posterior.value, sums[torch.randint(512, (7, 200, *grid))].movedim(-1, 2)):
        nearest = every[torch.cdist(z.movedim(-1 - len(grid), -1).reshape(-1, D), sums).argmin(1)]
        found = encoder.indices_of(z)
        assert torch.equal(found.reshape(-1, 3, math.prod(grid)).mT.reshape(-1, 3), nearest)
    assert torch.equal(encoder.indices_of(posterior.value), posterior.indices)
    greedy = CodePoint(x, encoder.quantize(posterior.value)).indices
    assert not torch.equal(greedy, posterior.indices)


def test_each_residual_codebook_learns_from_its_remainder() -> None:
    x, encoder = encoded(count=200).detach(), residual(2)
    encoder.initialize(Case("vae").build(), [(x[:100], None), (x[100:], None)])
    second, posterior = encoder.codebooks()[1], point(encoder, x)
    rest = (x - posterior.levels[0].codes).detach().movedim(1, -1)
    count, total = second.counts[0].clone(), second.sums[0].clone()
    advance(encoder, x)
    mine = rest[posterior.levels[1].indices == 0]
    wanted = (0.9 * total + 0.1 * mine.sum(0)) / (0.9 * count + 0.1 * len(mine))
    torch.testing.assert_close(second.codebook[0], wanted)


def two_grids(name: str = "vq-vae-2", **options: object) -> tuple[VAE, Tensor]:
    torch.manual_seed(0)
    backbone = {"name": "conv", "channels": [4], "dense": [8]}
    model = create(name, shape=(1, 8, 8), latent=(6, 20), backbone=backbone, codes=5, **options)
    x = torch.rand(10, 1, 8, 8)
    model.initialize([(x, None)])
    return model, x


def test_each_vector_takes_the_nearest_code_of_its_grid() -> None:
    """Razavi et al., 2019, algorithm 1, by hand."""
    model, x = two_grids()
    encoder, posterior = model.encoder, cast(CodePoint, model.encode(x))
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
    network, z = model.decoder.network, torch.randn(3, 10, 6, 20)
    coarse = network.back(z[..., :4].reshape(30, 6, 2, 2))[:, 0]  # the decoder upsamples the coarse codes
    both = torch.cat([coarse, z[..., 4:].reshape(30, 6, 4, 4)], 1)
    torch.testing.assert_close(network(z), network.up(both).unflatten(0, (3, 10)))
    learned, _ = two_grids("vq-vae-2+code-prior", prior_width=8, prior_depth=1, prior_heads=2)
    assert learned.prior.network.sections == (4, 16)  # the coarse codes are first
    with pytest.raises(ShapeError, match=r"\(2, 2\) and \(4, 4\) expected \[6, 20\]"):
        create("vq-vae-2", shape=(1, 8, 8), latent=(6, 4, 4), backbone={"name": "conv", "channels": [4]})
    assert create("vq-vae-2", shape=30, backbone="mlp").latent == (32, 32)


def test_perplexity_of_several_codebooks_is_their_mean() -> None:
    model, x = create("residual-vq-vae", shape=(1, 8, 8), codes=4, depth=2), torch.rand(30, 1, 8, 8)
    with torch.no_grad():  # of the second codebook one code alone is ever nearest
        second = model.encoder.codebooks()[1].codebook
        second.copy_(1e3 + torch.arange(4.0)[:, None])
        second[0] = 0.0
    levels = model.encode(x).indices.split(model.encoder.sections, 1)
    shares = [torch.bincount(each.flatten(), minlength=4).double() / each.numel() for each in levels]
    wanted = sum(float(torch.special.entr(each).sum().exp()) for each in shares) / 2
    assert evaluate(model, x, samples=1).perplexity == pytest.approx(wanted)


# Lattices


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (7, 4), (3,), (4, 3, 6)])
def test_scalar_codes_equal_vector_quantize_pytorch(levels: tuple[int, ...]) -> None:
    from vector_quantize_pytorch import FSQ

    x, width = encoded(len(levels), spread=2.0), len(levels)
    ours, theirs = ScalarEncoder(Given(width, *GRID), (width, *GRID), levels, "fsq-vae"), FSQ(list(levels))
    value, indices = theirs(x)
    posterior = point(ours, x)
    same(posterior, value, indices)
    weight = torch.randn_like(value)
    gradients = [torch.autograd.grad((each * weight).sum(), x)[0] for each in (posterior.value, value)]
    torch.testing.assert_close(*gradients)
    every = torch.arange(math.prod(levels)).reshape(-1, 1)
    encoder = ScalarEncoder(Given(width, *GRID), (width, 1), levels, "fsq-vae")
    torch.testing.assert_close(encoder.look_up(every).squeeze(2), theirs.indices_to_codes(every.flatten()))
    assert torch.equal(encoder.indices_of(encoder.look_up(every)), every)
    assert not point(ours, torch.zeros_like(x)).value.any()


class Passed:
    """An inference with a posterior alone."""

    def __init__(self, posterior: CodePoint) -> None:
        self.posterior = posterior


def test_signs_and_their_entropy_equal_vector_quantize_pytorch() -> None:
    from vector_quantize_pytorch import LFQ

    x = encoded(6, spread=0.1)
    posterior = point(SignEncoder(Given(6, *GRID), (6, *GRID), "lfq-vae"), x)
    theirs = LFQ(dim=6, codebook_size=64, entropy_loss_weight=1.0)
    result, breakdown = theirs(x, inv_temperature=2.0, return_loss_breakdown=True)
    assert torch.equal(posterior.value, result.quantized)
    bits = (result.indices.flatten(1)[..., None] >> torch.arange(5, -1, -1)) & 1  # theirs has the highest bit first
    assert torch.equal(posterior.indices.flatten(1), (bits << torch.arange(6)).sum(-1))
    found = entropy_penalty(None, Passed(posterior), temperature=0.5)  # type: ignore[arg-type]
    positions, term = math.prod(GRID), breakdown.per_sample_entropy - breakdown.batch_entropy
    torch.testing.assert_close(found.mean() / positions, term, rtol=1e-4, atol=0)  # theirs clamps small probabilities
    gradients = [torch.autograd.grad(each, x, retain_graph=True)[0] for each in (found.mean() / positions, result[2])]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-7)


def test_the_entropy_of_a_vector_is_that_of_one_position() -> None:
    x = torch.randn(6, 3)
    one, grid = (SignEncoder(Given(*size), size, "lfq-vae") for size in ((3,), (3, 1)))
    vector, column = Passed(point(one, x)), Passed(point(grid, x[:, :, None]))
    found, wanted = (entropy_penalty(None, each, temperature=0.7) for each in (vector, column))  # type: ignore[arg-type]
    assert torch.equal(found, wanted) and found.shape == (6,)


@pytest.mark.parametrize("count", [2, 7])
def test_the_entropy_term_equals_a_double_loop(count: int) -> None:
    x = encoded(3, count).double()
    posterior = point(SignEncoder(Given(3, *GRID), (3, *GRID), "lfq-vae").double(), x)
    codes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=torch.float64)
    rows, wanted, mean = x.movedim(1, -1).reshape(count, -1, 3), [], torch.zeros(8, dtype=torch.float64)
    for example in rows:
        total = torch.zeros((), dtype=torch.float64)
        for vector in example:
            q = (-(vector - codes).square().sum(1) / 0.7).softmax(0)
            total, mean = total - (q * q.log()).sum(), mean + q / (count * len(example))
        wanted.append(total)
    expected = torch.stack(wanted) + rows.shape[1] * (mean * mean.log()).sum()
    found = entropy_penalty(None, Passed(posterior), temperature=0.7)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected)


# The variants


@pytest.mark.parametrize("name", ["fsq-vae", "lfq-vae", "residual-vq-vae", "vq-vae"])
def test_the_rate_is_n_log_v_and_lookup_inverts_indices(name: str) -> None:
    model = create(f"{name}+code-prior", shape=(1, 8, 8), prior_width=8, prior_depth=1, prior_heads=2).eval()
    x = torch.rand(6, 1, 8, 8)
    source, indices, z = model.encoder, model.encode(x).indices.reshape(6, -1), model.infer(x).z[0]
    elbo = model(x)
    torch.testing.assert_close(elbo.rate, torch.full((6,), sum(source.sections) * math.log(source.codes)))
    torch.testing.assert_close(elbo.bound, -elbo.distortion - elbo.rate)
    torch.testing.assert_close(model.log_evidence(x, samples=3), elbo.bound)
    assert indices.shape == (6, sum(source.sections)) and int(indices.max()) < source.codes
    torch.testing.assert_close(source.look_up(indices), z)
    drawn = model.prior(None).sample((3,))
    assert drawn.shape == (3, *model.latent)
    assert torch.equal(source.indices_of(z), indices)
    torch.testing.assert_close(source.look_up(source.indices_of(drawn)), drawn)


INVALID: list[tuple[str, type[Exception], str, dict[str, object]]] = [
    ("vq-vae", ConfigError, "vq-vae: option", {"codes": 1}),
    ("vq-vae", ConfigError, "vq-vae: option", {"decay": 1.0}),
    ("vq-vae", ConfigError, "vq-vae: option", {"commitment": -1.0}),
    ("vq-vae", ConfigError, "vq-vae: option", {"codes": 10**9}),
    ("vq-vae", ShapeError, "weights", {"latent": (2**13, 2, 2), "codes": 2**22}),
    ("vq-vae", ShapeError, "'mlp'", {"shape": 30}),
    ("fsq-vae", ShapeError, r"4 levels expected 4 .* position: latent = \[4, 2, 2\]", {"latent": (3, 2, 2)}),
    ("fsq-vae", ConfigError, "codes of fsq-vae", {"latent": (4, 2, 2), "levels": (256,) * 4}),
    ("fsq-vae", ConfigError, "levels", {"levels": (2, 5)}),
    ("lfq-vae", ShapeError, "at most 24", {"latent": (25, 2, 2)}),
]


@pytest.mark.parametrize(("name", "kind", "words", "options"), INVALID)
def test_invalid_codes_are_refused(name: str, kind: type[Exception], words: str, options: dict[str, object]) -> None:
    with pytest.raises(kind, match=words):
        create(name, **{"shape": (1, 8, 8), **options})  # type: ignore[arg-type]  # by name
