"""`add_features`: copies the weights of a perceptual network from the user's own file into the cache folder."""

import os
from pathlib import Path

from safetensors.torch import save

from vaezoo.core import cache_root, expanded
from vaezoo.networks.features.vgg16 import FILE, vgg16_tensors
from vaezoo.storage.conversion.state_dict import read_source
from vaezoo.storage.files import write_file


def add_features(source: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Copies the convolutions of torchvision's vgg16 into the cache folder, for `perceptual_network = "vgg16"`.

    Args:
        source: a state dict, written by `torch.save` or as safetensors, such as vgg16-397923af.pth. No code of it is
            run.
        cache_dir: the cache folder; None for `$VAEZOO_HOME`, else `vaezoo` in the user's cache folder.

    Returns:
        the path of the copy.

    Raises:
        ConversionError: the file is missing, or holds no state dict.
        ConfigError: a tensor is missing or has another shape.
        CheckpointError: the copy cannot be written.
    """
    tensors = vgg16_tensors(read_source(expanded(source)).tensors)
    target = cache_root(cache_dir) / "features" / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, save(tensors))
    return target
