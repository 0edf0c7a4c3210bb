"""Zero padding of images: 28 x 28 becomes 32 x 32, which can be halved five times."""

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn.functional import pad as pad_tensor

from vaezoo.data.dataset import Dataset
from vaezoo.data.streaming.dataset import StreamedDataset
from vaezoo.data.transforms.wrapped import Wrapped
from vaezoo.errors import DataError


@dataclass(kw_only=True, eq=False)
class Padded(Wrapped):
    """Images of another source with `width` zeros on each side."""

    width: int

    @property
    def label(self) -> str:
        """The change of the images, for digests."""
        return f"pad={self.width}"

    @property
    def levels(self) -> tuple[int, ...]:
        """The distinct values of all pixels of a drawing, ascending."""
        return tuple(sorted({0, *getattr(self.source, "levels", ())}))

    def read(self, positions: Tensor) -> Tensor:
        """Returns the padded images at `positions` (B,)."""
        return pad_tensor(self.source.read(positions), [self.width] * 4)


def pad(dataset: Dataset, width: int) -> Dataset:
    """Returns a set of images (N, C, H, W) with `width` zeros on each side, (N, C, H + 2 width, W + 2 width).

    Binarization keeps the zeros.

    Raises:
        DataError: The examples are not images, or `width` is negative or larger than an image.
    """
    if width == 0:
        return dataset
    shape = dataset.shape
    if len(shape) != 3 or not 0 < width <= max(shape[1:]):
        raise DataError(
            f"{dataset.name}: got pad = {width} for examples of shape {shape}; expected images (C, H, W) and at most "
            "as many zeros on each side as the image has pixels."
        )
    if isinstance(dataset, StreamedDataset):
        reader = dataset.reader
        if reader.drawn is not None:
            raise DataError(f"{dataset.name}: got images that are already binarized. Pad them before binarization.")
        sides = (side + 2 * width for side in shape[1:])
        source = Padded(source=reader.source, width=width, shape=(shape[0], *sides))
        return replace(dataset, reader=replace(reader, source=source))
    return dataset.mapped(lambda images: pad_tensor(images, [width] * 4))
