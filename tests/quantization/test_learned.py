"""Quantizers that are learned by gradients, groups and unit vectors, against vector-quantize-pytorch and plain loops.

The library is imported inside tests, since the import takes seconds.
"""

import itertools
import math

import pytest
import torch
from support.cases import Case
from support.networks import Given
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence

from vaezoo.core import VAE, Inference
from vaezoo.errors import ShapeError
from vaezoo.quantization import (
    CodebookEncoder,
    CodePoint,
    Gradient,
    GroupedEncoder,
    IndexEncoder,
    LinearCodebookEncoder,
    SphereEncoder,
    StochasticCodes,
    StochasticEncoder,
    UniformCodes,
    bit_entropy,
    codebook_distance,
    commitment_distance,
    index_distance,
    index_entropy,
    orthogonality,
    straight_through,
)
from vaezoo.registry import create

D, GRID, CODES = 6, (3, 4), 16


def vectors(count: int = 20, spread: float = 1.0) -> Tensor:
    torch.manual_seed(0)
    return (spread * torch.randn(count, D, *GRID)).requires_grad_()


def point(encoder: nn.Module, x: Tensor) -> CodePoint:
    posterior = encoder(x)
    assert isinstance(posterior, CodePoint)
    return posterior


def inference(encoder: nn.Module, x: Tensor) -> Inference:
    q = encoder(x)
    return Inference(x=x, z=q.center[None], log_q=x.new_zeros(1, len(x)), posterior=q, prior=q, likelihood=q)


class Only:
    """A model with an encoder alone."""

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder


# One linear map of constant vectors


def linear(gradient: Gradient = "straight-through", from_data: bool = False) -> LinearCodebookEncoder:
    torch.manual_seed(1)
    encoder = LinearCodebookEncoder(Given(D, *GRID), (D, *GRID), codes=CODES, gradient=gradient, from_data=from_data)
    with torch.no_grad():
        encoder.map.copy_(torch.randn(D, D))
    return encoder


@pytest.mark.parametrize("gradient", ["straight-through", "rotation"])
def test_a_linear_codebook_equals_vector_quantize_pytorch(gradient: Gradient) -> None:
    """Values, indices, the two distances and all gradients, of inputs and of the map."""
    from vector_quantize_pytorch import SimVQ

    x, ours = vectors(), linear(gradient)
    theirs = SimVQ(D, CODES, channel_first=True, rotation_trick=gradient == "rotation")
    theirs.frozen_codebook.copy_(ours.codebook)
    theirs.code_transform.weight.data.copy_(ours.map)
    value, indices, loss = theirs(x)
    q = point(ours, x)
    torch.testing.assert_close(q.value, value)
    assert torch.equal(q.indices, indices) and len(indices.unique()) > 5
    drawn = inference(ours, x)
    distances = codebook_distance(None, drawn) + 0.25 * commitment_distance(None, drawn)  # type: ignore[arg-type]
    mine = distances.sum() / x.numel()  # theirs is the mean over elements
    torch.testing.assert_close(mine, loss)
    weight = torch.randn_like(value)
    for one, other in ((mine, loss), ((q.value * weight).sum(), (value * weight).sum())):
        found = torch.autograd.grad(one, [x, ours.map], allow_unused=True, retain_graph=True)
        wanted = torch.autograd.grad(other, [x, theirs.code_transform.weight], allow_unused=True, retain_graph=True)
        torch.testing.assert_close(found[0], wanted[0])
        # The decoder's loss trains the encoder alone; that library's rotation has a gradient for the length of a code.
        assert found[1] is None or torch.allclose(found[1], wanted[1], rtol=1e-4, atol=1e-6)
    assert not any(parameter is ours.codebook for parameter in ours.parameters())


def test_a_linear_codebook_starts_from_data_on_request() -> None:
    x = vectors(200).detach()
    model, plain, fitted = Case("vae").build(), linear(), linear(from_data=True)
    before = plain.codebook.clone()
    for encoder in (plain, fitted):
        encoder.initialize(model, [(x[:100], None), (x[100:], None)])
    assert torch.equal(plain.codebook, before)
    rows = x.movedim(1, -1).reshape(-1, D)
    chosen = torch.cdist(rows, fitted.codebook).argmin(1)
    for code in chosen.unique():  # after ten rounds centers still move a little
        torch.testing.assert_close(fitted.codebook[code], rows[chosen == code].mean(0), rtol=0, atol=0.1)
    assert len(chosen.unique()) == CODES


def test_a_code_that_no_vector_chooses_moves_with_the_map() -> None:
    model = create("sim-vq-vae", shape=(1, 8, 8), latent=(D, 2, 2), codes=512)
    x = torch.rand(8, 1, 8, 8)
    before, used = model.encoder.table().detach(), model.encode(x).indices.unique()
    optimizer = torch.optim.Adam([model.encoder.map], 1e-2)
    model(x).losses["model"].mean().backward()
    optimizer.step()
    moved = (model.encoder.table() - before).norm(dim=1) > 1e-4
    assert len(used) < 40 and float(moved.float().mean()) > 0.95


# Groups


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_groups_equal_vector_quantize_pytorch(distance: str) -> None:
    from vector_quantize_pytorch import GroupedResidualVQ

    x, cosine = vectors(), distance == "cosine"
    ours = GroupedEncoder(
        Given(D, *GRID),
        (D, *GRID),
        2,
        codes=8,
        decay=0.9,
        revival=0.0,
        distance=distance,  # type: ignore[arg-type]
    )
    theirs = GroupedResidualVQ(dim=D, groups=2, num_quantizers=1, codebook_size=8, use_cosine_sim=cosine).eval()
    for group, book in zip(theirs.rvqs, ours.codebooks(), strict=True):
        group.layers[0]._codebook.embed.copy_(book.codebook[None])
    value, indices, _ = theirs(x.flatten(2).mT)  # (B, N, D) and (groups, B, N, 1)
    q = point(ours, x)
    torch.testing.assert_close(q.value, value.mT.unflatten(2, GRID))
    assert torch.equal(q.indices, indices[..., 0].movedim(0, 1).flatten(1))
    assert torch.equal(ours.look_up(q.indices), q.value) and torch.equal(ours.indices_of(q.value), q.indices)
    parts = torch.cat([book.project(part) for book, part in zip(ours.codebooks(), x.chunk(2, 1), strict=True)], 1)
    torch.testing.assert_close(q.distance(), (parts - q.value).square().flatten(1).sum(1))
    if not cosine:
        assert torch.equal(torch.autograd.grad(q.value.sum(), x)[0], torch.ones_like(x))


def test_each_group_has_the_updates_of_a_codebook_of_its_channels() -> None:
    x = vectors(200).detach()
    both = GroupedEncoder(Given(D, *GRID), (D, *GRID), 2, codes=8, decay=0.75, revival=0.0)
    both.initialize(Case("vae").build(), [(x[:100], None), (x[100:], None)])
    single = [CodebookEncoder(Given(3, *GRID), (3, *GRID), codes=8, decay=0.75, revival=0.0) for _ in range(2)]
    for encoder, book in zip(single, both.codebooks(), strict=True):
        encoder.load_state_dict(book.state_dict(), strict=False)
    parts = x.chunk(2, 1)
    for encoder, part in zip((both, *single), (x, *parts), strict=True):
        with torch.no_grad():
            encoder.after_step([encoder.observe(inference(encoder, part))], torch.tensor(0))
    for encoder, book in zip(single, both.codebooks(), strict=True):
        torch.testing.assert_close(encoder.codebook, book.codebook)


def test_groups_divide_the_channels() -> None:
    with pytest.raises(ShapeError, match=r"Got latent = \[6, 2, 2\]; 4 groups expected a multiple of 4"):
        create("grouped-vq-vae", shape=(1, 8, 8), latent=(6, 2, 2))
    with pytest.raises(ShapeError, match="bsq-vae expected at most 24"):
        create("bsq-vae", shape=(1, 8, 8), latent=(25, 2, 2))


# Signs of unit vectors


def test_signs_of_unit_vectors_equal_vector_quantize_pytorch() -> None:
    from vector_quantize_pytorch import LFQ

    x = vectors()
    q = point(SphereEncoder(Given(D, *GRID), (D, *GRID), "bsq-vae"), x)
    theirs = LFQ(dim=D, codebook_size=2**D, spherical=True, commitment_loss_weight=1.0)
    result, breakdown = theirs(x, inv_temperature=2.0, return_loss_breakdown=True)
    torch.testing.assert_close(q.value, result.quantized)
    bits = (result.indices.flatten(1)[..., None] >> torch.arange(D - 1, -1, -1)) & 1  # the highest bit is first
    assert torch.equal(q.indices.flatten(1), (bits << torch.arange(D)).sum(-1))
    torch.testing.assert_close(q.value.norm(dim=1), torch.ones(20, *GRID))
    torch.testing.assert_close(q.distance().mean() / D / math.prod(GRID), breakdown.commitment)
    found = bit_entropy(None, Passed(q), temperature=0.5)  # type: ignore[arg-type]
    positions = math.prod(GRID)
    own = found + positions * batch_entropy(q.encoded, 0.5)
    torch.testing.assert_close(own.mean() / positions, breakdown.per_sample_entropy, rtol=1e-4, atol=1e-5)
    # Dependent bits have less entropy than their sum.
    assert batch_entropy(q.encoded, 0.5) >= breakdown.batch_entropy


class Passed:
    """An inference with a posterior alone."""

    def __init__(self, posterior: CodePoint) -> None:
        self.posterior = posterior


def batch_entropy(unit: Tensor, temperature: float) -> Tensor:
    """Returns the sum of the entropies of the means of all bits, by the definition of the soft codes."""
    codes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=D)), dtype=unit.dtype) / D**0.5
    rows = unit.movedim(1, -1).reshape(-1, 1, D)
    mean = (-(rows - codes).square().sum(-1) / temperature).softmax(-1).mean(0)
    ones = torch.stack([mean[codes[:, bit] > 0].sum() for bit in range(D)])
    return Categorical(torch.stack([ones, 1.0 - ones], -1)).entropy().sum()


# A gradient for all indices


def test_the_gradient_of_an_index_reaches_all_codes() -> None:
    """Against the definition: one-hot plus softmax minus the same softmax as a constant, with explicit matrices."""
    torch.manual_seed(1)
    x = vectors().double().detach().requires_grad_()
    encoder = IndexEncoder(Given(D, *GRID), (D, *GRID), CODES).double()
    q, codes = point(encoder, x), encoder.codebook
    rows = x.movedim(1, -1).reshape(-1, D)
    soft = torch.stack([torch.stack([row @ code for code in codes]) for row in rows]).softmax(-1)
    hard = torch.nn.functional.one_hot(soft.argmax(-1), CODES).double()
    value = (hard + soft - soft.detach()) @ codes
    assert torch.equal(q.indices.flatten(), soft.argmax(-1)) and torch.equal(
        encoder.look_up(q.indices.flatten(1)), q.value
    )
    weight = torch.randn_like(value)
    ours = (q.value.movedim(1, -1).reshape(-1, D) * weight).sum()
    for found, wanted in zip(
        torch.autograd.grad(ours, [x, codes], retain_graph=True),
        torch.autograd.grad((value * weight).sum(), [x, codes], retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)
        assert bool((found.flatten(1) != 0).any(1).all())  # of every code, also those that no vector chooses
    e = hard @ codes
    losses = {
        index_distance: (rows - value).square(),
        commitment_distance: (rows - e.detach()).square(),
        codebook_distance: (rows.detach() - e).square(),
    }
    drawn = inference(encoder, x)
    for term, squares in losses.items():
        found, wanted = term(None, drawn).sum(), squares.sum()  # type: ignore[arg-type]
        torch.testing.assert_close(found, wanted)
        pairs = [
            torch.autograd.grad(each, [x, codes], allow_unused=True, retain_graph=True) for each in (found, wanted)
        ]
        for one, other in zip(*pairs, strict=True):
            assert (one is None) == (other is None)
            assert one is None or torch.allclose(one, other)


@pytest.mark.parametrize("count", [2, 7])
def test_the_entropy_of_indices_equals_a_double_loop(count: int) -> None:
    torch.manual_seed(1)
    x = vectors(count).double()
    encoder = IndexEncoder(Given(D, *GRID), (D, *GRID), 5).double()
    wanted, mean = [], torch.zeros(5, dtype=torch.float64)
    for example in x.movedim(1, -1).reshape(count, -1, D):
        total = torch.zeros((), dtype=torch.float64)
        for vector in example:
            chosen = Categorical(logits=encoder.codebook @ vector / 0.3)
            total, mean = total + chosen.entropy(), mean + chosen.probs / (count * len(example))
        wanted.append(total)
    expected = torch.stack(wanted) - math.prod(GRID) * Categorical(mean).entropy()
    found = index_entropy(None, inference(encoder, x), temperature=0.3)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected)


def test_orthogonality_equals_vector_quantize_pytorch() -> None:
    from vector_quantize_pytorch.vector_quantize_pytorch import orthogonal_loss_fn

    encoder = linear()
    found = orthogonality(Only(encoder), None)  # type: ignore[arg-type]
    torch.testing.assert_close(found, orthogonal_loss_fn(encoder.table()[None]))
    (gradient,) = torch.autograd.grad(found, encoder.map)
    assert bool(gradient.any())
    for name in ("sim-vq-vae", "ibq-vae", "sq-vae"):
        model = create(name, shape=(1, 8, 8), codes=4, orthogonal=3.0)
        elbo = model(torch.rand(5, 1, 8, 8))
        torch.testing.assert_close(elbo.terms["orthogonality"], orthogonality(model, None).detach().expand(5))  # type: ignore[arg-type]


# Noise in place of the straight-through gradient


def test_noise_is_as_long_as_the_error_in_any_direction_and_absent_in_eval_mode() -> None:
    torch.manual_seed(0)
    x, codes = torch.randn(2000, 3, 1), torch.randn(2000, 3, 1)
    x.requires_grad_()
    value = straight_through(x, codes, "noise")
    error = value - x
    torch.testing.assert_close(error.norm(dim=1), (x - codes).norm(dim=1))
    direction = (error / error.norm(dim=1, keepdim=True)).detach()[..., 0]
    assert (direction.mean(0).abs() < 4 / 6000**0.5).all()
    covariance = direction.T @ direction / 2000
    assert (covariance - torch.eye(3) / 3).abs().max() < 4 * 0.3 / 2000**0.5
    weight = torch.randn(2000, 3, 1)
    (found,) = torch.autograd.grad((value * weight).sum(), x)
    unit = ((x - codes) / (x - codes).norm(dim=1, keepdim=True)).detach()
    wanted = weight + unit * (direction[..., None] * weight).sum(1, keepdim=True)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    for encoder in (
        linear("noise"),
        CodebookEncoder(Given(D, *GRID), (D, *GRID), codes=8, decay=0.9, revival=0.0, gradient="noise"),
        GroupedEncoder(Given(D, *GRID), (D, *GRID), 2, codes=8, decay=0.9, revival=0.0, gradient="noise"),
    ):
        data = vectors().detach()
        exact = encoder.look_up(encoder(data).indices.flatten(1))  # type: ignore[operator]
        assert not torch.allclose(encoder(data).value, exact)
        torch.testing.assert_close(encoder.eval()(data).value, exact)


# Codes that are drawn by their distance


def stochastic(count: int = 3) -> tuple[StochasticEncoder, Tensor]:
    torch.manual_seed(2)
    encoder = StochasticEncoder(Given(2, 2), (2, 2), 3, 0.5).double().eval()
    with torch.no_grad():
        encoder.codebook.copy_(torch.randn(3, 2))
        encoder.log_variance.fill_(1.0)
    return encoder, torch.randn(count, 2, 2, dtype=torch.float64)


@torch.no_grad()
def test_probabilities_of_codes_fall_with_their_distance() -> None:
    """Against all sequences of codes: their probabilities, divergence and expected distance by enumeration."""
    encoder, y = stochastic()
    q = encoder(y)
    assert isinstance(q, StochasticCodes)
    variance = math.exp(1.0)
    for example in range(3):
        weights, distances = [], []
        for sequence in itertools.product(range(3), repeat=2):
            squares = sum(
                float((y[example, :, n] - encoder.codebook[v]).square().sum()) for n, v in enumerate(sequence)
            )
            weights.append(math.exp(-squares / (2 * variance)))
            distances.append(squares / (2 * variance))
        masses = torch.tensor(weights, dtype=torch.float64) / sum(weights)
        rate = float((masses * (9 * masses).log()).sum())
        assert float(kl_divergence(q, UniformCodes(encoder, y.device))[example]) == pytest.approx(rate)
        assert float(q.scaled_distance()[example]) == pytest.approx(float(masses @ torch.tensor(distances).double()))
        z, log_q = q.rsample_and_log_prob((20_000,))
        numbers = encoder.indices_of(z[:, example]) @ torch.tensor([3, 1])
        share = torch.bincount(numbers, minlength=9) / len(numbers)
        assert ((share - masses).abs() < 4.5 * (masses * (1 - masses) / 20_000).sqrt() + 1e-9).all()
        torch.testing.assert_close(log_q[:, example].exp(), masses[numbers])
    nearest = torch.cdist(y.mT, encoder.codebook).argmin(-1)
    assert torch.equal(q.indices, nearest) and torch.equal(q.center, encoder.look_up(nearest))


@torch.no_grad()
def test_the_bound_of_stochastic_codes_is_below_the_evidence_over_all_codes() -> None:
    """The evidence is a sum over the 3⁴ sequences of codes; with importance weights the bound reaches it."""
    torch.manual_seed(0)
    model = create("sq-vae", shape=(1, 8, 8), codes=3, likelihood="bernoulli").double().eval()
    x = torch.rand(4, 1, 8, 8).round().double()
    model.initialize([(x, None)])
    model.encoder.log_variance.fill_(1.0)
    every = torch.cartesian_prod(*[torch.arange(3)] * 4)
    masses = model.decode(model.encoder.look_up(every)[:, None]).log_prob(x) - math.log(len(every))  # (81, 4)
    evidence = masses.logsumexp(0)
    posterior = model.encode(x)
    log_q = (
        posterior.choices.log_probs.flatten(1, -2)
        .expand(81, 4, 4, 3)
        .gather(-1, every[:, None, :, None].expand(81, 4, 4, 1))[..., 0]
        .sum(-1)
    )
    bound = (log_q.exp() * (masses - log_q)).sum(0)
    drawn = torch.stack([model(x).bound for _ in range(400)])
    assert ((drawn.mean(0) - bound).abs() < 4.5 * drawn.std(0) / 20 + 1e-9).all() and bool((bound < evidence).all())
    torch.testing.assert_close(model.log_evidence(x, samples=20_000, seed=0), evidence, rtol=0, atol=0.05)


def test_the_loss_of_stochastic_codes_is_the_free_energy_at_weight_one() -> None:
    """R plus the distance is N·log V - log of the sum of the unnormalized probabilities."""
    model = create("sq-vae", shape=(1, 8, 8), codes=5).double()
    x = torch.rand(6, 1, 8, 8).double()
    elbo, q = model(x), model.encode(x)
    energy = 4 * math.log(5) - q.logits.logsumexp(-1).flatten(1).sum(1)
    torch.testing.assert_close(elbo.losses["model"] - elbo.distortion, energy)
    torch.testing.assert_close(elbo.rate + elbo.terms["distance"], energy.detach())
    torch.testing.assert_close(elbo.bound, -elbo.distortion - elbo.rate)


def test_codes_and_variance_start_from_data() -> None:
    torch.manual_seed(0)
    corners = torch.tensor([[-3.0, -3.0], [-3.0, 3.0], [3.0, -3.0], [3.0, 3.0]])
    x = (corners[torch.arange(400) % 4] + 0.1 * torch.randn(400, 2)).unsqueeze(-1)
    encoder = StochasticEncoder(Given(2, 1), (2, 1), 16, 0.5)
    encoder.initialize(Case("vae").build(), [(x[:200], None), (x[200:], None)])
    errors = torch.cdist(x[..., 0], encoder.codebook.detach()).amin(1).square()
    assert float(encoder.log_variance.detach().exp()) == pytest.approx(float(errors.mean()) / 2, rel=1e-3)
    assert float(torch.cdist(corners, encoder.codebook.detach()).amin(1).max()) < 0.3


# The variants


@pytest.mark.parametrize("name", ["bsq-vae", "grouped-vq-vae", "ibq-vae", "sim-vq-vae"])
def test_the_rate_is_n_log_v_and_lookup_inverts_indices(name: str) -> None:
    options = {} if name == "bsq-vae" else {"codes": 8}
    model: VAE = create(f"{name}+code-prior", shape=(1, 8, 8), prior_width=8, prior_depth=1, prior_heads=2, **options)
    model.eval()
    x = torch.rand(6, 1, 8, 8)
    source, indices, z = model.encoder, model.encode(x).indices.reshape(6, -1), model.infer(x).z[0]
    elbo = model(x)
    torch.testing.assert_close(elbo.rate, torch.full((6,), sum(source.sections) * math.log(source.codes)))
    torch.testing.assert_close(elbo.bound, -elbo.distortion - elbo.rate)
    torch.testing.assert_close(source.look_up(indices), z)
    assert torch.equal(source.indices_of(z), indices)
    drawn = model.prior(None).sample((3,))
    torch.testing.assert_close(source.look_up(source.indices_of(drawn)), drawn)
