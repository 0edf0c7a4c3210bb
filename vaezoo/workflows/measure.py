"""`measure`: evaluates a model, which is given by name."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from vaezoo.core import VAE
from vaezoo.errors import ConfigError, shorten
from vaezoo.evaluation import disentanglement, evaluate
from vaezoo.evaluation.metric import all_metrics
from vaezoo.evaluation.test_sets import test_set
from vaezoo.recipe import published_metrics
from vaezoo.storage.figures import METRICS
from vaezoo.storage.model_card import figures_table
from vaezoo.storage.model_folder import read_metrics, write_metrics
from vaezoo.workflows.listing import markdown
from vaezoo.workflows.load import load, locate, own_folder
from vaezoo.workflows.run_folder import own_data


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
    return str(known)


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
    bar: Callable[[int, int], None] | None = None,
) -> str:
    """Returns the metrics of a model as text, with those in its folder; `write` replaces them.

    K is by default that of the metrics in the folder. See `vaezoo.evaluate` for the other arguments and exceptions.
    """
    folder = own_folder(name) if write else locate(name)
    model = load(name, device=device)
    published = read_metrics(folder)
    known = cast(int, published["samples"]) if published and published.get("samples") else 5000
    chosen = known if samples is None else samples
    source = data_of(model, own_data(name, data))
    report = evaluate(
        model, source, chosen, binarize=binarize, limit=limit, report=bar, batch_size=batch_size
    ).as_dict()
    parts = [f"{name}: {(model.config or {}).get('variant')}", figures_table(report)]
    recipe = (model.config or {}).get("recipe")
    literature = published_metrics(str(recipe["name"])) if isinstance(recipe, dict) else None
    if literature is not None:
        values = [
            f"{each.label} {literature.text(key)}" for key, each in all_metrics().items() if key in literature.metrics
        ]
        parts.append(f"In the literature: {', '.join(values)}.")
    comparable = published and all(published.get(key) == report[key] for key in ("data", "examples", "samples"))
    if published and comparable and not write:
        parts += ["Published with the weights:", figures_table(published)]
    if write:
        write_metrics(folder, report)
        parts.append(f"Stored in {folder / METRICS}.")
    return "\n\n".join(parts)


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
        "total correlation, nats": f"{found.total_correlation:.3f}",
        "of the active latents alone": f"{found.total_correlation_active:.3f}",
        "active latents": f"{found.active}/{found.latents}",
    }
    images = f"{found.examples:,} {found.split} images of {found.data}"
    parts = [f"{name}: {(model.config or {}).get('variant')}", markdown(("figure", "value"), list(rows.items()))]
    return "\n\n".join([*parts, f"Measured on the posterior means of {images}, seed {found.seed}."])
