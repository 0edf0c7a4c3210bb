r"""Adversarial objectives: a critic learns to discriminate between two distributions, and the model to make them equal.

A critic's *logit* $C$ is trained to be positive for samples of $p$ and negative for samples of $q$. The minimum of
$\tfrac12\,\mathbb{E}_p[\log(1 + e^{-C})] + \tfrac12\,\mathbb{E}_q[\log(1 + e^{C})]$ is at $C = \log p/q$ and equals
$\log 2$ minus their Jensen-Shannon divergence (Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661): $\log 2$
where they are equal.

Each player has its own parameters and its own loss, whose gradient is with respect to these parameters alone. Bound,
rate and distortion do not depend on the critic. It is not saved, and a model without it has the losses of the model
alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, leaky_relu, softplus

from vaezoo.core import ELBO, Inference, Model, as_part, full_precision, network_inputs
from vaezoo.errors import CompositionError
from vaezoo.objectives.penalties.discrepancy import sample_prior
from vaezoo.objectives.players import players_of
from vaezoo.objectives.weighted import PenalizedObjective, Penalty, WeightedObjective

NEGATIVE_SLOPE = 0.2  # of a critic's leaky ReLU, as is usual for critics of images (Radford et al., 2016)


def critic_logit(critic: nn.Module, x: Tensor, c: Tensor | None = None) -> Tensor:
    """Returns the logits (B,) of a critic for x (B, ...), an estimated log ratio of densities, at least in float32."""
    return full_precision(critic(*network_inputs(x, c))).squeeze(-1)


def critic_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Returns the loss (B,) of a critic, nats, from its logits for samples of each class; log 2 for logits of 0."""
    return 0.5 * (softplus(-positive) + softplus(negative))


def critic_accuracy(positive: Tensor, negative: Tensor) -> Tensor:
    """Returns the share of each pair of samples that a critic classifies correctly, (B,): 0, ½ or 1."""
    return 0.5 * ((positive > 0).to(positive.dtype) + (negative < 0).to(negative.dtype)).detach()


class AdversarialObjective(PenalizedObjective):
    """Base of objectives with a critic. A subclass sets `critic` and defines `add_critic`."""

    critics = ("critic",)
    critic: nn.Module | None

    def players(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Returns the model's parameters, the critic's, and those of a learned prior that has a loss of its own."""
        return players_of(model, {**self.fitted_prior(model), "critic": self.critic}, rest="model")

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO, with a loss for each player; without a critic that of `report`."""
        inference = self.infer(model, x, c)
        elbo = self.report(model, inference, step)
        return elbo if self.critic is None else self.add_critic(model, inference, c, step, elbo)

    def add_critic(self, model: Model, inference: Inference, c: Tensor | None, step: Tensor | None, elbo: ELBO) -> ELBO:
        """Returns `elbo`, that of the model alone, with the losses and terms of all players."""
        raise NotImplementedError


class LatentAdversarialObjective(AdversarialObjective):
    r"""The objective $D + \lambda \log(1 + e^{-C(z)})$, with a critic of samples of the prior and the posterior.

    The model's term is the non-saturating one (Goodfellow et al., 2014, section 3).

    Args:
        critic: maps z (B, *latent) and c (B, context) to (B, 1).
        weight: $\lambda \ge 0$; 0 trains the critic but does not use it.
        known_prior: adds log p(z) to the output of the critic, which then only has to learn -log q(z).
    """

    def __init__(self, critic: nn.Module, weight: float, *, known_prior: bool = False) -> None:
        super().__init__()
        self.critic: nn.Module | None = critic
        self.weight, self.known_prior = weight, known_prior

    def add_critic(self, model: Model, inference: Inference, c: Tensor | None, step: Tensor | None, elbo: ELBO) -> ELBO:
        """Returns the ELBO with the terms `adversarial`, log(1 + exp(-C(z))), and `critic_accuracy`."""
        prior_z, z = sample_prior(inference).detach(), inference.z[0]
        positive, negative = self.log_ratio(inference, prior_z, c), self.log_ratio(inference, z, c)
        adversarial = softplus(-negative)
        loss = elbo.losses["model"] + self.weight * adversarial if self.weight else elbo.losses["model"]
        accuracy = critic_accuracy(positive, negative)
        return replace(
            elbo,
            losses={**elbo.losses, "model": loss, "critic": critic_loss(positive, negative)},
            terms={**elbo.terms, "adversarial": adversarial.detach(), "critic_accuracy": accuracy},
        )

    def log_ratio(self, inference: Inference, z: Tensor, c: Tensor | None) -> Tensor:
        """Returns the critic's logit for z (B, *latent), (B,), its estimate of log p(z)/q(z)."""
        assert self.critic is not None
        logit = critic_logit(self.critic, z, c)
        return logit + inference.prior.log_prob(z) if self.known_prior else logit


class TotalCorrelationObjective(AdversarialObjective, WeightedObjective):
    r"""The objective $D + R + \gamma\,\mathrm{TC}$, whose total correlation is the logit of a critic.

    The critic discriminates between samples of $q(z)$ and of $\prod_j q(z_j)$: latents shuffled over the batch.
    """

    def __init__(self, gamma: float, critic: nn.Module) -> None:
        super().__init__()
        self.gamma = gamma
        self.critic: nn.Module | None = critic

    def check_parts(self, model: Model) -> None:
        """Validates the parts as every objective does, and that the latents of the prior may be independent."""
        super().check_parts(model)
        if as_part(model.prior).has_dependent_latents:
            raise CompositionError(
                f"Got a {type(model.prior).__name__}, whose latents depend on each other; a penalty of the total "
                "correlation expected a prior of independent latents, since it opposes that dependence. Leave out "
                "factor-vae, or the variant that changes the prior."
            )

    def add_critic(self, model: Model, inference: Inference, c: Tensor | None, step: Tensor | None, elbo: ELBO) -> ELBO:
        """Returns the ELBO with the terms `total_correlation` and `critic_accuracy`."""
        assert self.critic is not None
        z = inference.z[0].flatten(1)
        own = z.detach()
        shuffled = own.gather(0, torch.rand_like(own).argsort(0))
        correlation, negative = critic_logit(self.critic, z), critic_logit(self.critic, shuffled)
        loss = elbo.losses["model"] + self.gamma * correlation if self.gamma else elbo.losses["model"]
        return replace(
            elbo,
            losses={**elbo.losses, "model": loss, "critic": critic_loss(correlation, negative)},
            terms={
                "total_correlation": correlation.detach(),
                "critic_accuracy": critic_accuracy(correlation, negative),
            },
        )


class FeatureCritic(nn.Module):
    """A critic of data whose last hidden layer also measures similarity.

    That layer is normalized over the features of each example: otherwise their scale, and with it all distances, would
    drift as the critic learns. (Larsen et al. normalize over the batch, which couples its examples.)

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, *grid).
        width: number of elements of the grid.
    """

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(width, 1)

    def features(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns the last hidden layer for x (B, *shape), (B, width)."""
        hidden = full_precision(self.network(*network_inputs(x, c))).flatten(1)
        return leaky_relu(layer_norm(hidden, hidden.shape[1:]), NEGATIVE_SLOPE)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns the logits for x (B, *shape), (B, 1)."""
        return self.logits(self.features(x, c))

    def logits(self, features: Tensor) -> Tensor:
        """Returns the logits for features (B, width), (B, 1)."""
        out: Tensor = self.head(features.to(self.head.weight.dtype))
        return out


class SimilarityObjective(AdversarialObjective, WeightedObjective):
    r"""Encoder, decoder and critic with $R + D_l$, $\gamma D_l - L$ and $L$; without the critic the model has $D + R$.

    $D_l$ is half the squared distance between the critic's features of x and of the mean of p(x|z), and $L$ is the
    critic's loss for data, reconstructions and samples (Larsen et al., 2016, https://arxiv.org/abs/1512.09300).

    Args:
        gamma: $\gamma \ge 0$.
        critic: the critic of x.
        penalties: terms of the encoder's loss, see `PenalizedObjective`.
        with_samples: whether the critic is applied to samples too, and not only to reconstructions.
    """

    def __init__(
        self,
        gamma: float,
        critic: FeatureCritic,
        *,
        penalties: Mapping[str, tuple[float, Penalty]] | None = None,
        with_samples: bool = True,
    ) -> None:
        super().__init__(penalties=penalties)
        self.gamma, self.with_samples = gamma, with_samples
        self.critic: nn.Module | None = critic

    def players(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Returns the parameters of decoder and critic, and all others (those of a prior too) for the encoder."""
        if self.critic is None:
            return super().players(model)
        return players_of(model, {"decoder": model.decoder, "critic": self.critic}, rest="encoder")

    def add_critic(self, model: Model, inference: Inference, c: Tensor | None, step: Tensor | None, elbo: ELBO) -> ELBO:
        """Returns the ELBO with the terms `similarity`, half a squared distance of features, and `critic_accuracy`."""
        critic = cast(FeatureCritic, self.critic)
        images = [inference.x, inference.likelihood.mean[0]]
        if self.with_samples:
            images.append(model.decoder(sample_prior(inference).detach(), c).mean)
        features = [critic.features(each, c) for each in images]
        data, *generated = (full_precision(critic.logits(each)).squeeze(-1) for each in features)
        similarity = 0.5 * (features[1] - features[0]).square().sum(1)
        detected = torch.stack([softplus(each) for each in generated]).sum(0)
        encoder, _ = self.penalized(model, inference, similarity + self.penalty(elbo.rate, step))
        return replace(
            elbo,
            losses={
                "encoder": encoder,
                "decoder": self.gamma * similarity - detected if self.gamma else -detected,
                "critic": softplus(-data) + detected,
            },
            terms={
                **elbo.terms,
                "similarity": similarity.detach(),
                "critic_accuracy": critic_accuracy(data, generated[-1]),
            },
        )
