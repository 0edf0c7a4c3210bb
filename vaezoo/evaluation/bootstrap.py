"""Bootstrap intervals of means over examples."""

import torch
from torch import Tensor

from vaezoo.core import as_number, whole_number, whole_seed
from vaezoo.errors import ConfigError, ShapeError, SupportError, shorten


def bootstrap_interval(
    values: Tensor, *, level: float = 0.95, resamples: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of the mean of values of examples (Efron, 1979).

    The mean of each resample is that of N values drawn with replacement. The interval is about other examples of the
    same source; it does not contain what an importance-weighted evidence is too low by, see
    `Report.effective_samples`.

    Args:
        values: figures of each example, such as `evidence(model, data)`, (N,), N ≥ 2.
        level: share of the resamples inside the interval, between 0 and 1.
        resamples: their number, at least 100.
        seed: of the resamples.

    Raises:
        ShapeError: `values` is not (N,) with at least two numbers.
        SupportError: a value is NaN or infinite.
        ConfigError: an option is out of range.
    """
    resamples, seed, share = whole_number(resamples, "resamples", 100), whole_seed(seed), as_number(level)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ConfigError(f"Got level = {shorten(level)}; expected a number between 0 and 1, such as 0.95.")
    values = torch.as_tensor(values).detach().cpu().double()
    if values.dim() != 1 or len(values) < 2:
        raise ShapeError(f"Got values of shape {tuple(values.shape)}; expected those of at least 2 examples, (N,).")
    if not bool(values.isfinite().all()):
        raise SupportError("Got values that are NaN or infinite; expected finite ones. Leave such examples out.")
    generator = torch.Generator().manual_seed(seed)
    count = len(values)
    means = torch.stack([values[torch.randint(count, (count,), generator=generator)].mean() for _ in range(resamples)])
    low, high = means.quantile(torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=means.dtype)).tolist()
    return low, high
