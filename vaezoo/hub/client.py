"""Wrapper around `huggingface_hub`: repositories, checked downloads, and its errors as vaezoo's."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec

from vaezoo.core import expanded
from vaezoo.errors import ConfigError, CorruptWeightsError, DownloadError, VaezooError, escaped, shorten
from vaezoo.hub.limits import TIMEOUT, Limits, limited
from vaezoo.recipe import OF_A_RUN
from vaezoo.storage.config import CONFIG, read_config, weight_files
from vaezoo.storage.diffusers.reading import (
    INDEX,
    PICKLES,
    largest_weights,
    missing_weights,
    settings_of,
    shard_names,
    tensors_of,
    weight_names,
)
from vaezoo.storage.diffusers.reading import WEIGHTS as DIFFUSERS_WEIGHTS
from vaezoo.storage.diffusers.settings import described
from vaezoo.storage.figures import METRICS
from vaezoo.storage.files import library_version, write_file
from vaezoo.storage.json_files import LARGEST_JSON, read_bytes
from vaezoo.storage.model_folder import CARD, check_total

LOG = logging.getLogger("vaezoo")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
SUBFOLDER = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95}){0,7}", re.ASCII)
REVISION = re.compile(r"\w[\w./-]{0,199}", re.ASCII)  # the client uses it as a path: no leading slash
COMMIT = re.compile(r"[0-9a-f]{40}")
TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
ETAG = re.compile(r"(?!.*\.\.)[\w.+=-]{1,200}", re.ASCII)  # the client names a file in the cache after it
PIPELINE = "model_index.json"  # of diffusers: each of its models has a folder
LARGEST_PAGE = 2**16  # bytes of an answer that states an error
SLOWEST = 10_000  # bytes per second of a download, on average
SECRETS = (
    (re.compile(r"(?i)\b(bearer|basic|authorization)\b.*", re.DOTALL), r"\1 …"),
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}"), "hf_…"),
    (re.compile(r"://[^/\s]*@"), "://…@"),
    (re.compile(r"(://[^\s?'\"]+)\?[^\s'\"]*"), r"\1?…"),  # signatures
)


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository on the Hub and the options of its download.

    Attributes:
        name: owner/name.
        revision: a branch, a tag or a commit; None for the newest commit.
        cache_dir: the folder of cached files; None for the Hub's own cache (`HF_HOME`).
        token: None for the stored one (`HF_TOKEN`).
        local_files_only: whether requests are forbidden.
        subfolder: the folder of the model in the repository; empty for its root.
    """

    name: str
    revision: str | None = None
    cache_dir: Path | None = None
    token: str | None = field(default=None, repr=False)
    local_files_only: bool = False
    subfolder: str = ""

    def __post_init__(self) -> None:
        """Removes whitespace around the token, and raises ConfigError if it holds characters that no token has."""
        check_subfolder(self.subfolder)
        if self.token is None:
            return
        token = self.token.strip() if isinstance(self.token, str) else ""
        if not TOKEN.fullmatch(token):
            raise ConfigError("The token is malformed (not shown); expected letters, digits and _ as in 'hf_…'.")
        object.__setattr__(self, "token", token)

    @classmethod
    def of(cls, name: str, revision: str | None = None, **rest: Any) -> "Repository":  # Any: the other fields
        """Returns the repository of "hf:owner/name" or "hf:owner/name@revision".

        Raises:
            ConfigError: the name is malformed, or contains another revision than `revision`.
        """
        repository, _, own = name.removeprefix("hf:").partition("@")
        chosen = own or revision
        good = REPOSITORY.fullmatch(repository) and ".." not in f"{name}{chosen}" and not name.endswith("@")
        if not good or (chosen and not REVISION.fullmatch(chosen)) or (own and revision and own != revision):
            raise ConfigError(
                f"Got {shorten(name)}{f' and revision {shorten(revision)}' if revision else ''}; expected "
                "hf:owner/name or hf:owner/name@revision."
            )
        return cls(name=repository, revision=chosen or None, **rest)

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return self.revision is not None and COMMIT.fullmatch(self.revision) is not None

    def path(self, file: str) -> str:
        """Returns the path of a file in the repository."""
        return f"{self.subfolder}/{file}" if self.subfolder else file

    def snapshot(self, folder: Path) -> Path:
        """Returns the cached folder of the whole repository, for that of the model."""
        return folder.parents[self.subfolder.count("/")] if self.subfolder else folder

    def __str__(self) -> str:
        """Returns the name that `of` parses."""
        return f"hf:{self.name}" + (f"@{self.revision}" if self.revision else "")


def check_subfolder(subfolder: object) -> None:
    """Raises ConfigError unless it is empty or a path of folders below another one."""
    good = isinstance(subfolder, str) and ".." not in subfolder
    if not good or (subfolder and not SUBFOLDER.fullmatch(str(subfolder))):
        raise ConfigError(f"Got subfolder {shorten(subfolder)}; expected names joined by slashes, such as 'vae'.")


class Answer(msgspec.Struct):
    """The fields that are read of the Hub's description of a repository."""

    sha: Annotated[str, msgspec.Meta(pattern=rf"^{COMMIT.pattern}\Z")]
    names: list[str]


def the_client() -> Any:  # a module whose types differ between its versions
    """Returns `huggingface_hub`, which is imported when it is first needed."""
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors
    import huggingface_hub.utils

    return huggingface_hub


def hub_api(token: str | None) -> Any:  # likewise
    """Returns an `HfApi` that identifies its requests as vaezoo's."""
    return the_client().HfApi(library_name="vaezoo", library_version=library_version(), token=token)


def session() -> Any:  # likewise
    """Returns the client's HTTP session."""
    return the_client().utils.get_session()


@contextmanager
def hub_errors(failure: str) -> Iterator[None]:
    """Converts the client's exceptions in the block into a DownloadError that begins with `failure`.

    These are all exceptions: answers of the wrong form and missing parts of the client raise any of them.
    """
    errors = the_client().errors
    try:
        yield
    except VaezooError:
        raise
    except errors.LocalEntryNotFoundError as error:
        cause = "" if error.__cause__ is None else f" ({reason(error.__cause__)})"
        text = f"it is not in the cache, and the Hub could not be reached{cause}. Connect once, or pass a folder."
        raise DownloadError(f"{failure}: {text}") from None
    except errors.RepositoryNotFoundError:
        text = "there is no such repository, or it is private and needs a token (HF_TOKEN, or token=...)."
        raise DownloadError(f"{failure}: {text}") from None
    except Exception as error:
        raise DownloadError(f"{failure}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """Returns an error and its causes in one line, without secrets."""
    text = (str(error).strip() or "no answer").splitlines()[0]
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    text = escaped(f"{type(error).__name__}: {text[:1000]}")
    return text if error.__cause__ is None else f"{text} ({reason(error.__cause__)})"


def fetch(repository: Repository, *, again: bool = False) -> tuple[Path, str]:
    """Returns the local folder of a repository's model files, and its commit.

    A cached commit needs no request. For a branch or tag one request finds its commit; the cached copy is used when
    the Hub cannot be reached. `again` downloads every file anew.

    Raises:
        DownloadError: the Hub could not be reached, refused, or sent unexpected metadata.
        CorruptWeightsError: the config is invalid.
    """
    client = the_client()
    expanded(repository.cache_dir or client.constants.HF_HUB_CACHE)  # the client would make a folder named ~
    offline = repository.local_files_only or client.constants.HF_HUB_OFFLINE
    cached = in_cache(repository)
    if cached is not None and not again and (repository.pinned or offline):
        return cached
    with hub_errors(f"{repository} could not be fetched"):
        if offline:
            raise client.errors.LocalEntryNotFoundError("requests are switched off")
        try:
            return download(repository, again)
        except VaezooError:
            raise
        except Exception as error:
            refused = getattr(getattr(error, "response", None), "status_code", 0) in (401, 403, 404)
            if cached is None or again or refused:
                raise
            LOG.info("%s is loaded from the cache: %s", repository, reason(error))
            return cached


def download(repository: Repository, again: bool) -> tuple[Path, str]:
    """Downloads the missing files of a repository, the config first, since it limits the size of the others."""
    api = hub_api(repository.token)
    # One request with a time limit: without one, the client's own requests are repeated for minutes.
    with limited(session(), Limits(seconds=TIMEOUT)):
        found = api.model_info(repository.name, revision=repository.revision, timeout=TIMEOUT)
    names = [each.rfilename for each in found.siblings or ()]
    answer = msgspec.convert({"sha": found.sha, "names": names}, Answer, strict=True)
    commit, available = answer.sha, set(answer.names)
    get = partial(download_file, api, repository, commit, again=again)
    if repository.path(CONFIG) not in available and repository.path(PIPELINE) in available:
        raise ConfigError(f"{repository} is a pipeline of diffusers. Pass subfolder='vae' for its autoencoder.")
    folder = get(CONFIG, LARGEST_JSON).parent
    settings = settings_of(folder)
    if settings is None:
        config = read_config(folder)
        check_total(config, folder.name)
        others = [file for file in sorted((METRICS, CARD, OF_A_RUN)) if repository.path(file) in available]
        sizes = dict.fromkeys(others, LARGEST_JSON)
        sizes |= {weights.file: weights.size for weights in weight_files(config)}
    else:
        sizes = foreign_files(repository, settings, available, lambda: get(INDEX, LARGEST_JSON))
    for file, largest in sizes.items():
        get(file, largest)
    if not repository.pinned:  # last, since this makes the commit the cached one of its branch
        reference = repository.snapshot(folder).parent.parent / "refs" / (repository.revision or "main")
        with suppress(OSError):  # a read-only cache
            reference.parent.mkdir(parents=True, exist_ok=True)
            write_file(reference, commit.encode())
    return folder, commit


def foreign_files(
    repository: Repository, settings: Mapping[str, object], available: Set[str], index: Callable[[], Path]
) -> dict[str, int]:
    """Returns the files of weights of a model of diffusers, and the largest size of each, in bytes.

    Args:
        repository: where it is.
        settings: its config.
        available: the files of the repository.
        index: downloads the index of several files.

    Raises:
        ConfigError, UnknownNameError, ShapeError: the config has no counterpart, or the weights are in pickles alone.
        CorruptWeightsError: there are no weights, or the index is malformed.
    """
    wanted = tensors_of(described(settings))
    if repository.path(DIFFUSERS_WEIGHTS) in available:
        files = [DIFFUSERS_WEIGHTS]
    elif repository.path(INDEX) in available:
        files = shard_names(read_bytes(index()), INDEX)
    else:
        raise missing_weights([name for name in PICKLES if repository.path(name) in available], str(repository))
    return dict.fromkeys(files[: len(wanted)], largest_weights(wanted))


def download_file(api: Any, repository: Repository, commit: str, name: str, largest: int, again: bool) -> Path:
    """Returns the cached path of a file, downloaded if it is missing; its metadata is checked before the content.

    Raises:
        ValueError: the Hub announces another commit, more than `largest` bytes, or an ETag that is no file name.
    """
    client, file = the_client(), repository.path(name)
    known = client.try_to_load_from_cache(repository.name, file, cache_dir=repository.cache_dir, revision=commit)
    if isinstance(known, str) and not again:
        return Path(known)
    with limited(session(), Limits()):
        head = api.get_hf_file_metadata(url=client.hf_hub_url(repository.name, file, revision=commit), timeout=TIMEOUT)
    size = -1 if head.size is None else head.size
    if head.commit_hash != commit or not ETAG.fullmatch(head.etag or "") or not 0 <= size <= largest:
        raise ValueError(
            f"the Hub announced {file} with commit {shorten(head.commit_hash)}, ETag {shorten(head.etag)} and "
            f"{head.size} bytes; expected commit {commit}, an ETag that is a file name and at most {largest} bytes"
        )
    place = {"revision": commit, "cache_dir": repository.cache_dir, "etag_timeout": TIMEOUT}
    with limited(session(), Limits(largest=max(size, LARGEST_PAGE), seconds=60 + size / SLOWEST)):
        path = Path(api.hf_hub_download(repository.name, file, force_download=again, **place))
        if again and path.resolve().name != head.etag:
            # The client keeps an existing link to another blob even after a forced download.
            path.unlink()
            path = Path(api.hf_hub_download(repository.name, file, **place))
    return path


def in_cache(repository: Repository) -> tuple[Path, str] | None:
    """Returns the cached folder of a repository and its commit; None when a file is missing."""
    place = {"cache_dir": repository.cache_dir, "revision": repository.revision}
    try:
        config = the_client().try_to_load_from_cache(repository.name, repository.path(CONFIG), **place)
    except (OSError, ValueError):
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    files: list[str] = []
    with suppress(CorruptWeightsError):  # the caller reads it, reports the damage and fetches it again
        if settings_of(folder) is not None:
            try:
                files = weight_names(folder)
            except VaezooError:
                return None
        else:
            files = [file.file for file in weight_files(read_config(folder))]
    whole = all((folder / file).exists() for file in files)
    return (folder, repository.snapshot(folder).name) if whole else None
