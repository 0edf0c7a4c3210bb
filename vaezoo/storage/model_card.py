"""The model card of a folder."""

import json
import sys
from collections.abc import Mapping
from typing import cast

from vaezoo.evaluation.metric import all_metrics, titled

USAGE = """```python
import vaezoo

model = vaezoo.load("{name}")
images = model.sample(16{context})
```"""


def figures_table(metrics: Mapping[str, object]) -> str:
    """Returns the metrics of a model as a Markdown table, with the data that they were measured on."""
    seed, subset = metrics.get("binarization_seed"), metrics.get("subset_seed")
    measured = f"Measured on {metrics.get('examples'):,} {metrics.get('split')} images of {metrics.get('data')}" + (
        (f", chosen with seed {subset}" if subset is not None else "")
        + (f", binarized once with seed {seed}" if seed else ", not binarized")
    )
    lines = ["| figure | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in titled(metrics))]
    lines += ["", f"{measured}; ± is the standard error of the mean over images."]
    return "\n".join([*lines, *(["", reason] if (reason := reason_of(metrics)) else [])])


def reason_of(metrics: Mapping[str, object]) -> str:
    """Returns a sentence that states why a bound or an evidence is missing, or an empty string."""
    if metrics.get("reason"):
        return str(metrics["reason"])
    bound, evidence = (cast(Mapping[str, object], metrics.get(key) or {}) for key in ("bound", "log_evidence"))
    if bound.get("mean") is None:  # metrics of earlier versions have no reason
        return "No bound and no log-evidence: the model gives these images neither a probability nor a density."
    return "" if evidence.get("mean") is not None else "No log-evidence: it was not measured."


def model_card(name: str, config: Mapping[str, object], metrics: Mapping[str, object] | None) -> str:
    """Returns the README.md of a model folder."""
    front = f"---\nlibrary_name: vaezoo\ntags:\n- vae\n- {config['variant']}\n---"
    return "\n\n".join([front, f"# {name}", *sections(name, config, metrics)]) + "\n"


def sections(address: str, config: Mapping[str, object], metrics: Mapping[str, object] | None) -> list[str]:
    """Returns the sections of all cards: usage of `load(address)`, figures, recipe, config."""
    architecture = cast(Mapping[str, object], config["architecture"])
    data = cast(Mapping[str, object] | None, config.get("data"))
    recipe = cast(Mapping[str, object] | None, config.get("recipe"))
    parts = [
        f"A `{config['variant']}` made with [vaezoo](https://pypi.org/project/vaezoo/)"
        + (f", trained on {data['name']} (binarization: {data['binarize']})." if data else "."),
        USAGE.format(name=address, context=", c=0" if architecture["context"] else ""),
    ]
    if metrics is not None:
        parts += ["## Figures", figures_table(metrics)]
    if config.get("origin") is not None:
        origin = cast(Mapping[str, str], config["origin"])
        facts = "; ".join(f"{key} `{value}`" for key, value in sorted(origin.items()))
        parts += ["## Origin", f"Converted from weights of another project: {facts}."]
    if recipe is not None:
        digest = str(recipe["digest"])[:12]
        parts += ["## Recipe", f"`vaezoo train {recipe['name']}` makes it again (recipe digest `{digest}`)."]
    shown = {key: config[key] for key in ("variant", "architecture", "options", "data")}
    return [*parts, "## Config", f"```json\n{json.dumps(shown, indent=1, sort_keys=True)}\n```"]


#: data set -> its name on the Hub
ON_THE_HUB = {"mnist": "ylecun/mnist", "fashion-mnist": "zalando-datasets/fashion_mnist"}
CITATION = """```bibtex
@software{vaezoo,
  title = {vaezoo: a zoo of variational autoencoders},
  url = {https://pypi.org/project/vaezoo/}
}
```"""


def hub_card(repository: str, config: Mapping[str, object], metrics: Mapping[str, object], picture: str | None) -> str:
    """Returns the README.md of a repository on the Hub: metadata, picture, usage, figures, citation."""
    parts = [front_matter(repository, config, metrics), f"# {repository.partition('/')[2]}"]
    parts += [] if picture is None else [f"![Samples from the prior]({picture})"]
    parts += sections(f"hf:{repository}", config, metrics)
    data = cast(Mapping[str, object] | None, config.get("data"))
    if data is not None and (licence := licence_of(str(data["name"]))):
        padded = f", with {data['pad']} zeros on each side" if data.get("pad") else ""
        parts += ["## Data", f"{licence}; seen with binarization `{data['binarize']}`{padded}."]
    return "\n\n".join([*parts, "## Citation", CITATION]) + "\n"


def licence_of(data: str) -> str:
    """Returns "TITLE: OWNERS, LICENSE" of a registered data set, or an empty text."""
    from vaezoo.data import datasets  # here: what only shows cards needs no torch

    if data not in datasets.names():
        return ""
    home = sys.modules.get(getattr(datasets.get(data), "__module__", ""))
    return str(getattr(home, "LICENCE", ""))


def front_matter(repository: str, config: Mapping[str, object], metrics: Mapping[str, object]) -> str:
    """Returns the metadata of a card for the Hub: library, tags, data, and the figures as a model index."""
    from huggingface_hub import EvalResult, ModelCardData

    data = str(metrics.get("data"))
    hub_name, title = ON_THE_HUB.get(data), licence_of(data).partition(":")[0] or data
    results = []
    for key, metric in all_metrics().items():
        found = metrics.get(key)
        number = found.get("mean") if isinstance(found, Mapping) else found  # the mean of an estimate
        text = metric.title(metrics, on_the_hub=True)
        if metric.unit and isinstance(number, int | float):
            result = EvalResult(
                task_type="unconditional-image-generation",
                dataset_type=hub_name or data,
                dataset_name=title,
                dataset_split=str(metrics.get("split")),
                metric_type=text.partition(" (")[0],
                metric_name=text,
                metric_value=round(float(number), 4),
            )
            results.append(result)
    card = ModelCardData(
        library_name="vaezoo",
        tags=["vae", *str(config["variant"]).split("+")],
        datasets=[hub_name] if hub_name else None,
        model_name=repository.partition("/")[2],
        eval_results=results,
    )
    return f"---\n{card.to_yaml()}\n---"
