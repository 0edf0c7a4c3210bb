"""Health of codebooks over a data set: codes in use, their dimension, and the error of the quantization."""

from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import VAE, as_part
from vaezoo.data import Dataset
from vaezoo.evaluation.batches import batches
from vaezoo.quantization import CodePoint, CodeSource, StochasticCodes

ROWS = 256  # codes that are looked up at a time


def levels_of(model: VAE, indices: Tensor) -> list[Tensor]:
    """Returns the indices of each level, (N, positions) each, of `indices` (N, ...) of a whole set."""
    rows = indices.flatten(1) if indices.dim() > 1 else indices.unsqueeze(1)
    return list(rows.split(as_part(model.encoder).sections or (rows.shape[1],), 1))


def used_codes(model: VAE, indices: Tensor) -> int:
    """Returns how many codes of all levels occur in `indices` (N, ...) of a whole set."""
    return sum(len(level.unique()) for level in levels_of(model, indices))


def code_dimension(model: VAE, indices: Tensor) -> float | None:
    """Returns the effective dimension of the codes in `indices` (N, ...), the mean over levels.

    It is the participation ratio of the eigenvalues of the covariance of the distinct codes; see `participation_ratio`.
    None for an encoder that is no `CodeSource`.
    """
    if not isinstance(model.encoder, CodeSource):
        return None
    levels = [level.unique() for level in levels_of(model, indices)]
    ratios = [participation_ratio(code_vectors(model.encoder, place, used)) for place, used in enumerate(levels)]
    return sum(ratios) / len(ratios)


def participation_ratio(vectors: Tensor) -> float:
    r"""Returns $(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2$ of the eigenvalues of the covariance of `vectors` (U, D).

    It is D for a covariance proportional to the identity, 1 for vectors on a line, and 0 for equal vectors.
    """
    centered = vectors.double() - vectors.double().mean(0)
    covariance = centered.T @ centered  # its factor cancels
    trace, squares = float(covariance.trace()), float(covariance.square().sum())
    return trace**2 / squares if squares > 0.0 else 0.0


def code_vectors(source: CodeSource, level: int, used: Tensor) -> Tensor:
    """Returns the codes `used` (U,) of a level minus its code 0, (U, D), without elements that are equal in all."""
    start, base = sum(source.sections[:level]), used.new_zeros(1, sum(source.sections))
    origin = source.look_up(base).flatten(1)

    def moved(rows: Tensor) -> Tensor:
        indices = base.repeat(len(rows), 1)
        indices[:, start] = rows  # at one position of the level, with code 0 at all others
        return source.look_up(indices).flatten(1) - origin

    parts = used.split(ROWS)
    own = torch.stack([(moved(part) != 0).any(0) for part in parts]).any(0)
    return torch.cat([moved(part)[:, own] for part in parts])


def quantization_error(model: VAE, data: Dataset, batch_size: int | None = None) -> float | None:
    """Returns the mean squared error of the quantization over the variance of what is quantized; None without either.

    Both are sums over the elements of a vector, and over levels that quantize different vectors. The codes of
    `residual-vq-vae` are compared as a sum, those of `sq-vae` are the most probable ones.

    Args:
        model: a model, in eval mode.
        data: the examples.
        batch_size: examples at a time; see `batches`.
    """
    sums: list[list[Tensor]] = []
    with torch.no_grad():
        for x, c in batches(model, data, batch_size):
            posterior = cast(Distribution, model.encoder(x, c))
            if not isinstance(posterior, CodePoint | StochasticCodes):
                return None
            sums.append([moments(*pair) for pair in posterior.quantized])
    error = variance = 0.0
    for each in zip(*sums, strict=True):
        total = torch.stack(each).sum(0)
        count, squares, errors, means = total[0], total[1], total[2], total[3:] / total[0]
        error += float(errors / count)
        variance += float(squares / count - means.square().sum())
    return error / variance if variance > 0.0 else None


def moments(encoded: Tensor, codes: Tensor) -> Tensor:
    """Returns (3 + D,): count, sum of squares, sum of squared errors and sums of vectors of two (B, D, *grid)."""
    rows, values = (each.movedim(1, -1).reshape(-1, each.shape[1]).double().cpu() for each in (encoded, codes))
    facts = [rows.new_tensor([len(rows)]), rows.square().sum()[None], (rows - values).square().sum()[None]]
    return torch.cat([*facts, rows.sum(0)])
