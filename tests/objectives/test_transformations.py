"""Equivariance and noise: toy decoders, one transformation by hand, Pillow's filter, the draws."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.runs import equal, fit, trainer
from torch import Tensor, nn

import vaezoo
from vaezoo.core import ELBO, VAE, Inference, seeded
from vaezoo.data import from_tensors
from vaezoo.decoders import Decoder
from vaezoo.errors import ShapeError
from vaezoo.likelihoods.laplace import Laplace
from vaezoo.objectives.penalties import transformations
from vaezoo.objectives.penalties.transformations import EquivariancePenalty, NoisePenalty, transformed
from vaezoo.recipe import read_recipe

SHAPE = (3, 16, 16)
RESNET = {"name": "resnet", "channels": [8, 8]}


def autoencoder(**options: object) -> VAE:
    torch.manual_seed(0)
    options = {"backbone": RESNET, "latent": (4, 8, 8)} | options
    return vaezoo.create("kl-autoencoder", shape=SHAPE, **options).double()


class Repeated(nn.Module):
    """Decodes a grid by repeating each position `factor` times in both directions: equivariant under rotations."""

    def __init__(self, factor: int, takes_smaller_grids: bool) -> None:
        super().__init__()
        self.factor, self.takes_smaller_grids = factor, takes_smaller_grids

    def forward(self, z: Tensor) -> Tensor:
        return z.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2).unsqueeze(-4)


def toy(factor: int, side: int, takes_smaller_grids: bool) -> tuple[VAE, Inference]:
    """Returns a model whose latents are images, with the pass of three of them, two draws each."""
    shape, latent = (2, side * factor, side * factor), (2, side, side)
    model = vaezoo.create("vae", shape=shape, latent=latent, backbone={"name": "resnet", "channels": [4] * factor})
    model = model.replace(decoder=Decoder(Repeated(factor, takes_smaller_grids), Laplace(shape, scale=0.5))).double()
    return model, model.infer(torch.rand(3, *shape, dtype=torch.float64), None, 2)


def filter_of(before: int, after: int) -> Tensor:
    """Returns the weights (after, before) of an antialiased bilinear filter: triangles around the centers."""
    scale = before / after
    centers = (torch.arange(after, dtype=torch.float64) + 0.5) * scale - 0.5
    weights = (1 - (torch.arange(before) - centers[:, None]).abs() / scale).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def test_rotations_of_an_equivariant_decoder_cost_its_own_distortion() -> None:
    model, inference = toy(2, 4, False)
    penalty = EquivariancePenalty.of((2, 8, 8), (2, 4, 4))
    values = [penalty(model, inference) for _ in range(8)]
    assert all(torch.allclose(each, inference.distortion(), rtol=1e-12) for each in values)
    turned = torch.rot90(inference.z, 1, (-2, -1))  # of one that is not: another distortion
    assert not torch.allclose(-model.decoder(turned).log_prob(inference.x).mean(0), inference.distortion())


def test_scales_of_an_equivariant_decoder_cost_the_distortion_of_the_transformed_pair() -> None:
    model, inference = toy(1, 8, True)
    penalty = EquivariancePenalty.of((2, 8, 8), (2, 8, 8))
    assert [side for side, _ in penalty.grids] == [2, 3, 4, 5, 6, 7, 8]
    for turns in range(4):
        for side in (2, 3, 5, 8):
            chosen = EquivariancePenalty((turns,), ((side, side),), (1, 1))(model, inference)
            weights = filter_of(8, side)
            error = weights @ torch.rot90(inference.x - inference.likelihood.mean, turns, (-2, -1)) @ weights.T
            torch.testing.assert_close(chosen, 2 * error.abs().flatten(2).sum(-1).mean(0))


def test_a_quarter_turn_and_half_the_size_by_hand() -> None:
    image = torch.arange(16.0, dtype=torch.float64).view(1, 4, 4)
    turned = torch.tensor([[3.0, 7, 11, 15], [2, 6, 10, 14], [1, 5, 9, 13], [0, 4, 8, 12]], dtype=torch.float64)
    weights = torch.tensor([[3, 3, 1, 0], [0, 1, 3, 3]], dtype=torch.float64) / 7
    small = weights @ turned @ weights.T
    torch.testing.assert_close(transformed(image, 1, (2, 2))[0], small)
    assert torch.equal(transformed(image, 1, (4, 4))[0], turned)

    model = autoencoder(latent=(4, 8, 8))
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    inference = model.infer(x)
    found = EquivariancePenalty((3,), ((4, 4),), (2, 2))(model, inference)
    grid, pixels = filter_of(8, 4), filter_of(16, 8)
    z = grid @ torch.rot90(inference.z[0], 3, (-2, -1)) @ grid.T
    decoded = model.decoder.network.rows(z, None)[:, 0]
    wanted = pixels @ torch.rot90(x, 3, (-2, -1)) @ pixels.T
    assert decoded.shape == (2, 3, 8, 8)
    torch.testing.assert_close(found, 2 * (decoded - wanted).abs().flatten(1).sum(1))


def test_resizing_is_that_of_pillow() -> None:
    x = torch.rand(20, 28)
    wanted = np.asarray(Image.fromarray(x.numpy()).resize((21, 15), Image.Resampling.BILINEAR))
    torch.testing.assert_close(transformed(x[None], 0, (15, 21))[0], torch.from_numpy(wanted.copy()), atol=1e-6, rtol=0)


def test_noise_is_added_before_decoding() -> None:
    model, inference = toy(1, 8, True)
    torch.manual_seed(5)
    found = NoisePenalty(0.3)(model, inference)
    torch.manual_seed(5)
    noisy = inference.z + 0.3 * torch.randn(inference.z.shape, dtype=torch.float64)
    torch.testing.assert_close(found, 2 * (inference.x - noisy).abs().flatten(2).sum(-1).mean(0))


def adversarial(elbo: ELBO, weight: float) -> Tensor | float:
    """Returns the weighted term of the critic, whose adaptive weight depends on the gradients of all other terms."""
    return weight * elbo.terms["adversarial_weight"] * elbo.terms["adversarial"] if weight else 0.0


@pytest.mark.parametrize("critic", [0.0, 0.5])
def test_both_terms_are_in_the_loss_with_their_weights_and_train_the_encoder(critic: float) -> None:
    model = autoencoder(equivariance=0.7, noise=0.2, critic=critic, critic_channels=4)
    plain = autoencoder(critic=critic, critic_channels=4)
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    with seeded(2):
        elbo = model(x)
    with seeded(2):
        without = plain(x)
    assert torch.equal(elbo.bound, without.bound) and torch.equal(elbo.distortion, without.distortion)
    assert {"equivariance", "noise"} == {*elbo.terms} - {*without.terms}
    added = 0.7 * elbo.terms["equivariance"] + elbo.terms["noise"]
    own, others = ((each.losses["model"] - adversarial(each, critic)).detach() for each in (elbo, without))
    torch.testing.assert_close(own, others + added)
    for penalty in (EquivariancePenalty.of(SHAPE, (4, 8, 8)), NoisePenalty(0.2)):
        value = penalty(model, model.infer(x)).sum()
        gradients = torch.autograd.grad(value, list(model.encoder.parameters()), allow_unused=True)
        assert all(each is not None and bool(each.any()) for each in gradients)


def test_draws_are_uniform_and_come_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(transformations, "distortion", lambda model, x, z, c: x)
    monkeypatch.setattr(
        transformations, "transformed", lambda values, turns, size: seen.append((turns, size)) or values
    )
    model, inference = toy(1, 8, True)
    penalty, state = EquivariancePenalty.of((2, 8, 8), (2, 8, 8)), torch.get_rng_state()
    with seeded(0):
        for _ in range(1_400):
            penalty(model, inference)
    assert torch.equal(state, torch.get_rng_state())
    counts = {each: seen.count(each) / 2 for each in seen}
    assert len(counts) == 28 and min(counts.values()) > 20 and max(counts.values()) < 90  # 50 ± 7 each
    first = seen[:40]
    seen.clear()
    with seeded(0):
        for _ in range(20):
            penalty(model, inference)
    assert seen == first


def test_a_run_repeats_its_draws_whatever_the_random_state_before() -> None:
    recipe = read_recipe(
        {
            "variant": "kl-autoencoder",
            "options": {"equivariance": 0.5, "noise": 0.1},
            "architecture": {"latent": [2, 4, 4], "backbone": {"name": "resnet", "channels": [4, 4]}},
            "data": {"name": "small"},
            "train": {"steps": 4, "batch_size": 4},
        }
    )
    data = from_tensors(torch.rand(12, 1, 8, 8), "small", split="train")
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        runs.append(fit(trainer(recipe, data=data)))
    assert equal(runs[0].model, runs[1].model) and runs[0].history == runs[1].history
    assert runs[0].history[-1]["equivariance"] > 0


def test_grids_restrict_the_transformations() -> None:
    wide = EquivariancePenalty.of((3, 16, 24), (4, 8, 12))
    assert wide.turns == (0, 2) and wide.grids == ((2, 3), (4, 6), (6, 9), (8, 12)) and wide.factors == (2, 2)
    assert EquivariancePenalty.of((3, 16, 32), (4, 8, 8)).turns == (0, 2)
    assert EquivariancePenalty.of((1, 28, 28), (4, 7, 7)).grids == ((2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7))
    for options in ({"latent": 8}, {"shape": (3, 15, 15), "latent": (4, 8, 8)}, {"shape": (8,), "backbone": "mlp"}):
        with pytest.raises(ShapeError, match="equivariance expected images"):
            vaezoo.create("kl-autoencoder", equivariance=1.0, **({"shape": SHAPE, "backbone": RESNET} | options))
    assert vaezoo.create("kl-autoencoder", shape=(8,), backbone="mlp", latent=2, noise=0.1)(
        torch.rand(2, 8)
    ).bound.all()


@pytest.mark.parametrize(("backbone", "count"), [(RESNET, 7), ({"name": "conv", "channels": [4]}, 1)])
def test_only_decoders_that_take_smaller_grids_see_scales(backbone: dict[str, object], count: int) -> None:
    model = autoencoder(backbone=backbone, equivariance=1.0, likelihood="logistic-mixture")
    seen, forward = set[torch.Size](), model.decoder.forward

    def noted(z: Tensor, c: Tensor | None = None) -> object:
        seen.add(z.shape[-2:])
        return forward(z, c)

    model.decoder.forward = noted  # type: ignore[method-assign]
    x, penalty = torch.rand(1, *SHAPE, dtype=torch.float64), EquivariancePenalty.of(SHAPE, (4, 8, 8))
    inference = model.infer(x)
    for _ in range(80):
        assert bool(penalty(model, inference).isfinite().all())
    assert len(seen) == count and all(height == width for height, width in seen)
