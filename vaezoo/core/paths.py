"""Paths of users, and names without them."""

import os
import re
from contextlib import suppress
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


def public_name(data: str) -> str:
    """Returns the name of a data set without the folders that lead to it: "folder:/home/me/cats" is "folder:cats".

    A home folder itself, whose name is that of its user, and folders without a name are called "images".
    """
    scheme, path = ("folder:", data.removeprefix("folder:")) if data.startswith("folder:") else ("", data)
    if not scheme and not re.match(r"[/\\~]|\.{1,2}[/\\]|[A-Za-z]:[/\\]", path):
        return data
    parts = [each for each in re.split(r"[/\\]+", path) if each.strip(".") and not re.fullmatch(r"~.*|[A-Za-z]:", each)]
    is_home = len(parts) == 2 and parts[0] in ("home", "Users")
    with suppress(RuntimeError, OSError, ValueError):
        is_home = is_home or Path(path).expanduser().absolute() == Path.home()
    return f"{scheme}{parts[-1] if parts and not is_home else 'images'}"


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the cache folder: `cache_dir`, else `$VAEZOO_HOME`, else `vaezoo` in the user's cache folder."""
    if cache_dir is not None:
        return expanded(cache_dir)
    if home := os.environ.get("VAEZOO_HOME"):
        return expanded(home)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vaezoo"
