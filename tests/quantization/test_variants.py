"""Quantizers against vector-quantize-pytorch on the same codes.

The library is imported inside tests, since the import takes seconds.
"""

import itertools
import math

import pytest
import torch
from support.cases import Case
from torch import Tensor, nn
from torch.nn.functional import normalize

from vaezoo.errors import ConfigError, ShapeError
from vaezoo.evaluation import evaluate
from vaezoo.networks import Network
from vaezoo.quantization import (
    Codebook,
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


class Given(Network):
    """Returns its input."""

    def __init__(self, width: int = D) -> None:
        super().__init__((width, *GRID), (1, width, *GRID), 0)
        self.scale = nn.Parameter(torch.ones(()))

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        return self.scale * x


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


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_a_codebook_equals_vector_quantize_pytorch(distance: str) -> None:
    from vector_quantize_pytorch import VectorQuantize

    x = encoded()
    ours = CodebookEncoder(Given(), (D, *GRID), codes=16, decay=0.9, revival=0.0, distance=distance)  # type: ignore[arg-type]
    theirs = VectorQuantize(D, codebook_size=16, accept_image_fmap=True, use_cosine_sim=distance == "cosine").eval()
    theirs._codebook.embed.copy_(ours.codebook[None])
    value, indices, _ = theirs(x)
    same(point(ours, x), value, indices)
    if distance == "cosine":
        assert torch.allclose(ours.codebook.norm(dim=1), torch.ones(16))
        rows = x.movedim(1, -1)
        assert torch.equal(point(ours, x).indices, (normalize(rows, dim=-1) @ ours.codebook.T).argmax(-1))


def test_codes_on_the_sphere_stay_there() -> None:
    book = Codebook(4, 3, decay=0.5, revival=0.1, distance="cosine")
    x = encoded(3)
    with torch.no_grad():
        book.kmeans_init(x)
        for _ in range(5):
            book.update([book.batch_statistics(book.quantize(x))])
    torch.testing.assert_close(book.codebook.norm(dim=1), torch.ones(4))


def test_the_rotation_equals_vector_quantize_pytorch() -> None:
    from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

    x, weight = encoded(), torch.randn(20, D, *GRID)
    codes = torch.randn(20, D, *GRID)
    value = straight_through(x, codes, "rotation")
    assert torch.equal(value, codes)  # exactly
    (ours,) = torch.autograd.grad((value * weight).sum(), x)
    rows = x.movedim(1, -1)
    (theirs,) = torch.autograd.grad((rotate_to(rows, codes.movedim(1, -1)) * weight.movedim(1, -1)).sum(), x)
    torch.testing.assert_close(ours, theirs)
    straight = torch.autograd.grad((straight_through(x, codes) * weight).sum(), x)[0]
    assert torch.equal(straight, weight) and not torch.allclose(ours, weight)


def test_the_rotation_keeps_the_angle_and_is_finite_at_zero() -> None:
    """The gradient has the same angle to the vector as it has to the code (Fifty et al., section 4.1)."""
    x, weight, codes = encoded(), torch.randn(20, D, *GRID), torch.randn(20, D, *GRID)
    (grad,) = torch.autograd.grad((straight_through(x, codes, "rotation") * weight).sum(), x)
    cosine = torch.cosine_similarity
    torch.testing.assert_close(cosine(grad, x.detach(), 1), cosine(weight, codes, 1), rtol=1e-4, atol=1e-4)
    for vector, code in ((torch.zeros(1, D), torch.ones(1, D)), (torch.ones(1, D), -torch.ones(1, D))):
        vector.requires_grad_()
        value = straight_through(vector, code, "rotation")
        (grad,) = torch.autograd.grad(value.sum(), vector)
        assert torch.equal(value, code) and torch.isfinite(grad).all()


def residual(depth: int = 3) -> ResidualEncoder:
    return ResidualEncoder(Given(), (D, *GRID), depth, codes=8, decay=0.9, revival=0.0)


def test_residual_codes_equal_vector_quantize_pytorch() -> None:
    from vector_quantize_pytorch import ResidualVQ

    x, ours = encoded(), residual()
    theirs = ResidualVQ(dim=D, codebook_size=8, num_quantizers=3).eval()
    for layer, book in zip(theirs.layers, ours.codebooks(), strict=True):
        layer._codebook.embed.copy_(book.codebook[None])
    value, indices, _ = theirs(x.flatten(2).mT)  # (B, N, D) and (B, N, depth)
    same(point(ours, x), value.mT.unflatten(2, GRID), indices.mT)


def test_the_commitment_of_residual_codes_sums_over_depths() -> None:
    """Lee et al., 2022, equation 9: the squared distance to each partial sum."""
    x, encoder = encoded(), residual()
    posterior, total, wanted = point(encoder, x), torch.zeros_like(x), torch.zeros(20)
    for level in posterior.levels:
        total = total + level.codes
        wanted = wanted + (x - total).square().flatten(1).sum(1)
    torch.testing.assert_close(posterior.distance(), wanted)
    torch.testing.assert_close(encoder.look_up(posterior.indices), posterior.value)
    torch.testing.assert_close(posterior.value.sub(x).square().sum(), (x - total).square().sum())
    (grad,) = torch.autograd.grad(posterior.value.sum(), x)
    assert torch.equal(grad, torch.ones_like(x))


def test_each_residual_codebook_learns_from_its_remainder() -> None:
    x, encoder = encoded(count=200), residual(2)
    model = Case("vae").build()
    encoder.initialize(model, [(x.detach()[:100], None), (x.detach()[100:], None)])
    second = encoder.codebooks()[1]
    posterior = point(encoder, x)
    rest = (x - posterior.levels[0].codes).detach().movedim(1, -1)
    chosen = posterior.levels[1].indices
    before = second.counts[0].clone(), second.sums[0].clone()
    taken = zip(encoder.codebooks(), posterior.levels, strict=True)
    notes = {
        f"{n}.{key}": value
        for n, (book, level) in enumerate(taken)
        for key, value in book.batch_statistics(level).items()
    }
    with torch.no_grad():
        encoder.after_step([notes], torch.tensor(0))
    mine = rest[chosen == 0]
    wanted = (0.9 * before[1] + 0.1 * mine.sum(0)) / (0.9 * before[0] + 0.1 * len(mine))
    torch.testing.assert_close(second.codebook[0], wanted)


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (7, 4), (3,), (4, 3, 6)])
def test_scalar_codes_equal_vector_quantize_pytorch(levels: tuple[int, ...]) -> None:
    from vector_quantize_pytorch import FSQ

    x = encoded(len(levels), spread=2.0)
    ours, theirs = ScalarEncoder(Given(len(levels)), (len(levels), *GRID), levels, "fsq-vae"), FSQ(list(levels))
    value, indices = theirs(x)
    posterior = point(ours, x)
    same(posterior, value, indices)
    weight = torch.randn_like(value)
    gradients = [torch.autograd.grad((each * weight).sum(), x)[0] for each in (posterior.value, value)]
    torch.testing.assert_close(*gradients)
    every = torch.arange(math.prod(levels)).reshape(-1, 1)
    encoder = ScalarEncoder(Given(len(levels)), (len(levels), 1), levels, "fsq-vae")
    torch.testing.assert_close(encoder.look_up(every).squeeze(2), theirs.indices_to_codes(every.flatten()))
    assert torch.equal(encoder.indices_of(encoder.look_up(every)), every)


def test_zero_is_mapped_to_zero() -> None:
    encoder = ScalarEncoder(Given(4), (4, *GRID), (8, 5, 4, 3), "fsq-vae")
    assert not point(encoder, torch.zeros(1, 4, *GRID)).value.any()


def test_signs_and_their_entropy_equal_vector_quantize_pytorch() -> None:
    from vector_quantize_pytorch import LFQ

    x = encoded(6, spread=0.1)
    ours = SignEncoder(Given(6), (6, *GRID), [2] * 6, "lfq-vae")
    theirs = LFQ(dim=6, codebook_size=64, entropy_loss_weight=1.0)
    result, breakdown = theirs(x, inv_temperature=2.0, return_loss_breakdown=True)
    posterior = point(ours, x)
    assert torch.equal(posterior.value, result.quantized)
    bits = (result.indices.flatten(1)[..., None] >> torch.arange(5, -1, -1)) & 1  # theirs has the highest bit first
    assert torch.equal(posterior.indices.flatten(1), (bits << torch.arange(6)).sum(-1))
    found = entropy_penalty(None, Passed(posterior), temperature=0.5)  # type: ignore[arg-type]
    positions, term = math.prod(GRID), breakdown.per_sample_entropy - breakdown.batch_entropy
    torch.testing.assert_close(found.mean() / positions, term, rtol=1e-4, atol=0)  # theirs clamps small probabilities
    gradients = [torch.autograd.grad(each, x, retain_graph=True)[0] for each in (found.mean() / positions, result[2])]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-7)


class Passed:
    """An inference with a posterior alone."""

    def __init__(self, posterior: CodePoint) -> None:
        self.posterior = posterior


@pytest.mark.parametrize("count", [2, 7])
def test_the_entropy_term_equals_a_double_loop(count: int) -> None:
    x = encoded(3, count).double()
    posterior = point(SignEncoder(Given(3), (3, *GRID), [2] * 3, "lfq-vae").double(), x)
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


def test_invalid_lattices_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"4 levels expected 4 numbers at each position: latent = \[4, 2, 2\]"):
        create("fsq-vae", shape=(1, 8, 8), latent=(3, 2, 2))
    with pytest.raises(ShapeError, match="at most 24"):
        create("lfq-vae", shape=(1, 8, 8), latent=(25, 2, 2))
    with pytest.raises(ConfigError, match="codes of fsq-vae"):
        create("fsq-vae", shape=(1, 8, 8), latent=(4, 2, 2), levels=(256,) * 4)
    with pytest.raises(ConfigError, match="levels"):
        create("fsq-vae", shape=(1, 8, 8), levels=(2, 5))


@pytest.mark.parametrize("name", ["fsq-vae", "lfq-vae", "residual-vq-vae"])
def test_the_rate_is_n_log_v_and_lookup_inverts_indices(name: str) -> None:
    model = create(f"{name}+code-prior", shape=(1, 8, 8), prior_width=8, prior_depth=1, prior_heads=2).eval()
    x = torch.rand(6, 1, 8, 8)
    source, indices = model.encoder, model.encode(x).indices.reshape(6, -1)
    nats = sum(source.sections) * math.log(source.codes)
    torch.testing.assert_close(model(x).rate, torch.full((6,), nats))
    assert indices.shape == (6, sum(source.sections)) and int(indices.max()) < source.codes
    torch.testing.assert_close(source.look_up(indices), model.infer(x).z[0])
    drawn = model.prior(None).sample((3,))
    assert drawn.shape == (3, *model.latent)
    if name != "residual-vq-vae":  # other codes may have the same sum
        assert torch.equal(source.indices_of(model.infer(x).z[0]), indices)
        torch.testing.assert_close(source.look_up(source.indices_of(drawn)), drawn)


def test_perplexity_of_several_codebooks_is_their_mean() -> None:
    model = create("residual-vq-vae", shape=(1, 8, 8), codes=4, depth=2)
    x = torch.rand(30, 1, 8, 8)
    with torch.no_grad():
        model.encoder.codebooks()[1].codebook.copy_(
            1e3 + torch.arange(4.0)[:, None]
        )  # one of them alone is ever nearest
        model.encoder.codebooks()[1].codebook[0] = 0.0
    levels = model.encode(x).indices.split(model.encoder.sections, 1)
    shares = [torch.bincount(each.flatten(), minlength=4).double() / each.numel() for each in levels]
    wanted = sum(float(torch.special.entr(each).sum().exp()) for each in shares) / 2
    assert evaluate(model, x, samples=1).perplexity == pytest.approx(wanted)
