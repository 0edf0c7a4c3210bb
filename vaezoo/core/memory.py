"""How many examples are processed at a time where no gradient is needed."""

import math
from collections.abc import Sequence

BYTES = 2**24  # of x in a batch
MULTIPLE = 10  # of a training batch, which also keeps its activations


def rows_at_once(shape: Sequence[int], most: int = 500, batch_size: int | None = None) -> int:
    """Returns a number of examples of `shape` that fit into little memory, from 1 to `most`.

    Args:
        shape: the event shape of x, float32.
        most: the number for small examples.
        batch_size: that of the training, which is known to fit: as many always do, and at most ten times as many are
            returned.
    """
    fitting = max(1, BYTES // (4 * max(1, math.prod(shape))))
    if batch_size is not None:
        fitting = max(batch_size, min(fitting, MULTIPLE * batch_size))
    return min(most, fitting)
