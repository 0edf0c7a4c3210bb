"""The likelihood of tables: each column against torch's distribution, gaps, and the encoder's mask."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
)

import vaezoo
from vaezoo.core import VAE
from vaezoo.errors import ConfigError, SupportError
from vaezoo.likelihoods.mixed import Mixed
from vaezoo.networks import GapNetwork

COLUMNS = ("gaussian", "student-t", "log-normal", "bernoulli", "categorical-3", "poisson", "gaussian",
           "negative-binomial", "categorical-2")  # fmt: skip
WIDTH = 12
ROW = [0.3, -1.2, 2.5, 1.0, 0.0, 1.0, 0.0, 4.0, -0.7, 3.0, 1.0, 0.0]


def head(**options: object) -> Mixed:
    return Mixed((WIDTH,), columns=COLUMNS, **options)  # type: ignore[arg-type]  # by name


def model(variant: str = "vae", **options: object) -> VAE:
    torch.manual_seed(0)
    return vaezoo.create(variant, shape=WIDTH, latent=3, likelihood={"name": "mixed", "columns": COLUMNS}, **options)  # type: ignore[arg-type]


def by_hand(a: Tensor, b: Tensor, x: list[float]) -> dict[int, float]:
    """Returns the log densities of one row's columns by their first elements, from torch's distributions."""
    at = torch.tensor(x, dtype=torch.float64)
    parts = {
        0: Normal(a[0], b[0].exp()).log_prob(at[0]),
        1: StudentT(4.0, a[1], b[1].exp()).log_prob(at[1]),
        2: LogNormal(a[2], b[2].exp()).log_prob(at[2]),
        3: Bernoulli(logits=a[3]).log_prob(at[3]),
        4: Categorical(logits=a[4:7]).log_prob(at[4:7].argmax()),
        7: Poisson(a[7].exp()).log_prob(at[7]),
        8: Normal(a[8], b[8].exp()).log_prob(at[8]),
        9: NegativeBinomial(b[9].exp(), logits=a[9] - b[9]).log_prob(at[9]),
        10: Categorical(logits=a[10:]).log_prob(at[10:].argmax()),
    }
    return {key: float(value) for key, value in parts.items()}


def test_the_log_density_is_the_sum_over_the_observed_columns() -> None:
    torch.manual_seed(0)
    raw = torch.randn(3, 2, WIDTH, dtype=torch.float64)
    x = torch.tensor([ROW, ROW, ROW], dtype=torch.float64)
    x[1, [1, 7]], x[1, 4:7], x[2] = torch.nan, torch.nan, torch.nan
    found = head()(raw).log_prob(x)
    first, second = (by_hand(raw[row, 0], raw[row, 1], ROW) for row in (0, 1))
    assert float(found[0]) == pytest.approx(sum(first.values()), abs=1e-12)
    assert float(found[1]) == pytest.approx(sum(v for key, v in second.items() if key not in (1, 4, 7)), abs=1e-12)
    assert float(found[2]) == 0.0


@torch.no_grad()
def test_the_distortion_of_a_model_is_that_sum_and_0_without_any_observed_entry() -> None:
    own = model().double().eval()
    x = torch.tensor([ROW, ROW, [math.nan] * WIDTH], dtype=torch.float64)
    x[1, 2] = torch.nan
    inference = own.infer(x)
    made = inference.likelihood
    assert isinstance(made.loc, Tensor) and isinstance(made.log_scale, Tensor)
    hand = [by_hand(made.loc[0, row], made.log_scale[0, row], ROW) for row in (0, 1)]
    wanted = [sum(hand[0].values()), sum(hand[1].values()) - hand[1][2], 0.0]
    torch.testing.assert_close(inference.distortion(), -torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-10)
    elbo = own(x)
    assert float(elbo.distortion[2]) == 0.0 and torch.equal(elbo.bound[2], -elbo.rate[2])


def test_gradients_of_rows_with_gaps_are_finite_and_0_for_the_outputs_of_gaps() -> None:
    raw = torch.randn(2, 2, WIDTH, requires_grad=True)
    x = torch.tensor([ROW, ROW])
    x[0, :4], x[1] = torch.nan, torch.nan
    head()(raw).log_prob(x).sum().backward()
    assert raw.grad is not None and torch.isfinite(raw.grad).all()
    assert not raw.grad[0, :, :4].any() and not raw.grad[1].any() and raw.grad[0, 0, 4:].all()


def test_draws_have_the_stated_means_and_lie_in_the_support() -> None:
    torch.manual_seed(0)
    own, raw = head(), 0.3 * torch.randn(2, WIDTH, dtype=torch.float64)
    drawn, mean = own(raw).sample((40_000,)), own(raw).mean
    assert bool(own.contains(drawn).all())
    assert ((drawn.mean(0) - mean).abs() < 5 * drawn.std(0) / 200).all()
    assert torch.equal(own.point(drawn), drawn)
    assert own.point(mean)[4:7].sum() == 1.0 and own.point(mean)[4 + int(mean[4:7].argmax())] == 1.0


def test_the_decoder_starts_at_the_observed_means() -> None:
    torch.manual_seed(0)
    own = head()
    x = own(0.3 * torch.randn(2, WIDTH)).sample((500,))
    x[torch.rand(500) < 0.3, 4:7], x[:, 7] = torch.nan, torch.nan  # one column has no value at all
    start = model()
    start.initialize([(x, None)])
    with torch.no_grad():
        mean = start.decoder(torch.zeros(1, 3)).mean[0]
    wanted = x.nanmean(0)
    torch.testing.assert_close(mean[[0, 3, 4, 5, 6, 8, 9]], wanted[[0, 3, 4, 5, 6, 8, 9]], atol=0.3, rtol=0.3)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, math.inf), (0, 1e12), (2, 0.0), (2, -1.0), (3, 0.5), (4, 1.0), (5, math.nan), (7, -1.0), (7, 1.5), (9, -3.0)],
)
def test_values_that_do_not_fit_their_column_are_refused(place: int, value: float) -> None:
    x = torch.tensor([ROW, ROW])
    x[1, place] = value
    assert head().accepts(x).tolist() == [True, False]
    with pytest.raises(SupportError, match=r"examples \[1\] of x"):
        model()(x)


def test_other_likelihoods_refuse_gaps() -> None:
    x = torch.tensor([ROW, ROW])
    x[1, 0] = torch.nan
    with pytest.raises(SupportError, match=r"NaN .* examples \[1\]"):
        vaezoo.create("vae", shape=WIDTH, latent=2, likelihood="gaussian")(x)


@pytest.mark.parametrize("columns", [["cauchy"], ["categorical"], ["categorical-0"], ["gaussian"] * 3])
def test_bad_columns_are_one_error(columns: list[str]) -> None:
    with pytest.raises(ConfigError, match="mixed"):
        vaezoo.create("vae", shape=4, likelihood={"name": "mixed", "columns": columns})


def test_without_columns_every_element_is_gaussian_in_any_shape() -> None:
    own = vaezoo.create("vae", shape=(1, 2, 2), likelihood="mixed")  # Gaussians, and any shape
    x = torch.randn(3, 1, 2, 2)
    x[0, 0, 0, 0] = torch.nan
    assert torch.isfinite(own(x).distortion).all() and own.reconstruct(x).shape == x.shape


def test_the_encoder_receives_zeros_logarithms_and_the_mask() -> None:
    network = model().encoder.network
    assert isinstance(network, GapNetwork)
    seen: list[Tensor] = []
    network.network.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    x = torch.tensor([ROW])
    x[0, 4:7], x[0, 0] = torch.nan, torch.nan
    network(x)
    expected = [0.0, -1.2, math.log(2.5), 1.0, 0.0, 0.0, 0.0, math.log(5.0), -0.7, math.log(4.0), 1.0, 0.0]
    mask = [0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, *[1.0] * 5]
    torch.testing.assert_close(seen[0], torch.tensor([[*expected, *mask]]))


def test_a_gap_is_not_an_observed_0() -> None:
    own = model().eval()
    x = torch.tensor([ROW, ROW])
    x[0, 8], x[1, 8] = torch.nan, 0.0
    means = own.encode(x).mean
    assert not torch.equal(means[0], means[1])


def test_pseudo_inputs_have_no_gaps() -> None:
    own = model("vamp-vae", pseudo_inputs=4)
    x = torch.tensor([ROW, ROW, ROW])
    x[0, 4:7], x[1], x[:, 7] = torch.nan, torch.nan, torch.nan
    own.initialize([(x, None)])
    assert torch.isfinite(own.prior.inputs).all() and torch.isfinite(own(x).rate).all()


def test_the_smallest_scale_bounds_the_density() -> None:
    raw = torch.full((2, WIDTH), -50.0, dtype=torch.float64)
    raw[0] = torch.tensor(ROW)
    gaps = torch.full((WIDTH,), torch.nan, dtype=torch.float64)
    gaps[0] = ROW[0]
    found = head(least_scale=0.1)(raw).log_prob(gaps)
    assert float(found) == pytest.approx(-math.log(0.1) - 0.5 * math.log(2 * math.pi))


def test_a_likelihood_of_discrete_columns_alone_is_a_mass() -> None:
    assert Mixed((4,), columns=("categorical-2", "bernoulli", "poisson")).mass and not head().mass


@pytest.mark.full
def test_after_training_with_gaps_a_row_without_entries_has_a_posterior_near_the_prior() -> None:
    """Within 0.1 nats, where complete rows have a rate above 1."""
    torch.manual_seed(0)
    factors = torch.randn(2_000, 2)
    x = factors @ torch.randn(2, 8) + 0.2 * torch.randn(2_000, 8)
    x[torch.rand(2_000, 8) < 0.3] = torch.nan
    x[:100] = torch.nan
    own = vaezoo.create("vae", shape=8, latent=2, likelihood="mixed", backbone={"name": "mlp", "hidden": [64]})
    optimizer = torch.optim.Adam(own.parameters(), 2e-3)
    for _ in range(2_000):
        optimizer.zero_grad()
        own(x[torch.randint(2_000, (100,))]).losses["model"].mean().backward()
        optimizer.step()
    own.eval()
    rate = own(torch.stack([x[0], *x[100:200]])).rate
    assert float(rate[0]) < 0.1 and float(rate[1:].mean()) > 1.0
