"""Base of image sources that change the images of another source."""

from dataclasses import dataclass

from vaezoo.data.streaming.dataset import ImageSource


@dataclass(kw_only=True, eq=False)
class Wrapped:
    """Images of another source, changed when they are read; subclasses define `read`."""

    source: ImageSource
    shape: tuple[int, ...]

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.source)

    @property
    def label(self) -> str:
        """The change of the images, for digests."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Name of the source and of the change, for digests that do not cover pixels."""
        return f"{getattr(self.source, 'name', '')}:{self.label}"
