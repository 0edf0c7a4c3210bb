"""`measure`: evaluates a model, which is given by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from vaezoo.core import VAE
from vaezoo.data import is_registered
from vaezoo.errors import ConfigError, shorten
from vaezoo.evaluation import Disentanglement, disentanglement, evaluate
from vaezoo.evaluation.health import findings, remarks
from vaezoo.evaluation.metric import all_metrics
from vaezoo.evaluation.test_sets import test_set
from vaezoo.recipe import Published, published_metrics
from vaezoo.storage.figures import METRICS
from vaezoo.storage.model_card import figures_table
from vaezoo.storage.model_folder import read_metrics, write_metrics
from vaezoo.workflows.load import is_published, load, locate, own_folder
from vaezoo.workflows.run_folder import own_data
from vaezoo.workflows.tables import Record, markdown
from vaezoo.workflows.training_cost import training_cost


def data_of(model: VAE, data: str | None) -> str:
    """Returns the given name of a data set, or that of the model's training data if it is registered.

    Raises:
        ConfigError: the config names no data set, or none that is registered.
    """
    table = (model.config or {}).get("data")
    known = table.get("name") if isinstance(table, dict) else None
    if data is not None:
        return data
    if not known:
        raise ConfigError("The model's config names no training data: choose a data set (data='mnist', --data mnist).")
    if ":" in str(known):  # a folder or a data set of torchvision, which a config is not trusted to choose
        raise ConfigError(
            f"The model's config names {shorten(known)} as training data; expected a registered data set. Choose one "
            "(data=…, --data …)."
        )
    if not is_registered(str(known)):
        raise ConfigError(
            f"The model was trained on {shorten(known)}, which is no registered data set: data passed from Python, or "
            "one of a package that is not installed. Pass data in Python, as in vaezoo.evaluate(model, data), or name "
            "a data set (--data NAME, --data folder:PATH)."
        )
    return str(known)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The metrics of a model, beside those that are stored with its weights and those of the literature.

    `metrics` and `stored` are as in `metrics.json`; `stored` is None for a folder without them, and for one to which
    `metrics` were written (`written`). `published`: whether they are those of a published model, not the user's own.
    """

    name: str
    variant: str
    metrics: Mapping[str, object]
    stored: Mapping[str, object] | None
    literature: Published | None
    written: Path | None = None
    published: bool = False

    @property
    def obstacle(self) -> str:
        """What differs between the two measurements, so that they do not compare; an empty string if nothing."""
        stored, differing = self.stored or {}, list[str]()
        for key, text in FACTS.items():
            if stored.get(key) != self.metrics.get(key):
                differing.append(f"{text.format(stored.get(key))} instead of {self.metrics.get(key)}")
        return ", ".join(differing)

    def text(self) -> str:
        """Returns all figures as Markdown."""
        parts = [f"{self.name}: {self.variant}", figures_table(self.metrics), *self._health]
        if self.literature is not None:
            parts.append(in_the_literature(self.literature, self.metrics))
        if self.stored is not None:
            note = f" (not comparable: {self.obstacle})" if self.obstacle else ""
            parts += [
                f"{'Published with the weights' if self.published else 'Stored before'}{note}:",
                figures_table(self.stored),
            ]
        return "\n\n".join([*parts, *([f"Stored in {self.written}."] if self.written else [])])

    @property
    def _health(self) -> list[str]:
        """The findings that are not below the table of figures already."""
        shown, found = remarks(self.metrics), findings(self.metrics)
        return [each for each in found if each not in shown] if found else ["Health: no problem found."]

    def record(self) -> Record:
        """Returns all figures as plain values."""
        found: dict[str, object] = {"name": self.name, "variant": self.variant, **self.metrics}
        found["health"] = findings(self.metrics)
        if self.literature is not None:
            found["literature"] = {**self.literature.metrics, **self.literature.facts}
        if self.stored is not None:
            found["published"] = {**self.stored, "comparable": not self.obstacle}
        return found


#: the facts that two measurements must share to compare, and their wording
FACTS = {
    "data": "{}",
    "split": "split {}",
    "binarization": "binarization {}",
    "examples": "{} examples",
    "samples": "K = {}",
}


def in_the_literature(published: Published, metrics: Mapping[str, object]) -> str:
    """Returns a sentence with the published figures, their source, and how the log-evidence compares."""
    values = [
        f"{each.label} {each.text(published.metrics[key]) if each.percent else published.value(key)}"
        for key, each in all_metrics().items()
        if key in published.metrics
    ]
    verdict = published.verdict(metrics)
    own = f" The log-evidence of this measurement: {verdict}." if verdict else ""
    return f"In the literature: {', '.join(values)} ({published.origin}).{own}"


def cost_of(folder: Path, stored: Mapping[str, object] | None) -> dict[str, object]:
    """Returns the cost of the training in a folder, that of the run or of the stored figures, as a table of figures."""
    cost = training_cost(folder) or (stored or {}).get("training")
    return {"training": cost} if cost else {}


def measure(
    name: str | Path,
    *,
    data: str | None = None,
    samples: int | None = None,
    limit: int | None = None,
    binarize: str | None = None,
    device: str = "auto",
    write: bool = False,
    batch_size: int | None = None,
    thorough: bool = False,
    bar: Callable[[int, int], None] | None = None,
) -> Measured:
    """Returns the metrics of a model, with those in its folder; `write` replaces them.

    K is by default that of the metrics in the folder. See `vaezoo.evaluate` for the other arguments and exceptions.
    """
    folder = own_folder(name) if write else locate(name)
    model = load(name, device=device)
    stored = read_metrics(folder)
    known = cast(int, stored["samples"]) if stored and stored.get("samples") else 5000
    report = evaluate(
        model,
        data_of(model, own_data(name, data)),
        known if samples is None else samples,
        binarize=binarize,
        limit=limit,
        report=bar,
        batch_size=batch_size,
        thorough=thorough,
    ).as_dict()
    config = model.config or {}
    recipe = config.get("recipe")
    if write:
        write_metrics(folder, report | cost_of(folder, stored))
    return Measured(
        name=str(name),
        variant=str(config.get("variant")),
        metrics=report,
        stored=None if write else stored,
        literature=published_metrics(str(recipe["name"])) if isinstance(recipe, dict) else None,
        written=folder / METRICS if write else None,
        published=is_published(name, folder),
    )


def predictions(found: Disentanglement) -> dict[str, str]:
    """Returns the scores of predictors of the factors, none of them without scikit-learn."""
    if found.dci is None or found.sap is None:
        return {}
    triple = (found.dci.disentanglement, found.dci.completeness, found.dci.informativeness)
    return {
        "SAP": f"{found.sap:.3f}",
        "disentanglement, completeness, informativeness (DCI)": ", ".join(f"{each:.3f}" for each in triple),
    }


def measure_disentanglement(
    name: str | Path, *, data: str | None = None, limit: int | None = None, device: str = "auto"
) -> str:
    """Returns the scores of `vaezoo.evaluation.disentanglement` as text, on at most `limit` test images."""
    model = load(name, device=device)
    chosen = test_set(model, data_of(model, own_data(name, data)))
    found = disentanglement(model, chosen, **({} if limit is None else {"examples": limit}))
    rows = {
        "MIG": f"{found.mig:.3f}",
        "FactorVAE score": f"{found.factor_vae_score:.3f} (guessing: {found.chance:.3f})",
        "modularity": "–" if found.modularity is None else f"{found.modularity:.3f}",
        **predictions(found),
        "total correlation, nats": f"{found.total_correlation:.3f}",
        "of the active latents alone": f"{found.total_correlation_active:.3f}",
        "active latents": f"{found.active}/{found.latents}",
    }
    images = f"{found.examples:,} {found.split} images of {found.data}"
    parts = [f"{name}: {(model.config or {}).get('variant')}", markdown(("figure", "value"), list(rows.items()))]
    return "\n\n".join([*parts, f"Measured on the posterior means of {images}, seed {found.seed}."])
