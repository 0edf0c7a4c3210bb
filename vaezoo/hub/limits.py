"""Limits of the Hub's answers: bytes, time and attempts, within calls of vaezoo.

The client shares one session with the whole process. Hooks are added to it that do nothing outside `limited`.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from vaezoo.errors import escaped

LARGEST_REPLY = 2**23  # bytes of an answer that is not a file; a list of 50,000 files has less
TIMEOUT = 10.0  # seconds without a byte, of each request that has no limit of its own


@dataclass(kw_only=True)
class Limits:
    """Limits of the calls in a block.

    Attributes:
        largest: bytes of an answer.
        seconds: of the body of an answer; None for no limit.
        attempts: requests for one address; None for no limit.
        timeout: seconds without a byte, of requests that have no limit of their own.
    """

    largest: int = LARGEST_REPLY
    seconds: float | None = None
    attempts: int | None = None
    timeout: float = TIMEOUT
    tried: Counter[tuple[str, str]] = field(default_factory=Counter)


CURRENT: ContextVar[Limits | None] = ContextVar("CURRENT", default=None)


@contextmanager
def limited(session: Any, limits: Limits) -> Iterator[None]:
    """Limits the answers that this thread receives in the block through the client's session.

    Raises:
        ValueError: an answer that is compressed or too long, or takes too long, or too many attempts.
    """
    hooks = session.event_hooks
    if on_response not in hooks["response"]:
        session.event_hooks = {
            "request": [*hooks["request"], on_request],
            "response": [*hooks["response"], on_response],
        }
    token = CURRENT.set(limits)
    try:
        yield
    finally:
        CURRENT.reset(token)


def on_request(request: Any) -> None:
    """Requests an uncompressed answer, and adds a time limit where there is none."""
    limits = CURRENT.get()
    if limits is None:
        return
    request.headers["Accept-Encoding"] = "identity"
    given = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {
        key: limits.timeout if given.get(key) is None else given[key] for key in ("connect", "read", "write", "pool")
    }
    limits.tried[request.method, str(request.url)] += 1
    if limits.attempts is not None and limits.tried[request.method, str(request.url)] > limits.attempts:
        raise ValueError(f"no valid answer from {request.url.host} after {limits.attempts} attempts")


def on_response(response: Any) -> None:
    """Refuses a compressed answer, whose size is unknown, and counts the bytes of the others."""
    limits = CURRENT.get()
    if limits is None:
        return
    for key, value in list(response.headers.items()):
        if not value.isprintable():  # the client logs and prints some of them
            response.headers[key] = escaped(value)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("", "identity") and response.request.method != "HEAD":
        raise ValueError(f"the answer is compressed ({encoding[:40]!r}), although an uncompressed one was requested")
    response.stream = counted(response.stream, limits)


def counted(stream: Any, limits: Limits) -> Any:
    """Returns a stream of the client's kind that raises ValueError beyond the limits."""
    library = sys.modules[type(stream).__module__.partition(".")[0]]  # httpx, or its successor

    class Counted(library.SyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[bytes]:
            total, end = 0, None if limits.seconds is None else time.monotonic() + limits.seconds
            for part in stream:
                total += len(part)
                if total > limits.largest:
                    raise ValueError(f"the answer has more than {limits.largest:,} bytes, the most expected")
                if end is not None and time.monotonic() > end:
                    raise ValueError(f"the answer took more than {limits.seconds:g} seconds")
                yield part

        def close(self) -> None:
            stream.close()

    return Counted()
