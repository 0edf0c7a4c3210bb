"""What the latents carry."""

from __future__ import annotations

import torch
from torch import Tensor

from vaezoo.core import ACTIVE_VARIANCE, VAE, as_part, center, code_indices
from vaezoo.data import Dataset
from vaezoo.evaluation.batches import batches

__all__ = ["active_units", "codes", "mean_perplexity", "perplexity"]

@torch.no_grad()
def active_units(model: VAE, data: Dataset) -> int:
    """Returns how many latents are active: the variance of their posterior mean over the set exceeds 0.01.

    Burda et al., 2016, https://arxiv.org/abs/1509.00519, section 5.2. Meaningless for discrete codes; see `perplexity`.
    """
    centres = torch.cat([center(model.encoder(x, c)).flatten(1) for x, c in batches(model, data)])
    return int((centres.var(0) > ACTIVE_VARIANCE).sum())


@torch.no_grad()
def codes(model: VAE, data: Dataset) -> Tensor | None:
    """Returns the code indices of every example, (N, *grid) int64, or None for a model without codes."""
    found = []
    for x, c in batches(model, data):
        indices = code_indices(model.encoder(x, c))
        if indices is None:
            return None
        found.append(indices)
    return torch.cat(found)


def perplexity(indices: Tensor) -> float:
    """Returns the perplexity of a histogram of codes, exp of its entropy: how many codes are in use, evenly counted.

    Args:
        indices: code indices of a whole set, of any shape, int64.
    """
    shares = torch.bincount(indices.flatten()).double() / indices.numel()
    return float(torch.special.entr(shares).sum().exp())


def mean_perplexity(model: VAE, indices: Tensor) -> float:
    """Returns the perplexity of codes (N, …), the mean over levels for an encoder that has several (`sections`)."""
    rows = indices.flatten(1) if indices.dim() > 1 else indices.unsqueeze(1)
    levels = rows.split(as_part(model.encoder).sections or (rows.shape[1],), 1)
    return sum(map(perplexity, levels)) / len(levels)
