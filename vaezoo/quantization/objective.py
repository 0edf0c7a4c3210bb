r"""Objectives of models with discrete codes: $D + R$, penalties for commitment and entropy, and relaxed draws."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from vaezoo.core import ELBO, Inference, Model, sample_with_log_prob
from vaezoo.distributions import sum_event
from vaezoo.objectives import PenalizedObjective, Penalty, Schedule, WeightedObjective
from vaezoo.quantization.codes import CodePoint
from vaezoo.quantization.gumbel import GumbelCodes, StochasticCodes
from vaezoo.quantization.learned import IndexPoint
from vaezoo.quantization.table import CodeTable

SMALLEST = 1e-30  # probability of a code, so that the gradient of its entropy is finite


class CodeObjective(PenalizedObjective):
    """The objective D + R with penalties; R is constant under a uniform prior."""

    def trains_prior(self) -> bool:
        """Returns True: the loss has the rate."""
        return True

    def cost(self, distortion: Tensor, rate: Tensor, step: Tensor | None) -> Tensor:
        """Returns D + R, (B,); D alone if the rate has no gradient."""
        return distortion + rate if rate.requires_grad else distortion


class CommitmentObjective(CodeObjective):
    r"""The objective $D + R + \beta\,\sum_n \|y_n - e_{i_n}\|^2$, for codebooks that are learned by moving averages."""

    def __init__(self, commitment: float) -> None:
        super().__init__({"commitment": (commitment, commitment_distance)})

    def report(self, model: Model, inference: Inference, step: Tensor | None) -> ELBO:
        """Returns the ELBO with the terms `codebook` and `commitment`, squared distances summed over positions."""
        elbo = super().report(model, inference, step)
        distance = elbo.terms.get("commitment")
        distance = commitment_distance(model, inference).detach() if distance is None else distance
        return replace(elbo, terms={"codebook": distance, **elbo.terms})


def commitment_distance(model: Model, inference: Inference) -> Tensor:
    """Returns the squared distance of encoder outputs to their codes, (B,), with the codes as constants."""
    return cast(CodePoint, inference.posterior).distance()


def codebook_distance(model: Model, inference: Inference) -> Tensor:
    """Returns the squared distance of encoder outputs to their codes, (B,), with the outputs as constants."""
    return cast(CodePoint, inference.posterior).codebook_distance()


def index_distance(model: Model, inference: Inference) -> Tensor:
    """Returns the squared distance of encoder outputs to latents, (B,), with the gradient of all codes."""
    return cast(IndexPoint, inference.posterior).index_distance()


def scaled_distance(model: Model, inference: Inference) -> Tensor:
    """Returns the expected squared distance of encoder outputs to their codes, over twice the variance, (B,)."""
    return cast(StochasticCodes, inference.posterior).scaled_distance()


def orthogonality(model: Model, inference: Inference) -> Tensor:
    r"""Returns the mean squared cosine of two codes of the encoder's table without that of each with itself, 0-dim.

    With unit codes $\hat e_v$ it is $V^{-2} \sum_{uv} (\hat e_u^\top \hat e_v)^2 - 1/V$ (after Shin et al., 2021,
    https://arxiv.org/abs/2112.00384), which is the same for all examples.
    """
    table = normalize(cast(CodeTable, model.encoder).table(), dim=1)
    # The (D, D) product has the same norm as the (V, V) one.
    return (table.T @ table).square().sum() / len(table) ** 2 - 1.0 / len(table)


class RelaxedObjective(WeightedObjective):
    r"""The objective $D + \beta R$ with draws that are relaxed at a scheduled temperature.

    Args:
        rate: $\beta$.
        temperature: schedule of the temperature; applies to posteriors with relaxed draws.
        penalties: see `PenalizedObjective`.
    """

    def __init__(
        self, rate: float, temperature: Schedule, penalties: Mapping[str, tuple[float, Penalty]] | None = None
    ) -> None:
        super().__init__(rate, penalties=penalties)
        self.temperature = temperature

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO, with the player `model`."""
        posterior = cast(GumbelCodes, model.encoder(x, c))
        if posterior.choices.temperature is not None:
            posterior.choices.temperature = self.temperature(step)
        z, log_q = sample_with_log_prob(posterior, self.samples)
        likelihood, prior = model.decoder(z, c), model.prior(c)
        inference = Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=prior, likelihood=likelihood)
        return self.report(model, inference, step)


def index_entropy(model: Model, inference: Inference, temperature: float) -> Tensor:
    r"""Returns the entropy of each position's indices minus that of the batch mean, (B,), summed over positions.

    The probabilities are the softmax of the posterior's logits divided by `temperature`.
    """
    logits = cast(IndexPoint, inference.posterior).logits
    log_probs = (logits / temperature).log_softmax(-1)
    own = -sum_event(log_probs.exp() * log_probs, log_probs.dim() - 1)
    mean = log_probs.exp().flatten(0, -2).mean(0)
    positions = math.prod(logits.shape[1:-1])
    return own - positions * cast(Tensor, torch.special.entr(mean.clamp(min=SMALLEST))).sum()


def bit_entropy(model: Model, inference: Inference, temperature: float) -> Tensor:
    r"""Returns the entropy of each position's bits minus that of each bit's batch mean, (B,), summed over positions.

    The probability of a code is proportional to $e^{-\|y - e\|^2 / \tau}$ with $e \in \{-1, 1\}^D / \sqrt D$. The bits
    of the mean are taken as independent (Zhao et al., 2024, https://arxiv.org/abs/2406.07548), so that the cost is
    linear in D; the entropy of the mean over codes is at most this.
    """
    encoded = cast(CodePoint, inference.posterior).encoded
    encoded = encoded.reshape(*encoded.shape[:2], -1).mT  # (B, N, D)
    logits = 4.0 / (temperature * math.sqrt(encoded.shape[-1])) * encoded
    mean = logits.sigmoid().flatten(0, 1).mean(0)
    both = torch.stack([mean, 1.0 - mean]).clamp(min=SMALLEST)
    own = sum_event(entropy_of_bits(logits), 2)
    return own - logits.shape[1] * cast(Tensor, torch.special.entr(both)).sum()


def entropy_of_bits(logits: Tensor) -> Tensor:
    """Returns the entropy of each bit with the logits of 1, likewise."""
    return (-logits).sigmoid() * logits - logsigmoid(logits)


def entropy_penalty(model: Model, inference: Inference, temperature: float) -> Tensor:
    r"""Returns the entropy of each position's soft code minus that of the batch mean, (B,), summed over positions.

    The probability of a code is proportional to $e^{-\|y - e\|^2 / \tau}$, which is a product over bits.
    """
    encoded = cast(CodePoint, inference.posterior).encoded
    logits = 4.0 / temperature * encoded.reshape(*encoded.shape[:2], -1).mT  # (B, N, D), logits of the bit 1
    # The mean over rows of a product over bits is a matrix product of two halves of the bits: no (R, 2^D) in memory.
    rows = logits.flatten(0, 1)
    first, second = (joint_probabilities(half) for half in rows.tensor_split(2, 1))
    mean = first.T @ second / len(rows)
    own = sum_event(entropy_of_bits(logits), 2)
    return own - logits.shape[1] * cast(Tensor, torch.special.entr(mean.clamp(min=SMALLEST))).sum()


def joint_probabilities(logits: Tensor) -> Tensor:
    """Returns the probabilities (R, 2^D) of all combinations of bits with logits (R, D)."""
    found = logits.new_ones(len(logits), 1)
    for column in logits.unbind(1):
        both = torch.stack([(-column).sigmoid(), column.sigmoid()], 1)
        found = (both[:, :, None] * found[:, None, :]).flatten(1)
    return found
