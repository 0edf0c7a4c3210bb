"""The weights that are published with a model, and their digest."""

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from vaezoo.core.model import VAE


def published_state(model: "VAE") -> dict[str, Tensor]:
    """Returns the saved tensors of a model: all but the critics of adversarial objectives."""
    critics = tuple(f"objective.{name}." for name in model.objective.critics)
    state = model.state_dict()
    return {key: tensor.detach().cpu().contiguous() for key, tensor in state.items() if not key.startswith(critics)}


def all_finite(tensor: Tensor) -> bool:
    """Returns whether all values are finite."""
    # A finite sum has finite terms, and needs neither the time nor the memory of a test of each.
    return math.isfinite(tensor.detach().sum()) or bool(torch.isfinite(tensor).all())


def add_to_digest(total: "hashlib._Hash", **tensors: Tensor | None) -> None:
    """Updates a hash with name, type, shape and bytes of each tensor that is not None."""
    for key, tensor in tensors.items():
        if tensor is not None:
            total.update(f"{key}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def weights_digest(weights: "VAE | Mapping[str, Tensor]") -> str:
    """Returns the SHA-256 of a model's saved tensors: names, types, shapes and bytes; independent of their files."""
    state = weights if isinstance(weights, Mapping) else published_state(weights)
    total = hashlib.sha256()
    add_to_digest(total, **dict(sorted(state.items())))
    return total.hexdigest()
