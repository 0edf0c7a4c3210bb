"""How much memory a data set may take, and how many processes may read one: neither changes any result."""

import os
from typing import Final

from vaezoo.errors import ConfigError

MEMORY_LIMIT: Final = 2 << 30
"""Bytes of decoded images above which a set is streamed from disk."""

MOST_WORKERS: Final = 8
"""The most processes that read images, unless more are asked for."""


def memory_limit(asked: int | None = None) -> int:
    """Returns `asked`, else `$VAEZOO_MEMORY_LIMIT`, else `MEMORY_LIMIT`, in bytes.

    Raises:
        ConfigError: It is no whole number, or negative.
    """
    return _count(asked, "memory_limit", "VAEZOO_MEMORY_LIMIT", MEMORY_LIMIT, "bytes")


def worker_count(asked: int | None = None) -> int:
    """Returns `asked`, else `$VAEZOO_WORKERS`, else one less than there are cores here, at most `MOST_WORKERS`.

    With 0 the images are read in the process that asks for them.

    Raises:
        ConfigError: It is no whole number, or negative.
    """
    return _count(asked, "workers", "VAEZOO_WORKERS", min(MOST_WORKERS, _cores() - 1), "processes")


def _cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(asked: int | None, keyword: str, variable: str, default: int, unit: str) -> int:
    given: object = os.environ.get(variable, "") if asked is None else asked
    if given == "":
        return default
    try:
        number = int(str(given))
    except ValueError:
        number = -1
    if number < 0:
        source = keyword if asked is not None else variable
        raise ConfigError(f"Got {source} = {given!r}; expected a whole number of {unit}, 0 or more. Correct it.")
    return number
