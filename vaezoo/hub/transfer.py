"""Requests in a thread of their own, watched: whoever loads a model never waits long for nothing.

`huggingface_hub` tries again for minutes, waits as long as an answer tells it to, reads for ever a body that trickles,
writes as much as it is sent, and takes a file's name in the cache from a header. So its session is watched while it
works for us, and given up when too little comes. What it fetches through Xet has limits of its own.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

from vaezoo.errors import DownloadError, shorten

__all__ = ["Watch", "in_time"]

T = TypeVar("T")

PATIENCE = 20.0  # seconds in which less than PACE means that nothing comes
PACE = 1024  # bytes a second
GRACE = 4.0  # seconds for what was given up to clean up
TICK = 0.1  # seconds between two looks
HOOKS = threading.Lock()
ETAG = re.compile(r'(W/)?"?(?!/)(?!.*\.\.)[\w.+=/-]{1,200}"?')  # becomes the name of a file in the cache
COMMIT = re.compile(r"[0-9a-f]{40}")
WAIT = re.compile(r"(?:^|t *= *)([0-9]{1,9})\b")  # Retry-After: 60, or RateLimit: "api";r=0;t=60


class Watch:
    """What the requests of one thread are doing, as the client's session tells it.

    `largest`: how many bytes the next answers may have.
    """

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.over = False
        self.session: Any = None
        self.thread = 0
        self.waiting = False  # for an answer's first byte
        self.response: Any = None  # a response of httpx, whichever version the client uses
        self.tag = ""  # of the file that was asked for last, which is its name in the cache
        self.before = 0  # bytes of the answers before this one

    def asks(self, _: object) -> None:
        """Sees a request before it is sent."""
        if threading.get_ident() == self.thread:
            self.check(not self.over, "it was given up")
            self.waiting = True

    def answered(self, response: Any) -> None:  # a response of httpx
        """Sees the headers of an answer before its body is read."""
        if threading.get_ident() != self.thread:
            return
        self.before, self.response, self.waiting = self.received(), response, False
        self.check(not self.over, "it was given up")
        headers = response.headers
        if response.status_code >= 400:
            asked = WAIT.search(headers.get("Retry-After", "") + headers.get("RateLimit", ""))
            self.check(not asked or int(asked[1]) < PATIENCE, f"it asks to wait for {asked and asked[1]} seconds")
            return
        for name in ("Content-Length", "X-Linked-Size"):
            value = headers.get(name, "0")
            good = re.fullmatch(r"[0-9]{1,18}", value) and int(value) <= self.largest
            self.check(good, f"{name} is {shorten(value)}, where at most {self.largest} bytes were expected")
        if response.request.method == "HEAD":
            tag, commit = headers.get("X-Linked-Etag") or headers.get("ETag"), headers.get("X-Repo-Commit")
            self.check(not tag or ETAG.fullmatch(tag), f"its ETag is {shorten(tag)}")
            self.check(not commit or COMMIT.fullmatch(commit), f"its commit is {shorten(commit)}")
            self.tag = (tag or "").removeprefix("W/").strip('"')

    def check(self, good: object, text: str) -> None:
        """Ends the request unless `good`."""
        if not good:
            raise DownloadError(f"The Hub's answer was not taken: {text}.")

    def received(self) -> int:
        """Returns how many bytes have come."""
        return self.before + (0 if self.response is None else self.response.num_bytes_downloaded)

    def idle(self) -> bool:
        """Whether the Hub owes nothing: no request is out, nor waits to be tried again; a lock may be waited for."""
        done = self.response is None or (self.response.is_closed and self.response.status_code < 400)
        return done and not self.waiting

    def state(self) -> str:
        """Says what was seen last."""
        if self.waiting or self.response is None:
            return "no answer"
        return f"the last answer was HTTP {self.response.status_code}"

    def give_up(self) -> None:
        """Ends the request that is out, as well as can be done from another thread, and those that would follow."""
        self.over = True
        with suppress(AttributeError, KeyError, OSError):
            self.response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def follow(self, session: Any) -> None:  # a session of httpx
        """Hangs on a session, and no longer on the one before; the client makes a new one where connecting failed."""
        if session is not self.session:
            with HOOKS:
                for each, on in ((self.session, False), (session, True)):
                    if each is not None:
                        each.event_hooks = {
                            key: [hook for hook in each.event_hooks[key] if hook != own] + [own] * on
                            for key, own in (("request", self.asks), ("response", self.answered))
                        }
                self.session = session


def in_time(work: Callable[[Watch], T], session: Callable[[], Any], largest: int = 2**24) -> T:  # of httpx
    """Returns `work(watch)`, which talks to the Hub through the client's `session()`, in a thread of its own.

    Raises:
        TimeoutError: less than PACE bytes a second came for PATIENCE seconds.
        DownloadError: an answer is larger than allowed, or has headers that cannot be trusted.
    """
    watch, outcome = Watch(largest), Future[T]()

    def run() -> None:
        watch.thread = threading.get_ident()
        try:
            watch.follow(session())
            outcome.set_result(work(watch))
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            watch.follow(None)

    thread = threading.Thread(target=run, daemon=True, name="vaezoo-transfer")
    thread.start()
    try:
        look_on(watch, outcome, session)
    finally:
        if not outcome.done():
            watch.give_up()
            thread.join(GRACE)
    return outcome.result()


def look_on(watch: Watch, outcome: Future[T], session: Callable[[], Any]) -> None:  # of httpx
    """Waits for the outcome while enough comes; see `in_time`."""
    since, bytes_then = time.monotonic(), 0
    while not wait([outcome], TICK).done:
        if watch.session is not None:
            watch.follow(session())
        now, received = time.monotonic(), watch.received()
        if received - watch.before > watch.largest:
            raise DownloadError(f"The Hub sends more than the {watch.largest} bytes that were expected.")
        if watch.idle() or received - bytes_then >= PACE * PATIENCE:
            since, bytes_then = now, received
        elif now - since > PATIENCE:
            raise TimeoutError(f"too little came for {PATIENCE:.0f} seconds; {watch.state()}")
