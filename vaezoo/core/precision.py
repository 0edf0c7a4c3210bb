"""Types in which densities are computed."""

import torch
from torch import Tensor


def full_precision(raw: Tensor) -> Tensor:
    """Returns `raw` as float32 where it is half or bfloat16: densities need more than 8 or 11 bits of mantissa."""
    return raw.float() if raw.dtype in (torch.bfloat16, torch.float16) else raw


def widest(values: Tensor) -> Tensor:
    """Returns `values` as float64, or as float32 on a device that has no wider type."""
    return values.float() if values.device.type == "mps" else values.double()
