"""Reading ahead in worker processes, in the order in which batches are consumed."""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vaezoo.errors import DataError, ShapeError

T = TypeVar("T")

GUARD: Final = (
    "On Windows and macOS, and on Linux from Python 3.14, worker processes import the script that is run: put what it "
    'does under if __name__ == "__main__":, or set VAEZOO_WORKERS=0.'
)


def read_ahead(
    fetch: Callable[[list[int]], T], indices: Iterable[Tensor], *, workers: int, pinned: bool = False
) -> Generator[T, None, None]:
    """Yields `fetch(batch)` for each batch of indices, in their order, for any number of workers.

    Consumes no random numbers of torch. Closing the generator ends the processes.

    Args:
        fetch: Returns tensors, or containers of them, for a list of indices; sent to the workers.
        indices: Integer tensors of shape (B,), a few of which are consumed ahead of time; may be infinite.
        workers: Number of processes; 0 fetches in this process, on demand.
        pinned: Whether to put tensors into pinned memory.

    Raises:
        DataError, ShapeError: Raised by `fetch`, here or in a worker; or a worker died or could not be started.
    """
    lists = (batch.tolist() for batch in indices)
    if not workers:
        yield from map(fetch, lists)
        return
    loader = DataLoader(
        _Fetching(fetch),
        batch_size=None,  # the sampler yields whole batches
        sampler=lists,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # without it the loader draws its seed from the global generator
    )
    items = _started(loader)
    try:
        while (item := _next(items)) is not None:
            if isinstance(item, DataError | ShapeError):
                raise item
            yield item
    finally:
        del items  # ends the workers; a traceback would keep this frame, and with it the iterator, alive


class _Fetching(torch.utils.data.Dataset[T | DataError | ShapeError], Generic[T]):
    """Calls `fetch` in a worker; errors are returned, since the loader would put its traceback into their text."""

    def __init__(self, fetch: Callable[[list[int]], T]) -> None:
        self.fetch = fetch

    def __getitem__(self, indices: list[int]) -> T | DataError | ShapeError:
        try:
            return self.fetch(indices)
        except (DataError, ShapeError) as error:
            return error


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ignores SIGINT and the first SIGTERM: both reach the whole group, and the trainer needs its next batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _started(loader: Iterable[T]) -> Iterator[T]:
    try:
        return iter(loader)
    except (RuntimeError, OSError, EOFError) as error:
        if isinstance(error, RuntimeError) and "bootstrapping" not in str(error):
            raise
        raise DataError(
            f"Could not start a worker process ({type(error).__name__}); expected a main module that may be imported "
            f"again. {GUARD}"
        ) from None
    except Exception as error:
        if _forks() or type(error).__name__ not in ("PicklingError", "AttributeError", "TypeError"):
            raise
        raise DataError(
            f"Could not send the data to a worker process ({error}); expected a data set that can be pickled. Define "
            "its class and functions at the top level of a module, or set VAEZOO_WORKERS=0."
        ) from None


def _forks() -> bool:
    """Returns whether worker processes are copies of this one, as by default on Linux before Python 3.14."""
    return multiprocessing.get_start_method() == "fork"


def _next(items: Iterator[T]) -> T | None:
    try:
        return next(items, None)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"Got no images from a worker process, which ended ({error}); expected it to read until training ends. "
            f"{'' if _forks() else f'{GUARD} Or: '}Memory or /dev/shm may be full: use fewer workers (VAEZOO_WORKERS=0 "
            "for none), and resume the run."
        ) from None
