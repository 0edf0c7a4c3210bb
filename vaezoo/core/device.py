"""Choice of the device by name, and of types in which densities are computed."""

import torch
from torch import Tensor

from vaezoo.errors import DataError


def choose_device(name: str = "auto") -> torch.device:
    """Returns the device of this name; "auto" chooses a GPU if there is one.

    Raises:
        DataError: the device cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DataError(
            f"Got device {name!r}, which cannot be used here: {error}. Use device='auto' or 'cpu'."
        ) from None
    return device


def fast_bfloat16(device: torch.device) -> bool:
    """Returns whether a device computes bfloat16 at least as fast as float32; True where that is not known."""
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return True
    if hasattr(torch.cpu, "get_capabilities"):
        known = [bool(has) for name, has in torch.cpu.get_capabilities().items() if "bf16" in name]
    else:  # before torch 2.10, and only of x86
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        known = [bool(getattr(torch.cpu, name)()) for name in names if hasattr(torch.cpu, name)]
    return any(known) or not known


def full_precision(raw: Tensor) -> Tensor:
    """Returns `raw` as float32 where it is half or bfloat16: densities need more than 8 or 11 bits of mantissa."""
    return raw.float() if raw.dtype in (torch.bfloat16, torch.float16) else raw


def widest(values: Tensor) -> Tensor:
    """Returns `values` as float64, or as float32 on a device that has no wider type."""
    return values.float() if values.device.type == "mps" else values.double()
