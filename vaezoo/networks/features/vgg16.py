"""The convolutions of VGG-16 with weights of the user's own file."""

from collections.abc import Mapping
from typing import Final

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import max_pool2d

from vaezoo.core import cache_root
from vaezoo.errors import ConfigError, CorruptWeightsError
from vaezoo.networks.features.convolutions import Convolutions

FILE: Final = "vgg16.safetensors"
GROUPS: Final = (2, 2, 3, 3, 3)
WIDTHS: Final = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
PLACES: Final = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of the convolutions among torchvision's layers
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class VGG16(Convolutions):
    """The convolutions of VGG-16 (Simonyan & Zisserman, 2015, https://arxiv.org/abs/1409.1556).

    Features are those after the last ReLU before each halving. The package has no weights of it: the command
    `vaezoo features FILE` copies those of a file of the user into the cache folder, from where they are read.

    Args:
        tensors: as `vgg16_tensors` returns them; None for those of the cache folder.

    Raises:
        ConfigError: there are none.
        CorruptWeightsError: the file is damaged.
    """

    def __init__(self, tensors: dict[str, Tensor] | None = None) -> None:
        super().__init__(cached_tensors() if tensors is None else tensors, GROUPS, max_pool2d, MEAN, DEVIATION)


def cached_tensors() -> dict[str, Tensor]:
    """Returns the weights of the cache folder; raises ConfigError if there are none."""
    file = cache_root() / "features" / FILE
    if not file.exists():
        raise ConfigError(
            f"Got perceptual_network = 'vgg16', whose weights are not in {file.parent}. Run `vaezoo features FILE` "
            "with your file of torchvision's vgg16, or use 'color64', which needs no file."
        )
    try:
        return load_file(file)
    except SafetensorError as error:
        raise CorruptWeightsError(f"{file}: {error}. Run `vaezoo features FILE` again.") from None


def vgg16_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the convolutions of a state dict of torchvision's vgg16.

    Raises:
        ConfigError: a tensor is missing or has another shape.
    """
    result = {}
    for number, (place, before, after) in enumerate(zip(PLACES, (3, *WIDTHS), WIDTHS, strict=False)):
        for kind, shape in (("weight", (after, before, 3, 3)), ("bias", (after,))):
            tensor = state.get(f"features.{place}.{kind}")
            if tensor is None or tensor.shape != shape:
                got = "no such tensor" if tensor is None else f"shape {tuple(tensor.shape)}"
                raise ConfigError(
                    f"features.{place}.{kind}: got {got}; expected shape {shape}, as in torchvision's vgg16 (without "
                    "batch normalization). Pass the file of its weights."
                )
            result[f"{kind}_{number}"] = tensor.float().contiguous()
    return result
