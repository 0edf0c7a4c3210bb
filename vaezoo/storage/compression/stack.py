"""A stack of bits: symbols are pushed with their probabilities, and popped in reverse order (Duda, 2009; ANS).

The coder is that of `constriction`, with probabilities of 24 bits. It turns floating-point parameters into integer
frequencies; equal parameters give equal frequencies.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.core import require
from vaezoo.errors import SupportError

Array = NDArray[Any]


def constriction() -> Any:  # Any: it has no types
    """Returns the package of the coder; raises MissingExtraError without it."""
    return require("constriction", "'vaezoo[compression]'", "Compression")


@dataclass(frozen=True)
class Masses:
    """The probabilities of N symbols.

    Args:
        family: of `constriction.stream.model`.
        parameters: arrays of N rows.
    """

    family: Any  # constriction has no types
    parameters: tuple[Array, ...]

    def __post_init__(self) -> None:
        """Raises SupportError for parameters that are not finite."""
        if not all(np.isfinite(each).all() for each in self.parameters):
            raise SupportError("Got probabilities that are NaN or infinite; expected finite ones. Inspect the model.")


def numbers(values: Tensor) -> Array:
    """Returns values as a contiguous array of float64."""
    return np.ascontiguousarray(values.detach().double().cpu().numpy())


def table(probabilities: Tensor) -> Masses:
    """Returns the masses of symbols with probabilities (N, L)."""
    model = constriction().stream.model.Categorical(perfect=False)
    return Masses(model, (numbers(probabilities),))


def bernoulli(probabilities: Tensor) -> Masses:
    """Returns the masses of symbols that are 1 with probabilities (N,), else 0."""
    return Masses(constriction().stream.model.Bernoulli(perfect=False), (numbers(probabilities),))


def uniform(sizes: Tensor) -> Masses:
    """Returns the masses of equally distributed symbols from 0 to `sizes` - 1, (N,), at least 2 each."""
    return Masses(constriction().stream.model.Uniform(), (sizes.cpu().numpy().astype(np.int32),))


def normal(loc: Tensor, scale: Tensor, largest: int) -> Masses:
    """Returns the masses of whole numbers from -largest to largest, those of normals (N,) rounded to the nearest."""
    model = constriction().stream.model.QuantizedGaussian(-largest, largest)
    return Masses(model, (numbers(loc), numbers(scale)))


class BitStack:
    """A stack of bits.

    Args:
        words: its content as `words` returns it; None for an empty stack.
    """

    def __init__(self, words: Array | None = None) -> None:
        coder = constriction().stream.stack.AnsCoder
        self.coder = coder() if words is None else coder(words.astype(np.uint32))

    @property
    def bits(self) -> int:
        """The number of bits."""
        return int(self.coder.num_valid_bits())

    @property
    def words(self) -> Array:
        """The content, words of 32 bits."""
        found: Array = self.coder.get_compressed()
        return found

    def copy(self) -> "BitStack":
        """Returns a stack with the same content."""
        return BitStack(self.words)

    def push(self, symbols: Tensor, masses: Masses) -> None:
        """Pushes symbols (N,), so that `pop` returns them in the same order."""
        self.coder.encode_reverse(symbols.cpu().numpy().astype(np.int32), masses.family, *masses.parameters)

    def pop(self, masses: Masses) -> Tensor:
        """Returns the symbols (N,), int64, that were pushed with these masses."""
        return torch.from_numpy(self.coder.decode(masses.family, *masses.parameters).astype(np.int64))
