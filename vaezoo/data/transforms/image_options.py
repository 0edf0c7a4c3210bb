"""Size, crop, channels and background of images: the keys of a recipe's `[data]`, of `load_dataset` and of a config."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, Final, Self

from vaezoo.core import require
from vaezoo.errors import ConfigError, did_you_mean, shorten

CROPS: Final = ("center", "none")
CHANNELS: Final = ("gray", "color")
LARGEST_SIDE: Final = 8192  # pixels

Color = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How images become tensors of one shape; by default they keep their size and channels.

    Args:
        size: Height and width, or None to keep the size, which all images must then share.
        crop: With `size`: `"center"` scales the image to cover the size and crops the middle; `"none"` scales it to fit
            into the size and fills the margins with the background.
        channels: `"gray"`, `"color"`, or None to keep them.
        background: Red, green and blue (0 to 255) behind transparent pixels and in margins; None is black.
    """

    size: tuple[int, int] | None = None
    crop: str = "center"
    channels: str | None = None
    background: Color | None = None

    @classmethod
    def of(
        cls,
        *,
        size: int | Sequence[int] | None = None,
        crop: str = "center",
        channels: str | None = None,
        background: str | Sequence[int] | None = None,
    ) -> Self:
        """Returns validated options.

        Args:
            size: A number of pixels for square images, or height and width.
            crop: See the class.
            channels: See the class.
            background: A color's name in CSS (`"white"`), a hexadecimal code (`"#ff8000"`), or three numbers.

        Raises:
            ConfigError: A value is invalid, or `crop` has no effect for want of a size.
        """
        _check_choice("crop", crop, CROPS)
        if channels is not None:
            _check_choice("channels", channels, CHANNELS)
        if crop != "center" and size is None:
            raise ConfigError(f'Got crop = "{crop}" without a size; it has no effect. Set size as well.')
        return cls(size=_size(size), crop=crop, channels=channels, background=_color(background))

    @classmethod
    def among(cls, facts: Mapping[str, object]) -> Self:
        """Returns the options among the items of a table, such as `[data]` of a recipe or of a config."""
        given: dict[str, Any] = {key: facts[key] for key in asdict(cls()) if facts.get(key) is not None}
        return cls.of(**given)

    def facts(self) -> dict[str, Any]:  # Any: arguments of `of` and of `load_dataset`
        """Returns the options that differ from the defaults as plain values."""
        found = {key: value for key, value in asdict(self).items() if value != getattr(ImageOptions(), key)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}

    @property
    def fill(self) -> Color:
        """The color behind transparent pixels and in margins."""
        return self.background or (0, 0, 0)


def _check_choice(key: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"Got {key} = {shorten(value)}; expected one of {', '.join(known)}.{did_you_mean(value, known)}"
        )


def _within(value: object, low: int, high: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high


def _size(given: object) -> tuple[int, int] | None:
    if given is None:
        return None
    sides: list[Any] = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given, given]
    if len(sides) != 2 or not all(_within(side, 1, LARGEST_SIDE) for side in sides):
        raise ConfigError(
            f"Got size = {shorten(given)}; expected a number of pixels from 1 to {LARGEST_SIDE}, or height and width."
        )
    return int(sides[0]), int(sides[1])


def _color(given: object) -> Color | None:
    if given is None:
        return None
    parts: Sequence[Any] = given if isinstance(given, Sequence) else ()
    if isinstance(given, str):
        try:
            parts = require("PIL.ImageColor", "Pillow", "Naming colors").getrgb(given)
        except ValueError:
            parts = ()
    if len(parts) != 3 or not all(_within(part, 0, 255) for part in parts):
        raise ConfigError(
            f"Got background = {shorten(given)}; expected the name of a color such as 'white', a code such as "
            "'#ff8000', or red, green and blue from 0 to 255."
        )
    return int(parts[0]), int(parts[1]), int(parts[2])
