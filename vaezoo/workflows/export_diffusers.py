"""`export_diffusers`: a folder that the package diffusers loads as the same model."""

from pathlib import Path

from vaezoo.core import VAE, check_model
from vaezoo.errors import ConfigError
from vaezoo.storage.diffusers.writing import diffusers_files
from vaezoo.storage.files import make_folder, write_file
from vaezoo.workflows.load import load


def export_diffusers(model: VAE | str | Path, folder: str | Path) -> Path:
    """Writes the networks of a model as a folder that diffusers loads, with the same values, and returns its path.

    `AutoencoderKL.from_pretrained(folder)`, or the class that its `config.json` names, gives the same latents and
    images. Models with the backbones `diffusers-kl`, `diffusers-tiny` and `diffusers-dc` have such classes: those that
    `vaezoo.load` read from a folder of diffusers, also after a fine-tune, and those trained here. Objective and
    scale of the likelihood are left out; `vaezoo.save` keeps them.

    Args:
        model: a model, or a name that `load` takes.
        folder: new or empty.

    Raises:
        ConfigError: the model has a part that has no counterpart in diffusers, which is named; or the folder is not
            empty.
        CheckpointError: disk full, no permission.
        UnknownNameError, CorruptWeightsError, DownloadError: see `load`.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists and is not empty; name a new folder.")
    source = load(model) if isinstance(model, str | Path) else model
    check_model(source)
    files = diffusers_files(source)
    make_folder(target)
    for name, data in sorted(files.items(), reverse=True):  # the config last, since readers open it first
        write_file(target / name, data)
    return target
