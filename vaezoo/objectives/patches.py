r"""The objective of image autoencoders for latent diffusion: distortion, weighted rate, and a critic of patches."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from vaezoo.core import ELBO, Inference, Model, as_part, full_precision
from vaezoo.objectives.adversarial import AdversarialObjective, critic_accuracy, critic_loss
from vaezoo.objectives.weighted import Penalty, WeightedObjective

LARGEST_WEIGHT = 1e4
SMALL_GRADIENT = 1e-4  # added to the norm of a gradient that is divided by


class PatchAdversarialObjective(AdversarialObjective, WeightedObjective):
    r"""The objective $L + w \lambda G$ with a critic of image patches, $L = D + \beta R$ plus penalties.

    $G$ is minus the critic's mean logit for the mean of p(x|z), and $\lambda = |\nabla L| / (|\nabla G| + 10^{-4})$ at
    the weights of the decoder's last layer, so that with $w = 1$ both terms have gradients of equal size there (Esser
    et al., 2021, https://arxiv.org/abs/2012.09841). The critic minimizes `critic_loss` for data and reconstructions.

    Args:
        rate: $\beta$.
        critic: maps x (B, *shape) to logits (B, ...) of patches; None: the objective has no critic.
        weight: $w \ge 0$.
        start: number of steps before both losses of the critic are used.
        penalties: see `PenalizedObjective`.
    """

    def __init__(
        self,
        rate: float,
        critic: nn.Module | None,
        weight: float = 1.0,
        start: int = 0,
        penalties: Mapping[str, tuple[float, Penalty]] | None = None,
    ) -> None:
        super().__init__(rate, penalties=penalties)
        self.critic = critic
        self.weight, self.start = weight, start

    def add_critic(self, model: Model, inference: Inference, c: Tensor | None, step: Tensor | None, elbo: ELBO) -> ELBO:
        """Returns the ELBO with the terms `adversarial`, G, `adversarial_weight`, λ, and `critic_accuracy`."""
        assert self.critic is not None
        generated = inference.likelihood.mean[0]
        x = torch.where(inference.x.isnan(), generated.detach(), inference.x)  # NaN is a gap
        on = 1.0 if step is None or not self.start else (step >= self.start).to(elbo.distortion.dtype)
        adversarial = -self.logits(generated).mean(1)
        weight = adaptive_weight(elbo.losses["model"], adversarial, last_weights(model))
        positive, negative = self.logits(x), self.logits(generated.detach())
        critic = critic_loss(positive, negative).mean(1)
        return replace(
            elbo,
            losses={
                **elbo.losses,
                "model": elbo.losses["model"] + on * self.weight * weight * adversarial,
                "critic": on * critic,
            },
            terms={
                **elbo.terms,
                "adversarial": adversarial.detach(),
                "adversarial_weight": weight.expand_as(adversarial),
                "critic_accuracy": critic_accuracy(positive.mean(1), negative.mean(1)),
            },
        )

    def logits(self, x: Tensor) -> Tensor:
        """Returns the critic's logits for the patches of x (B, *shape), (B, patches)."""
        assert self.critic is not None
        return full_precision(self.critic(x)).flatten(1)


def adaptive_weight(loss: Tensor, adversarial: Tensor, weights: Tensor | None) -> Tensor:
    """Returns the ratio of the norms of two gradients with respect to `weights`, 0-dim; 1 without gradients.

    Args:
        loss: (B,), the numerator is the norm of the gradient of its mean.
        adversarial: (B,), the denominator likewise.
        weights: those of the decoder's last layer; None if it has none.
    """
    if weights is None or not (weights.requires_grad and loss.requires_grad and adversarial.requires_grad):
        return loss.new_ones(())
    norms = [
        torch.autograd.grad(each.mean(), weights, retain_graph=True)[0].float().norm() for each in (loss, adversarial)
    ]
    ratio: Tensor = (norms[0] / (norms[1] + SMALL_GRADIENT)).clamp(0.0, LARGEST_WEIGHT).detach()
    return ratio


def last_weights(model: Model) -> Tensor | None:
    """Returns the weights of the decoder's last layer, or None if it does not declare one."""
    layer = as_part(model.decoder).last_layer()
    return getattr(layer, "weight", None)
