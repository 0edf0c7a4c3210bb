"""Every error that vaezoo raises on purpose.

Each is a `VaezooError`, and also the built-in exception that Python users would catch in its place. Messages state what
was received, what was expected and what to do next; `code` is stable, so that scripts and logs can rely on it.
"""

import difflib
import importlib
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterable


class VaezooError(Exception):
    """Base of all errors that vaezoo raises on purpose."""

    code = "error"  #: stable; in messages of commands and in tables of `compare`
    exit_status = 1  #: of the command that ends with it

    def __init__(self, *args: object) -> None:
        super().__init__(*(escaped(each) if isinstance(each, str) else each for each in args))

    def __init_subclass__(cls) -> None:
        """Sets `code`, such as "unknown-name" for `UnknownNameError`, unless the class has its own."""
        if "code" not in vars(cls):
            cls.code = re.sub(r"\B(?=[A-Z])", "-", cls.__name__.removesuffix("Error")).lower()


class UnknownNameError(VaezooError, LookupError):
    """A name (variant, model, data set, backbone, likelihood, recipe) that is not registered."""

    def __init__(self, kind: str, name: object, known: Iterable[str], hint: str = "") -> None:
        names = sorted(set(known))
        shown = ", ".join(names) if len(names) <= 24 else f"{', '.join(names[:24])}, … ({len(names)} in all)"
        parts = [
            f"Unknown {kind} {shorten(name)}.{did_you_mean(name, names)}",
            hint,
            f"Known: {shown}." if names else "",
        ]
        super().__init__(" ".join(filter(None, parts)))
        self.kind, self.name, self.known, self.hint = kind, name, names, hint


class RegistryCollisionError(VaezooError, ValueError):
    """Two owners register one name."""


class ConfigError(VaezooError, ValueError):
    """An invalid option, architecture, recipe or config file."""


class RecipeError(ConfigError):
    """A recipe with one or more mistakes; all are listed, each with its path."""


class CompositionError(ConfigError):
    """Variants that cannot be composed, because they change the same part or one needs a part that is missing."""


class ShapeError(VaezooError, ValueError):
    """A tensor, a latent or a grid of the wrong shape, type or size."""


class SupportError(VaezooError, ValueError):
    """Values without a density under the likelihood: NaN, infinite, or outside its support."""


class ContextError(VaezooError, ValueError):
    """A context that is missing, unwanted, of the wrong shape or out of range."""


class NoDensityError(VaezooError, ValueError):
    """A likelihood or an evidence was requested from a model that has no density."""


class NoClosedFormError(VaezooError, NotImplementedError):
    """A moment of a distribution that has no closed form."""


class DataError(VaezooError, ValueError):
    """A data set that is empty, unreadable or inconsistent with its description."""


class DownloadError(VaezooError, OSError):
    """A download failed from all sources; each is listed with its reason."""


class CorruptWeightsError(VaezooError, ValueError):
    """A model folder whose bytes, names, shapes or digests differ from the recorded ones."""


class CheckpointError(VaezooError, OSError):
    """A checkpoint or model folder that cannot be written, read or resumed."""


class ConversionError(VaezooError, ValueError):
    """Weights of another project that are not a plain state dict, or that cannot be represented exactly."""


class ExportError(VaezooError, ValueError):
    """A model that cannot be exported, or an exported program that computes other values."""


class CompressionError(VaezooError, ValueError):
    """A compressed file that is damaged, or was made with another model or where probabilities differ."""


class NonFiniteLossError(VaezooError, ArithmeticError):
    """A loss became NaN or infinite; the message names step, term and batch."""


class InterruptedTrainingError(VaezooError, RuntimeError):
    """Training was stopped by a signal; the message states how to resume.

    Args:
        message: what was saved, and how to resume.
        signal: its number; the exit status is 128 more, as in a shell: 130 for Ctrl-C, 143 for SIGTERM.
    """

    code = "interrupted"

    def __init__(self, message: str, signal: int = 2) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal


class MissingExtraError(VaezooError, ImportError):
    """An optional package is needed; the message states how to install it."""


class PluginWarning(UserWarning):
    """A third-party plug-in could not be loaded and was ignored."""


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the innermost line outside vaezoo, which is the one that the user can change."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "vaezoo":
        level, frame = level + 1, frame.f_back
    warnings.warn(escaped(text), category, stacklevel=level)


def deprecated_module(old: str, *homes: str, **renamed: str) -> Callable[[str], object]:
    """Returns a `__getattr__` that finds the former names of a module in `homes`, with a DeprecationWarning."""

    def find(name: str) -> object:
        new = renamed.get(name, name)
        for home in homes if not name.startswith("__") else ():
            if hasattr(module := importlib.import_module(home), new):
                warn(f"{old}.{name} is deprecated and will be removed in 0.3. Use {home}.{new}.", DeprecationWarning)
                return getattr(module, new)
        raise AttributeError(f"module {old!r} has no attribute {name!r}")

    return find


def escaped(text: str) -> str:
    """Returns text with control characters as in `repr`, so that no foreign name or answer controls the terminal."""
    return "".join(
        each if each in "\n\t" or unicodedata.category(each)[0] != "C" else repr(each)[1:-1] for each in text
    )


def shorten(value: object, limit: int = 80) -> str:
    """Returns `repr(value)`, cut to `limit` characters, so that large input does not flood a message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def printable(text: str, limit: int = 1000) -> str:
    """Returns text on one line: spaces in place of other white space, "?" of unprintable characters, cut to `limit`."""
    text = "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


SYNONYMS = {  # words of other libraries and papers -> those of vaezoo; a hint names those that are known in its place
    "bernoulli": "bce binary-cross-entropy",
    "autoregressive-bernoulli": "autoregressive pixelvae pixel-vae pixelcnn pixelrnn",
    "gaussian": "mse l2 normal squared-error",
    "laplace": "l1 mae",
    "discretized-logistic": "logistic",
    "conv": "cnn convolutional conv2d",
    "mlp": "fc linear fully-connected perceptron",
    "resnet": "resnet18 resnet34 resnet50 residual unet",
    "learning-rate": "lr",
    "latent": "latent-dim latent-dims latent-size z-dim n-latent num-latents embedding-dim code-dim",
    "shape": "input-dim input-shape input-size image-size img-size in-channels",
    "hidden": "hidden-dim hidden-dims hidden-size layers",
    "beta": "kl-weight kld-weight kl-coefficient",
    "batch-size": "batch bs",
    "epochs": "num-epochs n-epochs max-epochs",
    "steps": "max-steps num-steps n-steps iterations iters",
    "context": "num-classes n-classes condition conditional cond-dim",
    "clip": "gradient-clip-val grad-clip max-norm",
    "optimizer": "optim",
    "activation": "act nonlinearity",
    "rate-warmup": "kl-warmup kl-annealing annealing",
    "codes": "num-embeddings codebook-size n-embeddings k",
}


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'?` for the closest known name or one with this meaning, or an empty string."""
    if not isinstance(name, str) or len(name) > 200:
        return ""
    spellings = {each.lower().replace("_", "-"): each for each in known}
    word = name.lower().replace("_", "-")
    found = [each for each, others in SYNONYMS.items() if each in spellings and word in others.split()]
    found = found or difflib.get_close_matches(word, list(spellings), n=2, cutoff=0.6)
    close = [spellings[match] for match in found]
    return f" Did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
