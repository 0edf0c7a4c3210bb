"""Seeds of evaluation, which are the same in every process."""

from typing import Final

SEED: Final = 0
"""Seed of all noise of `vaezoo evaluate`."""

SUBSET_SEED: Final = 0
"""Seed of the permutation whose beginning is a part of a test set."""
