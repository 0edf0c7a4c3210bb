"""Objectives of models with discrete codes."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from vaezoo.core import ELBO, Inference, Model, sample_with_log_prob
from vaezoo.distributions.joint_sampling import sum_event
from vaezoo.objectives import PenalizedObjective, Schedule, WeightedObjective
from vaezoo.quantization.codes import CodePoint
from vaezoo.quantization.gumbel import GumbelCodes

__all__ = ["CodeObjective", "CommitmentObjective", "RelaxedObjective", "commitment_of"]


class CodeObjective(PenalizedObjective):
    """Minimises D + R and penalties; under a uniform prior R is a constant."""

    def cost(self, distortion: Tensor, rate: Tensor, step: Tensor | None) -> Tensor:
        """Returns D + R, (B,); D alone where nothing learns from the rate."""
        return distortion + rate if rate.requires_grad else distortion


class CommitmentObjective(CodeObjective):
    r"""Minimises $D + R + \beta\,\sum |z_e - e|^2$, with codes that follow by themselves."""

    def __init__(self, commitment: float) -> None:
        super().__init__({"commitment": (commitment, commitment_of)})

    def report(self, model: Model, inference: Inference, step: Tensor | None) -> ELBO:
        """Returns the ELBO with the terms `codebook` and `commitment`, squared distances summed over positions."""
        elbo = super().report(model, inference, step)
        distance = elbo.terms.get("commitment")
        distance = commitment_of(model, inference).detach() if distance is None else distance
        return replace(elbo, terms={"codebook": distance, **elbo.terms})


def commitment_of(model: Model, inference: Inference) -> Tensor:
    """Returns the squared distance of what was encoded to its codes, (B,)."""
    return cast(CodePoint, inference.posterior).distance()


class RelaxedObjective(WeightedObjective):
    r"""Minimises $D + \beta R$ with draws that are relaxed at the temperature of each step, where they are relaxed."""

    def __init__(self, rate: float, temperature: Schedule) -> None:
        super().__init__(rate)
        self.temperature = temperature

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO, with the one player `model`."""
        posterior = cast(GumbelCodes, model.encoder(x, c))
        if posterior.choices.temperature is not None:
            posterior.choices.temperature = self.temperature(step)
        z, log_q = sample_with_log_prob(posterior, self.samples)
        likelihood, prior = model.decoder(z, c), model.prior(c)
        inference = Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=prior, likelihood=likelihood)
        return self.report(model, inference, step)


def entropy_penalty(model: Model, inference: Inference, temperature: float) -> Tensor:
    r"""Returns the entropy of each position's soft code less that of their mean over the batch, (B,), summed over N.

    The probability of a code is proportional to $e^{-|y - e|^2 / \tau}$, which is a product over bits.
    """
    encoded = cast(CodePoint, inference.posterior).encoded
    logits = 4.0 / temperature * encoded.movedim(1, -1).flatten(1, -2)  # (B, N, D), of the bit 1
    own = (-logits).sigmoid() * logits - logsigmoid(logits)  # the entropy of each bit
    # The mean over rows of a product over bits is a matrix product of two halves of the bits.
    rows = logits.flatten(0, 1)
    first, second = (joint(half) for half in rows.tensor_split(2, 1))
    mean = first.T @ second / len(rows)
    return sum_event(own, 2) - logits.shape[1] * cast(Tensor, torch.special.entr(mean)).sum()


def joint(logits: Tensor) -> Tensor:
    """Returns the probabilities (R, 2^D) of all combinations of bits with logits (R, D)."""
    found = logits.new_ones(len(logits), 1)
    for column in logits.unbind(1):
        both = torch.stack([(-column).sigmoid(), column.sigmoid()], 1)
        found = (both[:, :, None] * found[:, None, :]).flatten(1)
    return found
