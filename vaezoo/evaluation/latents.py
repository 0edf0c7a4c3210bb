"""Activity of latents and use of codes."""

import torch
from torch import Tensor

from vaezoo.core import ACTIVE_VARIANCE, VAE, center, evaluating
from vaezoo.data import Dataset
from vaezoo.evaluation.batches import batches


def active_units(model: VAE, data: Dataset) -> int:
    """Returns the number of active latents: those whose posterior mean has a variance above 0.01 over the set.

    Burda et al., 2016, https://arxiv.org/abs/1509.00519, section 5.2. Meaningless for discrete codes; see `perplexity`.
    """
    with evaluating(model):
        means = torch.cat([center(model.encoder(x, c)).flatten(1) for x, c in batches(model, data)])
    return int((means.var(0) > ACTIVE_VARIANCE).sum())


def perplexity(indices: Tensor) -> float:
    """Returns the perplexity of a histogram of codes, exp of its entropy: the effective number of codes in use.

    Args:
        indices: code indices of a whole set, of any shape, int64.
    """
    shares = torch.bincount(indices.flatten()).double() / indices.numel()
    return float(torch.special.entr(shares).sum().exp())
