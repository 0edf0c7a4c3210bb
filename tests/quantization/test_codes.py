"""Codes and priors over them, against enumeration, a loop for attention, and frequencies of draws."""

import math

import pytest
import torch
from support.cases import Case
from support.runs import small_recipe, trainer
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from vaezoo.core import VAE, Part, seeded
from vaezoo.errors import CompositionError, ConfigError
from vaezoo.networks import CausalTransformer
from vaezoo.quantization import CodePoint, CodePrior, CodeSequences, QuantizedLevel, UniformCodes, look_up
from vaezoo.registry import create
from vaezoo.trainer.stages import Stages

CPU = torch.device("cpu")


class Table(Part):
    """An encoder's codes: three codes of two elements on two levels."""

    def __init__(self, codes: int = 3, sections: tuple[int, ...] = (1, 2)) -> None:
        super().__init__()
        self.codes, self.sections, self.latent = codes, sections, (2, sum(sections))
        self.codebook = torch.nn.Parameter(torch.arange(2.0 * codes).reshape(codes, 2))

    def look_up(self, indices: Tensor) -> Tensor:
        return look_up(self.codebook, indices, 1)

    def indices_of(self, z: Tensor) -> Tensor:
        return (z.movedim(-2, -1)[..., None, :] == self.codebook).all(-1).int().argmax(-1)


def transformer(context: int = 0, sections: tuple[int, ...] = (1, 2), codes: int = 3) -> CausalTransformer:
    """Returns a transformer with large random weights, in double precision."""
    torch.manual_seed(0)
    network = CausalTransformer(codes, sections, context, width=8, depth=2, heads=2).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return network


def every_sequence(codes: int = 3, length: int = 3) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(codes)] * length)


def test_uniform_codes() -> None:
    table = Table(5, (4,))
    indices = torch.tensor([[0, 4, 2, 2]])
    codes = table.look_up(indices)
    assert codes.shape == (1, 2, 4) and torch.equal(codes[0, :, 1], table.codebook[4])
    posterior, prior = CodePoint(codes, [QuantizedLevel(codes + 1, codes, indices)]), UniformCodes(table, CPU)
    z, log_q = posterior.rsample_and_log_prob((3,))
    assert torch.equal(z[2], codes) and torch.equal(log_q, torch.zeros(3, 1))
    assert torch.equal(posterior.center, posterior.mean)
    torch.testing.assert_close(posterior.distance(), torch.tensor([8.0]))
    nats = 4 * math.log(5)
    assert kl_divergence(posterior, prior).tolist() == pytest.approx([nats])
    assert prior.log_prob(z).tolist() == [[pytest.approx(-nats)]] * 3
    drawn = prior.sample((2000,))
    chosen = (drawn.movedim(1, -1)[..., None, :] == table.codebook).all(-1)  # (2000, 4, V)
    assert bool((chosen.sum(-1) == 1).all())  # every draw is a code
    assert ((chosen.double().mean(0) - 0.2).abs() < 4.5 * (0.2 * 0.8 / 2000) ** 0.5).all()


@torch.no_grad()
def test_attention_equals_a_loop() -> None:
    """Vaswani et al., 2017, equation 1, position by position and head by head."""
    block = transformer().blocks[0]
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    normed = torch.nn.functional.layer_norm(x, (8,), block.before.weight, block.before.bias)
    q, k, v = (normed @ block.attend.weight.T + block.attend.bias).split(8, -1)
    wanted = torch.zeros_like(x)
    for row in range(2):
        for place in range(5):
            for head in (slice(0, 4), slice(4, 8)):
                likeness = [q[row, place, head] @ k[row, n, head] / 2.0 for n in range(place + 1)]
                weights = torch.stack(likeness).softmax(0)
                wanted[row, place, head] = sum(w * v[row, n, head] for n, w in enumerate(weights))
    y = x + wanted @ block.join.weight.T + block.join.bias
    normed = torch.nn.functional.layer_norm(y, (8,), block.between.weight, block.between.bias)
    hidden = normed @ block.widen.weight.T + block.widen.bias
    cubic = 0.5 * hidden * (1 + torch.tanh((2 / math.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)))
    wanted = y + cubic @ block.narrow.weight.T + block.narrow.bias
    torch.testing.assert_close(block(x), wanted)


@pytest.mark.parametrize("context", [0, 2])
def test_frequencies_of_draws_are_their_masses(context: int) -> None:
    network = transformer(context)
    c = torch.tensor([[0.5, -1.0]], dtype=torch.float64) if context else None
    table, prior = Table().double(), CodeSequences(Table().double(), network, c)
    torch.manual_seed(1)
    z = prior.sample((20_000,))
    assert z.shape == (20_000, *([1] if context else []), 2, 3)
    numbers = table.indices_of(z).reshape(-1, 3) @ torch.tensor([9, 3, 1])
    share = torch.bincount(numbers, minlength=27) / len(numbers)
    with torch.no_grad():
        mass = prior.log_mass(every_sequence()[:, None]).exp()[:, 0]
    assert mass.shape == (27,) and mass.max() > 2 * mass.min() and mass.sum().item() == pytest.approx(1.0)
    assert ((share - mass).abs() < 4.5 * (mass * (1 - mass) / len(numbers)).sqrt() + 1e-9).all()


@torch.no_grad()
def test_drawing_with_a_cache_has_the_logits_of_a_whole_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy steps with the cache give the most probable next indices of a pass without it."""
    network = transformer(2, (2, 4), 5)
    c = 20 * torch.randn(7, 2, dtype=torch.float64)
    network.norm.bias.zero_()
    monkeypatch.setattr(torch, "multinomial", lambda p, n: p.argmax(-1, keepdim=True))
    monkeypatch.setattr("vaezoo.networks.transformer.ROWS", 3)
    found = network.draw(7, c)
    assert torch.equal(network(found, c).argmax(-1), found) and len(found.unique(dim=0)) > 1


def model_of(context: int = 0) -> tuple[VAE, Tensor, Tensor | None]:
    case = Case("vq-vae+code-prior", backbone="conv", likelihood="gaussian", context=context)
    return case.build(torch.float64), *case.inputs(6, torch.float64)


@pytest.mark.parametrize("context", [0, 3])
@torch.no_grad()
def test_the_rate_is_minus_the_log_probability_of_the_codes(context: int) -> None:
    model, x, c = model_of(context)
    network = model.prior.network
    torch.testing.assert_close(model(x, c).rate, torch.full((6,), 4 * math.log(16)).double())  # initially uniform
    network.weights.normal_()
    model.eval()
    elbo, vectors = model(x, c), model.check_context(c, 6)
    logits = network(model.encode(x, c).indices.flatten(1), vectors)
    wanted = -Categorical(logits=logits).log_prob(model.encode(x, c).indices.flatten(1)).sum(1)
    torch.testing.assert_close(elbo.rate, wanted)
    torch.testing.assert_close(elbo.bound, -elbo.distortion - wanted)
    torch.testing.assert_close(model.log_evidence(x, c, samples=3), elbo.bound)
    torch.testing.assert_close(-model.prior(vectors).log_prob(model.infer(x, vectors).z)[0], wanted)


@pytest.mark.parametrize("name", ["vq-vae+code-prior", "gumbel-vq-vae+code-prior"])
@torch.no_grad()
def test_freezing_a_model_in_train_mode_changes_nothing(name: str) -> None:
    case = Case(name, backbone="conv", likelihood="gaussian")
    model, (x, _) = case.build(torch.float64).train(), case.inputs(6, torch.float64)
    model.prior.network.weights.normal_()

    def values() -> list[Tensor]:
        with seeded(2):
            elbo = model(x)
        return [elbo.rate, elbo.bound, elbo.distortion, model.sample(5, seed=1)]

    trainable = values()
    model.requires_grad_(False).train()
    assert all(map(torch.equal, values(), trainable))


def test_a_stage_that_does_not_train_the_prior_uses_the_uniform_one() -> None:
    stages = [{"steps": 2, "batch_size": 8, "train": parts} for parts in (["encoder", "decoder"], ["prior"])]
    recipe = small_recipe("vq-vae+code-prior", stages=stages)
    chosen, rates = trainer(recipe), list[Tensor]()
    model = chosen.model
    torch.nn.init.normal_(model.prior.network.weights)
    stages_of, data = Stages(recipe, model, chosen.data), chosen.data.batch(torch.arange(8))
    calls = list[int]()
    model.prior.network.register_forward_hook(lambda *_: calls.append(1))
    for number in range(2):
        stages_of.begin(number, CPU)
        rates.append(model.train()(data).rate)
    assert len(calls) == 1  # in the second stage alone
    torch.testing.assert_close(rates[0], torch.full((8,), 4 * math.log(16)))
    assert not torch.allclose(*rates)
    stages_of.begin(0, CPU)
    stages_of.end()
    torch.testing.assert_close(model(data).rate, rates[1])


def test_a_prior_over_codes_needs_codes() -> None:
    for name in ("code-prior", "code-prior+iwae", "code-prior+conv-vae"):
        with pytest.raises(CompositionError, match=r"needs a variant that has codes: write 'vq-vae\+code-prior'"):
            create(name, shape=(1, 8, 8))
    for name in ("vq-vae+vamp-vae", "vq-vae+code-prior+vamp-vae", "flow-prior-vae+code-prior+vq-vae"):
        with pytest.raises(CompositionError, match="both change the prior"):
            create(name, shape=(1, 8, 8))
    assert isinstance(create("code-prior+vq-vae", shape=(1, 8, 8), codes=4).prior, CodePrior)
    with pytest.raises(ConfigError, match="multiple of the heads"):
        create("vq-vae+code-prior", shape=(1, 8, 8), prior_width=6, prior_heads=4)
    model = create("vq-vae+code-prior", shape=(1, 8, 8), codes=4)
    with pytest.raises(CompositionError, match="over 4 codes"):
        model.replace(encoder=create("vq-vae", shape=(1, 8, 8), codes=5).encoder)
    with pytest.raises(CompositionError, match="expected one with codes"):
        model.replace(encoder=create("vae", shape=(1, 8, 8)).encoder)


# Sampling


def without_a_cache(network: CausalTransformer, rows: int, c: Tensor | None) -> Tensor:
    """Returns draws by whole passes, one for each position."""
    found = torch.zeros(rows, network.length, dtype=torch.int64)
    for place in range(network.length):
        found[:, place] = torch.multinomial(network(found, c)[:, place].softmax(-1), 1)[:, 0]
    return found


@pytest.mark.parametrize("context", [0, 2])
@torch.no_grad()
def test_draws_with_and_without_a_cache_are_equal(context: int) -> None:
    network = transformer(context, (4, 12), 7)
    c = torch.randn(64, 2, dtype=torch.float64) if context else None
    with seeded(3):
        drawn = network.draw(64, c)
    with seeded(3):
        wanted = without_a_cache(network, 64, c)
    assert torch.equal(drawn, wanted) and len(drawn.unique(dim=0)) > 20


def test_drawing_with_a_cache_passes_each_position_once() -> None:
    network, passed = transformer(0, (16,), 7), list[int]()
    network.blocks[0].attend.register_forward_hook(lambda _module, args, _out: passed.append(args[0].shape[1]))
    network.draw(5)
    assert passed == [1] * 16


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 2, None), (1.0, None, 0.6), (0.5, 2, 0.8), (2.0, 1, None), (1.0, 3, 1.0)]
)
@torch.no_grad()
def test_truncated_draws_have_the_masses_of_the_most_probable_codes(
    temperature: float, top_k: int | None, top_p: float | None
) -> None:
    """Against a loop over all sequences that sorts the probabilities of each position."""
    network, table = transformer(), Table().double()
    prior = CodeSequences(table, network).tempered(temperature).truncated(top_k, top_p)
    wanted = []
    for sequence in every_sequence():
        mass = 1.0
        for logits, index in zip(network(sequence[None])[0] / temperature, sequence.tolist(), strict=True):
            chances = {code: float(chance) for code, chance in enumerate(logits.softmax(-1))}
            ranked = sorted(chances, key=lambda code: -chances[code])[: top_k or 3]
            total, kept = sum(chances[code] for code in ranked), list[int]()
            while top_p is not None and sum(chances[code] for code in kept) < top_p * total - 1e-12:
                kept.append(ranked[len(kept)])
            kept = kept if top_p is not None else ranked
            mass *= chances[index] / sum(chances[code] for code in kept) if index in kept else 0.0
        wanted.append(mass)
    exact = torch.tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(prior.log_mass(every_sequence()).exp(), exact)
    with seeded(1):
        z = prior.sample((5000,))
    share = torch.bincount(table.indices_of(z) @ torch.tensor([9, 3, 1]), minlength=27) / 5000
    assert not share[exact == 0].any()
    assert ((share - exact).abs() < 4.5 * (exact * (1 - exact) / 5000).sqrt() + 1e-3).all()


@torch.no_grad()
def test_samples_of_a_model_are_limited_to_probable_codes_on_request() -> None:
    model, _, _ = model_of()
    model.prior.network.weights.normal_()
    greedy = model.sample(20, seed=0, top_k=1)
    assert torch.equal(greedy, greedy[:1].expand_as(greedy))
    assert torch.equal(greedy, model.sample(20, seed=5, top_p=1e-9))
    assert torch.equal(model.sample(20, seed=0, top_k=10**6, top_p=1.0), model.sample(20, seed=0))
    assert torch.equal(model.sample(20, seed=0, top_k=16), model.sample(20, seed=0))
    for options, words in (
        ({"top_k": 0}, "Got top_k = 0; expected a whole number, at least 1"),
        ({"top_k": 1.5}, "Got top_k = 1.5"),
        ({"top_p": 0.0}, "Got top_p = 0.0; expected a number above 0, up to 1"),
        ({"top_p": 1.1}, "Got top_p = 1.1"),
        ({"top_p": True}, "Got top_p = True"),
    ):
        with pytest.raises(ConfigError, match=words):
            model.sample(2, **options)  # type: ignore[arg-type]  # by name
    for name in ("vae", "vq-vae"):
        with pytest.raises(ConfigError, match=r"Got top_k; the prior, \w+, has no probabilities of codes"):
            Case(name, backbone="conv", likelihood="gaussian").build().sample(2, top_k=3)


OVER_CODES = ("grouped-vq-vae", "residual-vq-vae", "vq-vae-2", "bsq-vae", "sim-vq-vae", "sq-vae", "vq-wae")


@pytest.mark.parametrize("name", OVER_CODES)
@torch.no_grad()
def test_a_prior_over_codes_of_any_kind_is_conditional_and_drawn_with_a_cache(name: str) -> None:
    case = Case(f"{name}+code-prior", backbone="conv", likelihood="gaussian", context=3)
    model, (x, c) = case.build(torch.float64).eval(), case.inputs(6, torch.float64)
    network, source = model.prior.network, model.encoder
    network.weights.normal_()
    network.given.weight.normal_(std=3.0)
    assert network.sections == source.sections and network.codes == source.codes
    vectors = model.check_context(c, 6)
    indices = model.encode(x, c).indices.reshape(6, -1)
    wanted = Categorical(logits=network(indices, vectors)).log_prob(indices).sum(1)
    torch.testing.assert_close(model.prior(vectors).log_mass(indices), wanted)
    assert not torch.allclose(wanted, model.prior(vectors.roll(1, 1)).log_mass(indices))
    if name != "sq-vae":  # whose rate is that of drawn codes
        torch.testing.assert_close(model(x, c).rate, -wanted)
    with seeded(2):
        z = model.prior(vectors).sample()
    with seeded(2):
        drawn = without_a_cache(network, 6, vectors)
    assert torch.equal(z, source.look_up(drawn))
    assert model.sample(6, c, seed=0, top_k=2, temperature=0.7).shape == x.shape
