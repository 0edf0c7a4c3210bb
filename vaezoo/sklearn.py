"""Estimators of scikit-learn for rows of numbers: `VAETransformer`, `VAEImputer` and `VAEAnomalyDetector`.

Needs scikit-learn (`pip install 'vaezoo[train]'`), which no other module imports when it is imported.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.data import Column, Dataset, TableLayout
from vaezoo.errors import ConfigError, CorruptWeightsError, DataError, MissingExtraError, shorten
from vaezoo.evaluation import anomaly_scores
from vaezoo.registry import likelihoods, resolve
from vaezoo.storage.checkpoint import Checkpoint, limit_for, read_folder, write_folder
from vaezoo.storage.model_folder import save
from vaezoo.workflows.impute import impute
from vaezoo.workflows.load import load
from vaezoo.workflows.train import train

try:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        OneToOneFeatureMixin,
        OutlierMixin,
        TransformerMixin,
    )
    from sklearn.utils import Tags, check_random_state
    from sklearn.utils.validation import check_array, check_is_fitted, validate_data
except ImportError as missing:
    raise MissingExtraError(
        f"vaezoo.sklearn needs scikit-learn 1.6 or newer, which could not be imported ({missing}). Install it: "
        "pip install 'vaezoo[train]'"
    ) from missing

Rows = NDArray[Any]  # Any: float32 or float64, as given
ESTIMATOR: Final = "estimator"
ARRAYS: Final = ("mean_", "scale_", "offset_")
SCORES: Final = ("bound", "evidence", "distortion", "rate")


class Tabular(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A VAE of rows of numbers, trained on standardized columns; see `VAETransformer` for the arguments."""

    model_: VAE
    _finite: ClassVar[Literal[True, "allow-nan"]] = True
    _likelihood: ClassVar[str | Mapping[str, object]] = "gaussian"  # where neither user nor variant names one

    def __init__(
        self,
        variant: str = "sigma-vae",
        *,
        options: Mapping[str, object] | None = None,
        latent: int = 8,
        hidden: Sequence[int] = (64, 64),
        likelihood: str | Mapping[str, object] | None = None,
        steps: int = 1000,
        batch_size: int = 100,
        learning_rate: float = 3e-3,
        standardize: bool = True,
        samples: int = 50,
        random_state: object = None,
        device: str = "cpu",
    ) -> None:
        self.variant, self.options, self.latent, self.hidden = variant, options, latent, hidden
        self.likelihood, self.steps, self.batch_size, self.learning_rate = likelihood, steps, batch_size, learning_rate
        self.standardize, self.samples, self.random_state, self.device = standardize, samples, random_state, device

    def fit(self, X: object, y: object = None) -> Self:
        """Trains the model on rows (N, D), N ≥ 2; `y` is ignored.

        Raises:
            ValueError: NaN, infinite values, another shape; the options of a variant or of the training.
        """
        x = cast(
            Rows,
            validate_data(
                self, X, dtype=(np.float64, np.float32), ensure_all_finite=self._finite, ensure_min_samples=2
            ),
        )
        if (empty := np.isnan(x).all(0)).any():
            raise DataError(f"Got no value in column {int(empty.argmax())}; expected at least one. Drop the column.")
        deviation = np.nanstd(x, 0, dtype=np.float64)
        self.mean_ = np.nanmean(x, 0, dtype=np.float64) if self.standardize else np.zeros(x.shape[1])
        self.scale_ = np.where(deviation > 0, deviation, 1.0) if self.standardize else np.ones(x.shape[1])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        run = train(self._recipe(seed), data=self._rows(x, "train"), out=None, trackers=(), device=self.device)
        self.model_ = run.model.cpu().double()  # so that the latents of a row do not depend on the others
        self.history_ = run.history
        return self

    def score_samples(self, X: object) -> Rows:
        """Returns the bound of each row (N, D) on log p(x), (N,), nats, in the units of the columns.

        It is a mean over `samples` draws, the same ones at every call with the same rows.
        """
        return self._scores(self._checked(X), "bound")

    def save(self, folder: str | Path) -> Path:
        """Writes the fitted estimator into a model folder, which `vaezoo.load` reads too, and returns the path.

        Weights and numbers are safetensors, parameters are JSON; nothing is pickled.

        Raises:
            ConfigError: a parameter is no plain value, such as a `RandomState`.
            CheckpointError: disk full, no permission.
        """
        check_is_fitted(self)
        place, parameters = Path(folder), self.get_params(deep=False)
        state: dict[str, object] = {"class": type(self).__name__, "parameters": plain(parameters)}
        state["feature_names"] = list(getattr(self, "feature_names_in_", ())) or None
        arrays = {name: torch.as_tensor(getattr(self, name)) for name in ARRAYS if hasattr(self, name)}
        save(copy.deepcopy(self.model_).float(), place)
        write_folder(place / ESTIMATOR, Checkpoint(tensors={ESTIMATOR: arrays}, state=state))
        return place

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Returns the fitted estimator in a folder of `save`; every byte is verified.

        Raises:
            UnknownNameError: no such folder.
            CorruptWeightsError: bytes differ from the recorded ones, or it is no such estimator.
        """
        model = load(Path(folder)).double()
        try:
            saved = read_folder(Path(folder) / ESTIMATOR, lambda state: limit_for(2**20))
            state, arrays = saved.state, saved.tensors.get(ESTIMATOR, {})
            if state["class"] != cls.__name__:
                raise ValueError(f"it is a {state['class']}")
            parameters = cast("dict[str, Any]", state["parameters"])  # Any: parameters have several types
            found = cls(**{**parameters, "hidden": tuple(parameters["hidden"])})
            width = len(arrays["mean_"])
            if model.shape != (width,) or arrays["scale_"].shape != (width,):
                raise ValueError(f"its columns are not those of the model, {model.shape}")
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise CorruptWeightsError(
                f"{folder} does not hold a saved {cls.__name__}: {error}. Fit and save it again."
            ) from None
        found.model_, found.n_features_in_ = model, width
        for name, values in arrays.items():
            setattr(found, name, values.numpy() if values.ndim else float(values))
        if state["feature_names"] is not None:
            found.feature_names_in_ = np.array(state["feature_names"], object)
        return found

    def _recipe(self, seed: int) -> dict[str, Any]:  # Any: tables
        fixed = any(entry.fixed.get("likelihood") for entry in resolve(self.variant))
        head = self.likelihood or (None if fixed else self._likelihood)
        architecture: dict[str, object] = {
            "latent": self.latent,
            "backbone": {"name": "mlp", "hidden": list(self.hidden)},
            **({} if head is None else {"likelihood": head if isinstance(head, str) else dict(head)}),
        }
        return {
            "variant": self.variant,
            "seed": seed,
            "options": dict(self.options or {}),
            "architecture": architecture,
            "data": {"name": "table"},
            "train": {
                "steps": self.steps,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
            },
        }

    def _checked(self, X: object) -> Rows:
        check_is_fitted(self)
        types = (np.float64, np.float32)
        return cast(Rows, validate_data(self, X, dtype=types, ensure_all_finite=self._finite, reset=False))

    def _tensor(self, x: Rows) -> Tensor:
        return torch.from_numpy((x.astype(np.float64) - self.mean_) / self.scale_)

    def _rows(self, x: Rows, split: str) -> Dataset:
        return Dataset(name="table", split=split, images=self._tensor(x).float(), layout=self._layout())

    def _layout(self) -> TableLayout | None:
        """Returns a layout, with which NaN in the rows is a gap; None where all values are finite."""
        return None

    def _scores(self, x: Rows, kind: Any) -> Rows:  # Any: a literal of `anomaly_scores`
        scores = -anomaly_scores(self.model_, self._rows(x, "test"), kind, samples=self.samples).numpy()
        return scores if kind == "rate" else cast(Rows, scores - (~np.isnan(x)) @ np.log(self.scale_))


class TabularTransformer(TransformerMixin, Tabular):  # type: ignore[misc]  # scikit-learn has no types
    """A transformer whose score is the bound, and which keeps float32."""

    def score(self, X: object, y: object = None) -> float:
        """Returns the mean bound of rows (N, D) on log p(x), nats; the higher, the better."""
        return float(self.score_samples(X).mean())

    def __sklearn_tags__(self) -> Tags:
        """Returns the tags of scikit-learn: float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TabularTransformer):  # type: ignore[misc]  # no types
    """Latents of rows as features, and rows of latents; a transformer of scikit-learn.

    Columns are standardized before the training; results are in their own units.

    Args:
        variant: a variant's name, or several, "beta-vae+iwae"; one without a context, for vectors.
        options: of the variant, {"beta": 4.0}.
        latent: number of latents.
        hidden: widths of the hidden layers of encoder and decoder.
        likelihood: a name or a table, {"name": "gaussian", "scale": 0.1}; None for that of the variant, or gaussian.
        steps: of the training.
        batch_size: rows in a step, at most N.
        learning_rate: of Adam.
        standardize: whether to subtract the mean of each column and divide by its standard deviation.
        samples: draws of each posterior for `score` and `score_samples`.
        random_state: an int for the same result at every fit; else as in scikit-learn.
        device: of the training, "cpu", "cuda", … or "auto"; later results are computed on the CPU.

    Attributes:
        model_: the trained `vaezoo.VAE`, float64, of standardized columns.
        mean_, scale_: of the columns, (D,).
        history_: metrics of the training, as in `vaezoo.train`.
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    def transform(self, X: object) -> Rows:
        """Returns the centers of the posteriors of rows (N, D), (N, latent)."""
        x = self._checked(X)
        return self.model_.latents(self._tensor(x)).flatten(1).numpy().astype(x.dtype)

    def inverse_transform(self, X: object) -> Rows:
        """Returns the means of p(x|z) of latents (N, latent), (N, D)."""
        check_is_fitted(self)
        z = cast(Rows, check_array(X, dtype=(np.float64, np.float32)))
        x = self.model_.decode(torch.from_numpy(z.astype(np.float64))).mean.numpy()
        return cast(Rows, (x * self.scale_ + self.mean_).astype(z.dtype))

    @property
    def _n_features_out(self) -> int:
        return int(np.prod(self.model_.latent or ()))


class VAEImputer(OneToOneFeatureMixin, TabularTransformer):  # type: ignore[misc]  # scikit-learn has no types
    """Fills gaps (NaN) of rows with their conditional means by `vaezoo.impute`; all columns are numbers.

    It trains on rows with gaps. For tables with categories, counts and dates see `vaezoo.data.table`.

    Args:
        variant: for this and all others see `VAETransformer`.
        likelihood: one that takes gaps; None for `mixed`, a Gaussian for each column.
        samples: draws of each posterior, whose importance weights give the means; and draws for scores.

    Attributes:
        mean_, scale_: of the observed values of the columns, (D,); others are those of `VAETransformer`.
    """

    _finite = "allow-nan"
    _likelihood: ClassVar[str | Mapping[str, object]] = {"name": "mixed", "columns": ()}  # all columns are Gaussian

    def __init__(
        self,
        variant: str = "vae",
        *,
        options: Mapping[str, object] | None = None,
        latent: int = 8,
        hidden: Sequence[int] = (64, 64),
        likelihood: str | Mapping[str, object] | None = None,
        steps: int = 1000,
        batch_size: int = 100,
        learning_rate: float = 3e-3,
        standardize: bool = True,
        samples: int = 200,
        random_state: object = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(
            variant, options=options, latent=latent, hidden=hidden, likelihood=likelihood, steps=steps,
            batch_size=batch_size, learning_rate=learning_rate, standardize=standardize, samples=samples,
            random_state=random_state, device=device,
        )  # fmt: skip

    def fit(self, X: object, y: object = None) -> Self:
        """Trains the model on rows (N, D), N ≥ 2, with NaN in the gaps; `y` is ignored.

        Raises:
            ValueError: see `VAETransformer.fit`; or a column without any value.
            ConfigError: the likelihood takes no gaps.
        """
        likelihood = self._recipe(0)["architecture"].get("likelihood")
        given = dict(likelihood) if isinstance(likelihood, Mapping) else {"name": likelihood}
        name = given.get("name")
        if name is None or not (given.get("gaps") or getattr(likelihoods.get(name), "gaps", False)):
            raise ConfigError(
                f"Got likelihood = {shorten(self.likelihood)} and variant = {shorten(self.variant)}; expected one that "
                "takes gaps, such as 'mixed', and a variant with a likelihood of your choice, such as 'vae'."
            )
        super().fit(X)
        config = dict(self.model_.config or {})
        data = cast("dict[str, object]", config["data"])
        self.model_.config = {**config, "data": {key: value for key, value in data.items() if key != "table"}}
        return self

    def _layout(self) -> TableLayout:
        columns = (
            Column(name=str(place), kind="number", dtype="float64", family="gaussian")
            for place in range(self.n_features_in_)
        )
        return TableLayout(columns=tuple(columns))

    def transform(self, X: object) -> Rows:
        """Returns rows (N, D) with conditional means in the place of NaN; the same at every call with these rows.

        Raises:
            ConfigError: the likelihood takes no gaps.
            NoDensityError: the variant's posterior is a point mass.
        """
        x = self._checked(X)
        return self._filled(x, impute(self.model_, self._tensor(x), samples=self.samples, seed=0))

    def draw(self, X: object, draws: int = 5, seed: int | None = None) -> Rows:
        """Returns `draws` tables (M, N, D) with random values in the place of NaN: multiple imputation.

        Args:
            X: rows (N, D).
            draws: M.
            seed: for the same tables at every call; None draws from the random state of torch.
        """
        x = self._checked(X)
        return self._filled(x, impute(self.model_, self._tensor(x), samples=self.samples, draws=draws, seed=seed))

    def _filled(self, x: Rows, filled: Tensor) -> Rows:
        """Returns x (N, D) with standardized values, (..., N, D), in the place of NaN."""
        values = (filled.numpy() * self.scale_ + self.mean_).astype(x.dtype)
        result: Rows = np.where(np.isnan(x), values, x)
        return result

    def __sklearn_tags__(self) -> Tags:
        """Returns the tags of scikit-learn: NaN is taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class VAEAnomalyDetector(OutlierMixin, Tabular):  # type: ignore[misc]  # scikit-learn has no types
    """Detects rows that are unlike the training rows by `vaezoo.evaluation.anomaly_scores`.

    Args:
        variant: for this and all others up to `device` see `VAETransformer`.
        kind: "bound", "evidence", "distortion" or "rate": the score.
        contamination: share of the training rows that `predict` calls outliers, above 0 and up to ½.

    Attributes:
        offset_: the score below which a row is an outlier; others are those of `VAETransformer`.
    """

    def __init__(
        self,
        variant: str = "sigma-vae",
        *,
        options: Mapping[str, object] | None = None,
        latent: int = 8,
        hidden: Sequence[int] = (64, 64),
        likelihood: str | Mapping[str, object] | None = None,
        steps: int = 1000,
        batch_size: int = 100,
        learning_rate: float = 3e-3,
        standardize: bool = True,
        samples: int = 50,
        random_state: object = None,
        device: str = "cpu",
        kind: str = "bound",
        contamination: float = 0.1,
    ) -> None:
        super().__init__(
            variant, options=options, latent=latent, hidden=hidden, likelihood=likelihood, steps=steps,
            batch_size=batch_size, learning_rate=learning_rate, standardize=standardize, samples=samples,
            random_state=random_state, device=device,
        )  # fmt: skip
        self.kind, self.contamination = kind, contamination

    def fit(self, X: object, y: object = None) -> Self:
        """Trains the model on rows (N, D), N ≥ 2, and sets the threshold; `y` is ignored.

        Raises:
            ValueError: see `VAETransformer.fit`; or `kind` or `contamination` is out of range.
        """
        if self.kind not in SCORES:
            raise ConfigError(f"Got kind = {shorten(self.kind)}; expected one of {', '.join(SCORES)}.")
        if not 0 < self.contamination <= 0.5:
            raise ConfigError(f"Got contamination = {self.contamination}; expected a share above 0, up to 0.5.")
        super().fit(X)
        self.offset_ = float(np.quantile(self.score_samples(X), self.contamination))
        return self

    def score_samples(self, X: object) -> Rows:
        """Returns minus the anomaly score of each row (N, D), (N,), nats: the lower, the more unusual."""
        return self._scores(self._checked(X), self.kind)

    def decision_function(self, X: object) -> Rows:
        """Returns `score_samples` minus `offset_`, (N,): negative for outliers."""
        return cast(Rows, self.score_samples(X) - self.offset_)

    def predict(self, X: object) -> Rows:
        """Returns -1 for outliers and 1 for other rows, (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)


def plain(parameters: Mapping[str, object]) -> dict[str, object]:
    """Returns parameters as JSON values; raises ConfigError for one that is none."""

    def value(name: str, each: object) -> object:
        if isinstance(each, Mapping):
            return {str(key): value(name, inner) for key, inner in each.items()}
        if isinstance(each, list | tuple):
            return [value(name, inner) for inner in each]
        each = each.item() if isinstance(each, np.generic) else each
        if each is not None and not isinstance(each, bool | int | float | str):
            raise ConfigError(f"Got {name} = {shorten(each)}; expected a plain value, so that it can be saved.")
        return each

    return {name: value(name, each) for name, each in parameters.items()}
