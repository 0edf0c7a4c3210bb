"""Tensor operations as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["capture"]

WARM = 3  # calls before: libraries choose their algorithms and take their work space at the first ones

Outputs = Sequence[Tensor | None]


def capture(function: Callable[..., Outputs], inputs: Sequence[Tensor], *, fresh: bool) -> Callable[..., Outputs]:
    """Returns a function that does on the GPU what `function` does with inputs like these, at the cost of one launch.

    Noise comes from torch's generator of that GPU, each time anew, as `function` would draw it.

    Args:
        function: takes tensors to tensors on one GPU, without looking at values. It is called several times.
        inputs: their shapes and types are fixed.
        fresh: whether each call gives tensors of its own; otherwise the next call overwrites them.

    Raises:
        RuntimeError: what `function` does cannot be captured.
    """
    given = [each.clone() for each in inputs]
    with torch.cuda.device(given[0].device):
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM):
                function(*given)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may go on fetching batches
            made = function(*given)

    def again(*new: Tensor) -> Outputs:
        for own, each in zip(given, new, strict=True):
            own.copy_(each)
        graph.replay()
        return [None if each is None else each.clone() for each in made] if fresh else made

    return again
