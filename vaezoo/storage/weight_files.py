"""Tensors in one file or several, their record in a config, and weights stored in half precision."""

from collections.abc import Iterator, Mapping

import torch
from safetensors.torch import save as pack_tensors
from torch import Tensor

from vaezoo.errors import ConfigError, shorten
from vaezoo.storage.config import file_names
from vaezoo.storage.json_files import sha256

SHARD = 2 * 10**9  # bytes of tensors in a file
HALF_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def packed(state: Mapping[str, Tensor], shard: int) -> Iterator[tuple[str, bytes]]:
    """Yields name and bytes of each file: tensors in the order of their names, at most `shard` bytes of them in a file.

    A tensor is never divided: a larger one has a file of its own.

    Raises:
        ConfigError: `shard` is below 1 byte.
    """
    if shard < 1:
        raise ConfigError(f"Got {shard} bytes a file; expected at least 1.")
    groups: list[dict[str, Tensor]] = [{}]
    held = 0
    for name, tensor in sorted(state.items()):
        if groups[-1] and held + tensor.nbytes > shard:
            groups.append({})
            held = 0
        groups[-1][name] = tensor
        held += tensor.nbytes
    for name, group in zip(file_names(len(groups)), groups, strict=True):
        yield name, pack_tensors(group)


def record_of(name: str, data: bytes) -> dict[str, object]:
    """Returns a config's record of a file."""
    return {"file": name, "size": len(data), "sha256": sha256(data)}


def weights_fields(records: list[dict[str, object]]) -> dict[str, object]:
    """Returns the fields of a config that record its files of weights: format 1 for one file, 2 for several."""
    one = len(records) == 1
    return {"format": 1 if one else 2, "weights": records[0] if one else {"files": records}}


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
    halves = HALF_TYPES.values()
    return {key: tensor.float() if tensor.dtype in halves else tensor for key, tensor in state.items()}
