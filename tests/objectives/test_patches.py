"""Autoencoders with a critic of patches: the loss term by term, the adaptive weight by hand, the start."""

import math

import pytest
import torch

import vaezoo
from vaezoo.core import VAE
from vaezoo.errors import ShapeError
from vaezoo.networks.features import PerceptualDistance
from vaezoo.networks.patch_critic import PatchCritic

SHAPE = (3, 16, 16)


def autoencoder(**options: object) -> VAE:
    torch.manual_seed(0)
    backbone = {"name": "resnet", "channels": [8, 8]}
    return vaezoo.create("kl-autoencoder", shape=SHAPE, backbone=backbone, latent=(4, 8, 8), **options)


def test_loss_is_the_absolute_error_of_pixels_in_minus_one_to_one_plus_the_weighted_rate() -> None:
    """Term by term, in float64, with the constant log 2b of a Laplace density of scale b = 0.5 that vanishes."""
    model, x = autoencoder(beta=1e-6).double(), torch.rand(4, *SHAPE, dtype=torch.float64)
    torch.manual_seed(1)
    elbo = model(x)
    torch.manual_seed(1)
    posterior = model.encode(x)
    z = posterior.rsample()
    mean, deviation = posterior.mean, posterior.stddev
    error = ((2 * x - 1) - (2 * model.decode(z).mean - 1)).abs().flatten(1).sum(1)
    kl = 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).flatten(1).sum(1)
    torch.testing.assert_close(elbo.distortion, error, rtol=1e-9, atol=1e-5)
    torch.testing.assert_close(elbo.rate, kl, rtol=1e-9, atol=1e-5)
    torch.testing.assert_close(elbo.losses["model"], error + 1e-6 * kl, rtol=1e-9, atol=1e-5)
    torch.testing.assert_close(elbo.bound, -(error + kl), rtol=1e-9, atol=1e-5)


def test_a_laplace_of_scale_one_adds_log_two_for_each_element() -> None:
    model = autoencoder(likelihood={"name": "laplace", "scale": 1.0}).double()
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    torch.manual_seed(1)
    elbo = model(x)
    torch.manual_seed(1)
    error = (x - model.decode(model.encode(x).rsample()).mean).abs().flatten(1).sum(1)
    torch.testing.assert_close(elbo.distortion, error + math.prod(SHAPE) * math.log(2.0), rtol=1e-9, atol=1e-5)


def test_adaptive_weight_is_the_ratio_of_the_gradients_at_the_last_layer() -> None:
    model, x = autoencoder(critic=0.7, critic_channels=4).double(), torch.rand(3, *SHAPE, dtype=torch.float64)
    torch.manual_seed(2)
    elbo = model(x)
    torch.manual_seed(2)
    likelihood = model.decode(model.encode(x).rsample())
    critic, weights = model.objective.critic, model.decoder.network.head.weight
    logits = critic(likelihood.mean)
    norms = [
        torch.autograd.grad(term, weights, retain_graph=True)[0].square().sum().sqrt()
        for term in (-likelihood.log_prob(x).mean(), -logits.mean())
    ]
    weight = norms[0] / (norms[1] + 1e-4)
    assert 1.0 < float(weight) < 1e4
    torch.testing.assert_close(elbo.terms["adversarial_weight"], weight.expand(3), check_dtype=False, rtol=1e-5, atol=0)
    plain = elbo.distortion + 1e-6 * elbo.rate
    wanted = plain + 0.7 * weight * -logits.flatten(1).mean(1)
    torch.testing.assert_close(elbo.losses["model"], wanted, rtol=1e-5, atol=1e-5)
    entropy = -0.5 * (critic(x).sigmoid().log() + (1 - logits.sigmoid()).log()).flatten(1).mean(1)
    torch.testing.assert_close(elbo.losses["critic"], entropy)


def test_the_critic_has_no_effect_before_its_start_and_none_on_the_rest_of_the_report() -> None:
    model, x = autoencoder(critic=1.0, critic_channels=4, critic_start=10), torch.rand(2, *SHAPE)
    found = []
    for step in (9, 10):
        torch.manual_seed(3)
        found.append(model(x, step=torch.tensor(step)))
    before, after = found
    plain = before.distortion + 1e-6 * before.rate
    torch.testing.assert_close(before.losses["model"], plain)
    assert not before.losses["critic"].any() and after.losses["critic"].all()
    assert not torch.allclose(after.losses["model"], plain)
    torch.testing.assert_close(before.bound, after.bound)
    with torch.no_grad():
        assert torch.isfinite(model.eval()(x).losses["model"]).all()


@pytest.mark.parametrize("size", [(4, 4), (7, 9), (16, 31), (64, 64)])
def test_patches_of_any_size(size: tuple[int, int]) -> None:
    logits = PatchCritic((3, *size), 4)(torch.rand(2, 3, *size))
    assert logits.dim() == 3 and len(logits) == 2 and logits[0].numel() >= 1


def test_each_logit_depends_on_a_patch_and_not_on_the_image() -> None:
    critic, x = PatchCritic((1, 64, 64), 4), torch.rand(1, 1, 64, 64, requires_grad=True)
    for module in critic.modules():
        if isinstance(module, torch.nn.GroupNorm):  # its mean is over the image
            module.forward = lambda each: each  # type: ignore[method-assign]
    logits = critic(x)
    (gradient,) = torch.autograd.grad(logits[0, 0, 0], x)
    rows = gradient[0, 0].abs().sum(1).nonzero().max() + 1
    assert logits.shape == (1, 8, 8) and int(rows) == 23  # from row -1 before the border: 24 in all


def test_other_data_than_images_have_a_critic_with_one_logit() -> None:
    model = vaezoo.create("kl-autoencoder", shape=(30,), backbone="mlp", latent=4, critic=1.0, critic_channels=8)
    assert model.objective.critic(torch.randn(5, 30)).shape == (5, 1)
    assert torch.isfinite(model(torch.randn(2, 30)).losses["critic"]).all()
    model = vaezoo.create("kl-autoencoder", shape=(30,), backbone="mlp", latent=4)
    assert model.objective.critic is None and {*model(torch.randn(2, 30)).losses} == {"model"}
    assert torch.isfinite(model(torch.randn(2, 30)).bound).all()


def test_vq_gan_keeps_the_penalties_of_the_codes() -> None:
    torch.manual_seed(0)
    options = {"codes": 16, "critic_channels": 4}
    model = vaezoo.create("vq-vae+vq-gan", shape=SHAPE, backbone={"name": "conv", "channels": [8, 8]}, **options)
    elbo = model(torch.rand(2, *SHAPE))
    assert {"commitment", "adversarial", "adversarial_weight"} <= {*elbo.terms}
    term = elbo.terms["adversarial_weight"] * elbo.terms["adversarial"]
    plain = elbo.distortion + elbo.rate + 0.25 * elbo.terms["commitment"]
    torch.testing.assert_close(elbo.losses["model"], plain + term, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("critic", [0.0, 0.5])
def test_the_perceptual_term_is_the_distance_for_each_value_of_an_image(critic: float) -> None:
    model = autoencoder(beta=1e-6, perceptual=0.3, critic=critic, critic_channels=4).double()
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    torch.manual_seed(1)
    elbo = model(x)
    torch.manual_seed(1)
    made = model.decode(model.encode(x).rsample()).mean
    term = math.prod(SHAPE) * PerceptualDistance().double()(x, made)
    torch.testing.assert_close(elbo.terms["perceptual"], term.detach())
    loss = elbo.distortion + 1e-6 * elbo.rate + 0.3 * term
    if critic:
        weights, logits = model.decoder.network.head.weight, model.objective.critic(made)
        norms = [
            torch.autograd.grad(each, weights, retain_graph=True)[0].norm() for each in (loss.mean(), logits.mean())
        ]
        weight = norms[0] / (norms[1] + 1e-4)
        torch.testing.assert_close(elbo.terms["adversarial_weight"].double(), weight.expand(4), rtol=1e-5, atol=0)
        loss = loss - 0.5 * weight * logits.flatten(1).mean(1)
    torch.testing.assert_close(elbo.losses["model"], loss, rtol=1e-5, atol=1e-5)
    assert not [key for key in model.state_dict() if "networks" in key]


def test_the_perceptual_term_trains_the_decoder() -> None:
    model, x = autoencoder(beta=0.0, perceptual=1.0), torch.rand(2, *SHAPE)
    inference = model.infer(x, None, 1)
    (_, penalty) = model.objective.penalties["perceptual"]
    gradients = torch.autograd.grad(penalty(model, inference).sum(), [*model.decoder.parameters()], allow_unused=True)
    assert sum(float(each.abs().sum()) for each in gradients if each is not None) > 0


@pytest.mark.parametrize("shape", [(30,), (2, 32, 32), (3, 12, 32)])
def test_the_perceptual_term_needs_gray_or_color_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"perceptual = 0"):
        vaezoo.create("kl-autoencoder", shape=shape, backbone="mlp", latent=4, perceptual=1.0)


def test_vq_gan_without_a_critic_has_the_perceptual_term_alone() -> None:
    torch.manual_seed(0)
    options = {"codes": 16, "critic": 0.0, "perceptual": 0.5}
    model = vaezoo.create("vq-vae+vq-gan", shape=SHAPE, backbone={"name": "conv", "channels": [8, 8]}, **options)
    elbo = model(torch.rand(2, *SHAPE))
    assert {*elbo.losses} == {"model"}
    plain = elbo.distortion + elbo.rate + 0.25 * elbo.terms["commitment"] + 0.5 * elbo.terms["perceptual"]
    torch.testing.assert_close(elbo.losses["model"], plain, rtol=1e-5, atol=1e-3)
