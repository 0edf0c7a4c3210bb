"""Freed memory stays with the process, for the next step to use.

By default glibc gives large blocks back to the system when they are freed. A training step frees all its activations
and asks for them again at once, and each page comes back empty with a fault: some hundred in a step of a small model,
10,000 to 20,000 in one of a convolutional or a 50-sample model, a quarter of its time.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

__all__ = ["keep_freed_memory"]

# glibc's names of what `mallopt` sets, and the values: blocks up to 32 MiB (its limit) come from the heap, which grows
# by 64 MiB and is given back only from 1 GiB of free memory on.
SETTINGS = {-3: 32 << 20, -2: 64 << 20, -1: 1 << 30}


@cache
def keep_freed_memory() -> bool:
    """Has the process keep freed memory from now on, and says whether it does.

    Only glibc is told; elsewhere, and where the environment says `VAEZOO_KEEP_MEMORY=0`, nothing happens.
    """
    if not sys.platform.startswith("linux") or os.environ.get("VAEZOO_KEEP_MEMORY") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, value) for name, value in SETTINGS.items())
