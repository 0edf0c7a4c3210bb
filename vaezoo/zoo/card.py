"""The model card of a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

__all__ = ["figures_table", "hub_card", "model_card"]

USAGE = """```python
import vaezoo

model = vaezoo.load("{name}")
images = model.sample(16{context})
```"""


def estimate_text(value: object, digits: int = 2) -> str:
    """Returns "mean ± standard error" of an estimate's dict, or a dash."""
    if not isinstance(value, Mapping) or value.get("mean") is None:
        return "–"
    error = value.get("error")
    text = f"{float(value['mean']):.{digits}f}"
    return text if error is None else f"{text} ± {float(error):.{digits}f}"


def figures_table(metrics: Mapping[str, object]) -> str:
    """Returns the figures of an evaluation as a Markdown table, with what they were measured on."""
    rows = {
        "bound, nats": estimate_text(metrics.get("bound")),
        "distortion, nats": estimate_text(metrics.get("distortion")),
        "rate, nats": estimate_text(metrics.get("rate")),
        f"log-evidence (K = {metrics.get('samples')}), nats": estimate_text(metrics.get("log_evidence")),
        "PSNR, dB": f"{cast(float, metrics.get('psnr', 0.0)):.2f}",
        "active units": str(metrics.get("active_units") if metrics.get("active_units") is not None else "–"),
        "perplexity of the codes": f"{cast(float, metrics['perplexity']):.0f}" if metrics.get("perplexity") else "–",
        "parameters": f"{cast(int, metrics.get('parameters', 0)):,}",
    }
    seed = metrics.get("binarization_seed")
    measured = f"Measured on {metrics.get('examples'):,} {metrics.get('split')} images of {metrics.get('data')}" + (
        f", binarized once with seed {seed}" if seed else ", not binarized"
    )
    lines = ["| figure | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join([*lines, "", f"{measured}; ± is the standard error of the mean over images."])


def model_card(name: str, config: Mapping[str, object], metrics: Mapping[str, object] | None) -> str:
    """Returns the README.md of a model folder."""
    architecture = cast(Mapping[str, object], config["architecture"])
    data = cast(Mapping[str, object] | None, config.get("data"))
    recipe = cast(Mapping[str, object] | None, config.get("recipe"))
    context = ", c=0" if architecture["context"] else ""
    parts = [
        "---\nlibrary_name: vaezoo\ntags:\n- vae\n- " + f"{config['variant']}\n---",
        f"# {name}",
        f"A `{config['variant']}` made with [vaezoo](https://pypi.org/project/vaezoo/)"
        + (f", trained on {data['name']} (binarization: {data['binarize']})." if data else "."),
        USAGE.format(name=name, context=context),
    ]
    if metrics is not None:
        parts += ["## Figures", figures_table(metrics)]
    if recipe is not None:
        parts += [
            "## Recipe",
            f"`vaezoo train {recipe['name']}` makes it again (recipe digest `{str(recipe['digest'])[:12]}`).",
        ]
    shown = {key: config[key] for key in ("variant", "architecture", "options", "data")}
    parts += ["## Config", f"```json\n{json.dumps(shown, indent=1, sort_keys=True)}\n```"]
    return "\n\n".join(parts) + "\n"


# As a data set's page on the Hub calls its licence, and its name there.
DATA = {
    "mnist": ("ylecun/mnist", "MNIST", "CC BY-SA 3.0"),
    "fashion-mnist": ("zalando-datasets/fashion_mnist", "Fashion-MNIST", "MIT"),
    "digits": ("", "Digits (UCI)", "CC BY 4.0"),
}
CITATION = """```bibtex
@software{vaezoo,
  title = {vaezoo: a zoo of variational autoencoders},
  url = {https://pypi.org/project/vaezoo/}
}
```"""
NAMES = {"bound": "bound (nats)", "distortion": "distortion (nats)", "rate": "rate (nats)"}


def hub_card(repository: str, config: Mapping[str, object], metrics: Mapping[str, object], picture: str | None) -> str:
    """Returns the README.md of a repository on the Hub: figures that the Hub can read, picture, usage, citation."""
    card = model_card(repository.partition("/")[2], config, metrics).replace(
        f'vaezoo.load("{repository.partition("/")[2]}")', f'vaezoo.load("hf:{repository}")'
    )
    body = card.partition("\n---\n")[2].lstrip("\n")
    title, _, rest = body.partition("\n\n")
    data = cast(Mapping[str, object] | None, config.get("data"))
    parts = [front_matter(repository, config, metrics), title]
    if picture is not None:
        parts.append(f"![Samples from the prior]({picture})")
    parts.append(rest.rstrip("\n"))
    if data is not None and data["name"] in DATA:
        _, title, licence = DATA[str(data["name"])]
        parts += ["## Data", f"{title}, {licence}; seen with binarization `{data['binarize']}`."]
    parts += ["## Citation", CITATION]
    return "\n\n".join(parts) + "\n"


def front_matter(repository: str, config: Mapping[str, object], metrics: Mapping[str, object]) -> str:
    """Returns what the Hub reads of a card: library, tags, data, and the figures as a model index."""
    from huggingface_hub import EvalResult, ModelCardData

    data = str(metrics.get("data"))
    hub_name, title, _ = DATA.get(data, ("", data, ""))
    values = {text: figure_of(metrics.get(key)) for key, text in NAMES.items()}
    values[f"log-evidence (nats, K = {metrics.get('samples')})"] = figure_of(metrics.get("log_evidence"))
    values["PSNR (dB)"] = figure_of(metrics.get("psnr"))
    results = [
        EvalResult(
            task_type="unconditional-image-generation",
            dataset_type=hub_name or data,
            dataset_name=title,
            dataset_split=str(metrics.get("split")),
            metric_type=text.partition(" (")[0],
            metric_name=text,
            metric_value=value,
        )
        for text, value in values.items()
        if value is not None
    ]
    card = ModelCardData(
        library_name="vaezoo",
        tags=["vae", *str(config["variant"]).split("+")],
        datasets=[hub_name] if hub_name else None,
        model_name=repository.partition("/")[2],
        eval_results=results,
    )
    return f"---\n{card.to_yaml()}\n---"


def figure_of(value: object) -> float | None:
    """Returns the number of a figure: the mean of an estimate."""
    number = value.get("mean") if isinstance(value, Mapping) else value
    return round(float(number), 4) if isinstance(number, int | float) else None
