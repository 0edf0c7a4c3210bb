"""Choice of the device by name."""

import torch

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
