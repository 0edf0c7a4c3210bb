"""Limits of memory and of worker processes; results depend on neither."""

import os
from typing import Final

from vaezoo.errors import ConfigError

MEMORY_LIMIT: Final = 2 << 30
"""Bytes of decoded images above which a set is streamed from disk."""

MOST_WORKERS: Final = 8
"""Largest default number of processes that read images."""


def memory_limit(requested: int | None = None) -> int:
    """Returns `requested`, else `$VAEZOO_MEMORY_LIMIT`, else `MEMORY_LIMIT`, in bytes; raises ConfigError below 0."""
    return _count(requested, "memory_limit", "VAEZOO_MEMORY_LIMIT", MEMORY_LIMIT, "bytes")


def worker_count(requested: int | None = None) -> int:
    """Returns `requested`, else `$VAEZOO_WORKERS`, else one less than the number of cores, at most `MOST_WORKERS`.

    0 reads the images in the calling process. Raises ConfigError below 0.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _count(requested, "workers", "VAEZOO_WORKERS", min(MOST_WORKERS, cores - 1), "processes")


def _count(requested: int | None, keyword: str, variable: str, default: int, unit: str) -> int:
    given: object = os.environ.get(variable, "") if requested is None else requested
    if given == "":
        return default
    try:
        number = int(str(given))
    except ValueError:
        number = -1
    if number < 0:
        source = keyword if requested is not None else variable
        raise ConfigError(f"Got {source} = {given!r}; expected a whole number of {unit}, 0 or more. Correct it.")
    return number
