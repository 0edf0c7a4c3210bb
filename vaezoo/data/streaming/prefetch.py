"""Reading ahead: worker processes fetch what will be asked for next, in the order in which it will be."""

import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from types import FrameType
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from vaezoo.errors import DataError, ShapeError

T = TypeVar("T")

_GRACE = 60  # seconds that a worker still serves after a SIGTERM that was not meant for it alone


def read_ahead(
    fetch: Callable[[list[int]], T], indices: Iterable[Tensor], *, workers: int, pinned: bool = False
) -> Generator[T, None, None]:
    """Yields `fetch(batch)` for each batch of indices, in their order, however many processes fetch.

    Nothing is drawn from torch's random state. Closing the generator ends the processes.

    Args:
        fetch: Returns tensors (or what holds them) for a list of indices; goes to the workers.
        indices: Integer tensors of shape (B,), a few of which are taken ahead of time; may have no end.
        workers: How many processes fetch; with 0 this one does, when it is asked.
        pinned: Whether tensors are put where a GPU copies them from.

    Raises:
        DataError, ShapeError: `fetch` did, here or in a worker; or a worker died.
    """
    lists = (batch.tolist() for batch in indices)
    if not workers:
        yield from (fetch(batch) for batch in lists)
        return
    loader = DataLoader(
        _Fetching(fetch),
        batch_size=None,  # what the sampler yields is a batch already
        sampler=lists,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # or the loader would draw its seed from the global one
    )
    items = cast(_MultiProcessingDataLoaderIter, iter(loader))
    try:
        for item in _until_one_dies(items):
            if isinstance(item, _Failed):
                raise item.error(item.message)
            yield item
    finally:
        items._shutdown_workers()  # now, and not when the last traceback that knows of them is gone


class _Failed:
    """An error on its way from a worker, whose traceback nobody needs."""

    def __init__(self, error: type[DataError | ShapeError], message: str) -> None:
        self.error, self.message = error, message


class _Fetching(torch.utils.data.Dataset[T | _Failed], Generic[T]):
    """What a worker does."""

    def __init__(self, fetch: Callable[[list[int]], T]) -> None:
        self.fetch = fetch

    def __getitem__(self, indices: list[int]) -> T | _Failed:
        try:
            return self.fetch(indices)
        except (DataError, ShapeError) as error:
            return _Failed(type(error), str(error))


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches the whole process group, and a cluster's SIGTERM too; the trainer still needs its next batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)


def _end_soon(number: int, frame: FrameType | None) -> None:
    """Lets the parent end this process, which its second SIGTERM does; should it not, the clock will."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_GRACE)


def _until_one_dies(items: Iterator[T]) -> Iterator[T]:
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"Got no images from a worker process, which ended ({error}); expected it to read until training ends. "
                "Memory may have run out, or /dev/shm: use fewer workers (VAEZOO_WORKERS=0 for none), and go on "
                "with resume."
            ) from None
        yield item
