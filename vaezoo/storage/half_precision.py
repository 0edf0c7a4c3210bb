"""Weights that are stored in half precision and loaded as float32."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vaezoo.errors import ConfigError, shorten

HALF_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def narrow(state: Mapping[str, Tensor], dtype: str | torch.dtype) -> dict[str, Tensor]:
    """Returns a float32 state with its floating tensors rounded to a narrower type.

    Args:
        state: tensors by name.
        dtype: "float16" (11 significant bits, up to 65504) or "bfloat16" (8 bits, the range of float32).

    Raises:
        ConfigError: another type, a state that is not float32, or a value beyond the range of `dtype`.
    """
    kind = HALF_TYPES.get(dtype) if isinstance(dtype, str) else dtype
    if kind not in HALF_TYPES.values():
        raise ConfigError(f"Got dtype {shorten(dtype)}; expected {' or '.join(HALF_TYPES)}.")
    result = dict(state)
    for key, tensor in state.items():
        if tensor.is_floating_point():
            if tensor.dtype != torch.float32:
                raise ConfigError(f"{key} is {tensor.dtype}; only float32 models can be stored in half precision.")
            result[key] = tensor.to(kind)
            if bool((torch.isinf(result[key]) & torch.isfinite(tensor)).any()):
                raise ConfigError(f"{key} has values beyond the range of {dtype}; use bfloat16 or keep float32.")
    return result


def widen(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state with its half-precision tensors as float32, which is exact."""
    halves = set(HALF_TYPES.values())
    return {key: tensor.float() if tensor.dtype in halves else tensor for key, tensor in state.items()}
