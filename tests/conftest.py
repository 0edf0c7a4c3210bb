"""Every test starts from the same random state and leaves torch's defaults as they were."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    torch.manual_seed(0)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
