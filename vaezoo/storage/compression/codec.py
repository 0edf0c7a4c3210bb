r"""Lossless compression with a model by bits-back coding (Townsend et al., 2019, https://arxiv.org/abs/1901.04866).

The examples share one stack of bits. For each, z is popped with q(z|x), then x is pushed with p(x|z) and z with p(z),
so that the stack grows by $-\log p(x|z) - \log p(z) + \log q(z|x)$: in the mean minus the bound. The bits of the first
pop are not there yet; its latents are the center of q(z|x) instead, so that this example is not charged less by
$-\log q(z|x)$ ("direct"). No random bits are needed.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from vaezoo.core import VAE, check_model, public_name, weights_digest
from vaezoo.data import Dataset, as_dataset, is_registered
from vaezoo.errors import CompressionError, ShapeError, SupportError, printable
from vaezoo.evaluation.batches import context_of
from vaezoo.evaluation.test_sets import limited, test_set
from vaezoo.storage.compression.container import Header, digest_of, here, pack, pack_context, unpack, unpack_context
from vaezoo.storage.compression.latents import LatentCoder
from vaezoo.storage.compression.pixels import levels_of, pop_pixels, push_pixels
from vaezoo.storage.compression.stack import BitStack
from vaezoo.storage.files import library_version

SPARE: Final = 64  # bits that the stack keeps: with fewer, what is popped cannot be pushed back
FULL: Final = 2**16  # bits from which on no example takes all
MOST: Final = 2**33  # elements of restored data
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """Compressed examples.

    `data`: the bytes of the file. `images`: the number of examples, of `dimensions` elements each. `bits`: of the
    coder alone, without header, contexts and checksum. `direct`: the number of examples whose latents were not taken
    from the bits of others; each costs the bits of its latents' posterior more.
    """

    data: bytes
    images: int
    dimensions: int
    bits: int
    direct: int

    @property
    def bits_per_dimension(self) -> float:
        """The bits of the coder for each element of x."""
        return self.bits / self.images / self.dimensions

    @property
    def total_bits_per_dimension(self) -> float:
        """The bits of the whole file for each element of x."""
        return 8 * len(self.data) / self.images / self.dimensions


@dataclass(frozen=True, kw_only=True)
class Restored:
    """Examples as levels (N, *shape), int64, from 0 to `levels` - 1, with contexts: labels, vectors or None."""

    images: Tensor
    levels: int
    context: Tensor | None

    @property
    def values(self) -> Tensor:
        """The examples as x, from 0 to 1, float32."""
        return self.images.float() / (self.levels - 1)


def compress(
    model: VAE,
    data: object,
    *,
    name: str = "",
    split: str | None = None,
    limit: int | None = None,
    report: Progress | None = None,
) -> Compressed:
    """Compresses examples without loss, to about minus the model's bound on them.

    Networks run in double precision on the CPU with one example at a time. `decompress` must compute equal
    probabilities: it needs the same version of torch, number of threads and class of machine, which the file records;
    restored examples are compared with a recorded digest.

    Args:
        model: a model with a likelihood that is a probability mass, with independent latents, a hierarchy or codes.
        data: a registered name, resized and binarized as in training; or other examples, in any form that
            `vaezoo.data.as_dataset` takes, which must have the model's shape and values already.
        name: of the model, recorded in the file.
        split: of named data.
        limit: compress at most so many, chosen with a fixed seed.
        report: called with (examples done, all examples).

    Raises:
        NoDensityError: the likelihood is no probability mass.
        CompositionError: the masses of its latents are not supported; see the message.
        ShapeError, SupportError, ContextError, DataError: the data do not fit the model.
        MissingExtraError: constriction is not installed (`pip install 'vaezoo[compression]'`).
    """
    check_model(model)
    levels, chosen = levels_of(model), limited(prepared(model, data, split), limit)[0]
    context = context_of(model, chosen)
    stack, own = BitStack(), frozen(model)
    coder, direct, rows = LatentCoder(own), list[int](), list[Tensor]()
    with torch.no_grad():
        for place in range(len(chosen)):
            x, c = example(own, chosen, context, place)
            symbols = (x * (levels - 1)).round()
            x = symbols / (levels - 1)
            if not place:
                coder.check(x, c)
            z, stack, bare = drawn(coder, stack, x, c)
            direct += [place] if bare else []
            push_pixels(stack, own.decoder(z, c), symbols[0].long())
            coder.push(stack, z, c)
            rows.append(symbols[0].to(torch.int32))
            if report is not None:
                report(place + 1, len(chosen))
    return packed(model, chosen, torch.stack(rows), context, stack, tuple(direct), name=name, levels=levels)


def packed(
    model: VAE,
    data: Dataset,
    rows: Tensor,
    context: Tensor | None,
    stack: BitStack,
    direct: tuple[int, ...],
    *,
    name: str,
    levels: int,
) -> Compressed:
    """Returns the file of examples that were pushed, and its figures; `rows` are their levels (N, *shape)."""
    field, contexts = pack_context(context)
    header = Header(
        format=1, model=printable(name), weights=weights_digest(model), shape=tuple(data.shape), levels=levels,
        count=len(data), direct=direct, images=digest_of(rows), context=field,
        data=printable(public_name(data.name)), vaezoo=library_version(), **here(),
    )  # fmt: skip
    return Compressed(
        data=pack(header, contexts, stack.words),
        images=len(data),
        dimensions=rows[0].numel(),
        bits=32 * len(stack.words),
        direct=len(direct),
    )


def decompress(data: bytes, model: VAE, *, report: Progress | None = None) -> Restored:
    """Returns the examples that `compress` compressed with the same model.

    Args:
        data: the bytes of the file.
        model: the model; its weights must be those that the file names.
        report: called with (examples done, all examples).

    Raises:
        CompressionError: the file is damaged, was made with another model, or in another place where probabilities
            differ.
        MissingExtraError: constriction is not installed.
    """
    check_model(model)
    header, contexts, words = unpack(data)
    if weights_digest(model) != header.weights or header.shape != model.shape or levels_of(model) != header.levels:
        raise CompressionError(
            f"The file was compressed with the model {header.model or 'without a name'} (digest of the weights "
            f"{header.weights[:12]}…); got another one ({weights_digest(model)[:12]}…). Load that model."
        )
    size = int(torch.Size(header.shape).numel())
    if header.count * size > MOST:
        raise CompressionError(f"The file claims {header.count:,} examples; expected fewer than {MOST // size:,}.")
    context = unpack_context(header, contexts)
    stack, own, direct = BitStack(words), frozen(model), set(header.direct)
    coder, found = LatentCoder(own), list[Tensor]()
    with torch.no_grad():
        for place in reversed(range(header.count)):
            c = own.check_context(None if context is None else context[place : place + 1], 1)
            if not stack.bits:
                raise CompressionError(other_place(header))
            z = coder.pop(stack, c)
            symbols = pop_pixels(stack, own.decoder(z, c))
            if place not in direct:
                coder.undraw(stack, symbols.double().unsqueeze(0) / (header.levels - 1), c, z)
            found.append(symbols.to(torch.int32))
            if report is not None:
                report(header.count - place, header.count)
    images = torch.stack(found[::-1])
    if digest_of(images) != header.images:
        raise CompressionError(other_place(header))
    return Restored(images=images.long(), levels=header.levels, context=context)


def other_place(header: Header) -> str:
    """Returns a message for a file whose probabilities are computed differently here."""
    now = Header(**{**{name: getattr(header, name) for name in header.__struct_fields__}, **here()})
    return (
        f"The restored examples differ from those that were compressed ({header.place}); this process has {now.place}. "
        "Probabilities must be equal in every digit: use the same version of torch, threads and class of machine."
    )


def frozen(model: VAE) -> VAE:
    """Returns a copy of a model on the CPU in double precision and eval mode."""
    return deepcopy(model).cpu().double().eval()


def prepared(model: VAE, data: object, split: str | None) -> Dataset:
    """Returns named data as in training, and other examples unchanged.

    Raises:
        ShapeError, SupportError: examples that would have to be resized or binarized, which loses information.
    """
    if isinstance(data, str) and is_registered(data):
        return test_set(model, data, split=split or "test")
    found = as_dataset(data, split or "all")
    if model.shape is not None and found.shape != model.shape:
        raise ShapeError(
            f"Got examples of shape {found.shape}; the model expects {model.shape}. Lossless compression does not "
            "resize: choose a model of this shape, or resize the images first."
        )
    return found


def example(model: VAE, data: Dataset, context: Tensor | None, place: int) -> tuple[Tensor, Tensor | None]:
    """Returns one validated example (1, *shape), and its context; raises SupportError for values without a mass."""
    x, c = model.check(data.batch(torch.tensor([place])).cpu(), None if context is None else context[place : place + 1])
    if not model.has_density(x):
        raise SupportError(
            f"Got example {place} of {data.name!r}, to which the likelihood gives no probability. Lossless compression "
            "does not round: binarize gray images for a bernoulli likelihood, or choose one for 8-bit images."
        )
    return x, c


def drawn(coder: LatentCoder, stack: BitStack, x: Tensor, c: Tensor | None) -> tuple[Tensor, BitStack, bool]:
    """Returns z, the stack without its bits, and whether it is the center because there were too few bits."""
    kept = stack.copy() if stack.bits < FULL and not coder.is_point else None
    z = coder.draw(stack, x, c)
    if kept is None or stack.bits >= SPARE:
        return z, stack, False
    return coder.draw(None, x, c), kept, True
