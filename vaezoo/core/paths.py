"""Paths of users."""

import os
from pathlib import Path

from vaezoo.errors import ConfigError


def expanded(path: str | os.PathLike[str]) -> Path:
    """Returns a path with `~` replaced by the user's home folder.

    Raises:
        ConfigError: the user has none, such as in a container with an unknown user and without HOME.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"Got {os.fspath(path)}, but this user has no home folder. Set HOME, or VAEZOO_HOME (data sets) and "
            "HF_HOME (models of the Hub), or pass another folder."
        ) from None
