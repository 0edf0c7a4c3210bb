"""The model card of a folder."""

import inspect
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import cast

from vaezoo.errors import ConfigError, VaezooError
from vaezoo.evaluation.health import remarks
from vaezoo.evaluation.measurement_settings import MeasurementSettings
from vaezoo.evaluation.metric import all_metrics, titled
from vaezoo.recipe import list_recipes, read_recipe
from vaezoo.storage.terms import Terms

UNSTATED = Terms()
NO_PICTURES: Mapping[str, str] = MappingProxyType({})
CITATION = "@software{vaezoo,\n  title = {vaezoo: a zoo of variational autoencoders}\n}"
USAGE = """```python
import vaezoo

model = vaezoo.load("{name}")
x = model.sample(16{context})
```"""


def figures_table(metrics: Mapping[str, object]) -> str:
    """Returns the metrics of a model as a Markdown table, with the data that they were measured on."""
    lines = ["| figure | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in titled(metrics))]
    if isinstance(examples := metrics.get("examples"), int):  # of `evaluate`, not figures of one's own
        seed, subset = metrics.get("binarization_seed"), metrics.get("subset_seed")
        measured = f"Measured on {examples:,} {metrics.get('split')} images of {metrics.get('data')}" + (
            (f", chosen with seed {subset}" if subset is not None else "")
            + (f", binarized once with seed {seed}" if seed else ", not binarized")
        )
        lines += ["", f"{measured}; ± is the standard error of the mean over images."]
    given = {**metrics, "reason": reason_of(metrics)}
    return "\n".join([*lines, *(line for each in remarks(given) for line in ("", each))])


def architecture_text(architecture: Mapping[str, object]) -> str:
    """Returns an architecture as lines, such as "  backbone: mlp(hidden=[400], activation='relu')"."""
    order = ("shape", "latent", "context", "backbone", "likelihood")
    keys = [*(key for key in order if architecture.get(key)), *sorted(set(architecture) - {*order})]
    return "\n".join(f"  {key}: {field_text(architecture[key])}" for key in keys)


def field_text(value: object) -> str:
    """Returns a field of an architecture: a size, a number, or the name and options of a block."""
    if isinstance(value, Mapping) and "name" in value:
        options = ", ".join(f"{key}={each!r}" for key, each in value.items() if key != "name")
        return f"{value['name']}({options})" if options else str(value["name"])
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        return str(tuple(value)) if len(value) > 1 else str(value[0])
    return f"{value:,}" if isinstance(value, int) else str(value)


def reason_of(metrics: Mapping[str, object]) -> str:
    """Returns a sentence that states why a bound or an evidence is missing, or an empty string."""
    if metrics.get("reason"):
        return str(metrics["reason"])
    bound, evidence = (cast(Mapping[str, object], metrics.get(key) or {}) for key in ("bound", "log_evidence"))
    if bound.get("mean") is None:  # metrics of earlier versions have no reason
        return "No bound and no log-evidence: the model gives these images neither a probability nor a density."
    return "" if evidence.get("mean") is not None else "No log-evidence: it was not measured."


def model_card(
    name: str,
    config: Mapping[str, object],
    metrics: Mapping[str, object] | None,
    *,
    address: str = "",
    recipe: str = "",
    before: Sequence[str] = (),
    moved: bool = False,
    pictures: Mapping[str, str] = NO_PICTURES,
    terms: Terms = UNSTATED,
    published: bool = False,
) -> str:
    """Returns the README.md of a model folder, or of a repository on the Hub; both have the same sections.

    Args:
        name: the title.
        config: that of the model.
        metrics: its figures, if it has some.
        address: the name that `load` takes; the title if it is empty.
        recipe: path of the recipe that `vaezoo train` takes, if there is one.
        before: commands that bring the recipe there.
        moved: see `recipe_section`.
        pictures: file of a picture -> what it shows.
        terms: licenses of weights and data.
        published: whether the card states the license of the weights.
    """
    architecture = cast(Mapping[str, object], config["architecture"])
    usage = USAGE.format(name=address or name, context=", c=0" if architecture["context"] else "")
    parts = [front_matter(name, config, metrics or {}, terms), f"# {name}", about(config)]
    parts += [f"![{text}]({file})" for file, text in pictures.items()] + [usage, *use_section(config)]
    if metrics is not None:
        parts += ["## Figures", figures_table(metrics), *evaluate_command(address or name, config, metrics)]
    parts += recipe_section(config, metrics, recipe, *before, moved=moved)
    parts += [*(["## License", terms.sentence] if published else []), *data_section(config, terms), *sections(config)]
    return "\n\n".join(parts) + "\n"


def about(config: Mapping[str, object]) -> str:
    """Returns the first lines of a card: variant, version, data, and the packages that it needs."""
    data = cast(Mapping[str, object] | None, config.get("data"))
    made = f"A `{config['variant']}` made with vaezoo {config.get('vaezoo', '')}".rstrip()
    trained = f", trained on {data['name']} (binarization: {data['binarize']})." if data else "."
    packages = packages_of(config)
    return f"{made}{trained}" + (f"\n\nIt needs `pip install {' '.join(packages)}`." if packages else "")


def use_section(config: Mapping[str, object]) -> list[str]:
    """Returns the section on what the model is for, by the docstrings of its variants, and where its figures end."""
    from vaezoo.registry.docstrings import split_use  # here: what only shows figures needs no torch

    docs = {name: docstring_of(name) for name in str(config["variant"]).split("+")}
    uses = {name: " ".join(split_use(doc)[1].split()) for name, doc in docs.items()}
    lines = [f"`{name}`: {use}" if len(docs) > 1 else use for name, use in uses.items() if use]
    shape = tuple(cast(Sequence[int], cast(Mapping[str, object], config["architecture"])["shape"]))
    expected = f"images of shape {shape} with values in [0, 1]" if len(shape) == 3 else f"x of shape {shape}"
    data = cast(Mapping[str, object] | None, config.get("data"))
    limits = f" Its figures hold for {data['name']} alone; for other data, fine-tune or train it." if data else ""
    return ["## Intended use", *lines, f"It expects {expected}.{limits}"]


def docstring_of(variant: str) -> str:
    """Returns the docstring of a variant; an empty text if it is not registered here."""
    from vaezoo.registry import variants  # here: what only shows figures needs no torch

    with suppress(VaezooError):
        return inspect.getdoc(variants.get(variant).builder) or ""
    return ""


def evaluate_command(address: str, config: Mapping[str, object], metrics: Mapping[str, object]) -> list[str]:
    """Returns the command that measures the figures again, none if it is unknown or if their data have no name."""
    trained_on = str((cast("Mapping[str, object] | None", config.get("data")) or {}).get("name"))
    with suppress(ConfigError):
        settings = MeasurementSettings.of(metrics)
        if has_name(settings.data):
            return [f"```sh\n{settings.command(address, trained_on)}\n```"]
    return []


def tags(config: Mapping[str, object]) -> list[str]:
    """Returns the tags of a model: "vae", and its variants."""
    return list(dict.fromkeys(["vae", *str(config["variant"]).split("+")]))


def sections(config: Mapping[str, object]) -> list[str]:
    """Returns the last sections of a card: origin, latents, config, citation."""
    parts = list[str]()
    if config.get("origin") is not None:
        origin = cast(Mapping[str, str], config["origin"])
        facts = "; ".join(f"{key} `{value}`" for key, value in sorted(origin.items()))
        parts += ["## Origin", f"Converted from weights of another project: {facts}.{added_likelihood(config)}"]
    if config.get("latents") is not None:
        parts += ["## Latents", latents_text(cast(Mapping[str, object], config["latents"]))]
    shown = {key: config[key] for key in ("variant", "architecture", "options", "data")}
    parts += ["## Config", f"```json\n{json.dumps(shown, indent=1, sort_keys=True)}\n```"]
    return [*parts, "## Citation", "```bibtex\n" + "\n\n".join([CITATION, *papers_of(config)]) + "\n```"]


def papers_of(config: Mapping[str, object]) -> list[str]:
    """Returns the BibTeX entries of the papers of a config's variants, each once."""
    from vaezoo.registry.docstrings import citations  # here: what only shows figures needs no torch

    found = dict[str, str]()
    for name in str(config["variant"]).split("+"):
        found |= {key: text for key, text in citations(docstring_of(name)).items() if key not in found}
    return [*found.values()]


def added_likelihood(config: Mapping[str, object]) -> str:
    """Returns a sentence on the likelihood of weights that came without one, otherwise an empty text."""
    if cast(Mapping[str, str], config["origin"]).get("layout") != "diffusers":
        return ""
    likelihood = field_text(cast(Mapping[str, object], config["architecture"])["likelihood"])
    return (
        f" These weights have no likelihood: {likelihood} was added by vaezoo, so that densities, bounds and rates in "
        "nats exist. Reconstructions do not depend on it."
    )


def packages_of(config: Mapping[str, object]) -> list[str]:
    """Returns the names of the other packages that register a config's variants, backbone and likelihood."""
    from vaezoo.registry import backbones, likelihoods, variants  # here: what only shows figures needs no torch

    architecture = cast(Mapping[str, object], config["architecture"])
    blocks = [architecture.get(key) for key in ("backbone", "likelihood")]
    backbone, likelihood = (str(each["name"] if isinstance(each, Mapping) else each) for each in blocks)
    parts = variants.packages(str(config["variant"]).split("+"))
    return sorted(parts | backbones.packages([backbone]) | likelihoods.packages([likelihood]))


def recipe_section(
    config: Mapping[str, object], metrics: Mapping[str, object] | None, file: str, *before: str, moved: bool = False
) -> list[str]:
    """Returns the section on how to train the model again and what it took, none for a model without a recipe.

    Args:
        config: that of the model.
        metrics: its figures, with the cost of the training if it is known.
        file: path of the recipe, if there is one.
        before: commands that bring it there.
        moved: whether the data, if they are a folder, may not be at the path in the recipe.
    """
    recipe = cast(Mapping[str, object] | None, config.get("recipe"))
    if recipe is None:
        return []
    cost = cost_text((metrics or {}).get("training"))
    name, digest = recipe["name"], f"recipe digest `{str(recipe['digest'])[:12]}`"
    if is_packaged(recipe):
        return ["## Training", f"`vaezoo train {name}` makes it again ({digest}).{cost}"]
    if not file:
        return ["## Training", f"Trained by the recipe `{name}`, which is not in this folder ({digest}).{cost}"]
    data = str(cast(Mapping[str, object], config.get("data") or {}).get("name", ""))
    folder = data.startswith("folder:")
    command, note = f"vaezoo train {shlex.quote(file)}", f"The recipe is `{file.rpartition('/')[2]}` ({digest})."
    if folder and moved:
        command += " --data folder:PATH"
        note += f" It was trained on a folder of images, `{data.removeprefix('folder:')}`; PATH is that of yours."
    elif not folder and not has_name(data):
        call = f'vaezoo.train("{file}", data=data)'
        note += f" Its data, {data}, were passed from Python: `{call}` trains it on yours."
        command = ""
    commands = "\n".join([*before, *([command] if command else [])])
    return ["## Training", note + cost, *([f"```sh\n{commands}\n```"] if commands else [])]


def cost_text(cost: object) -> str:
    """Returns a sentence on steps, images, time and machine of a training, or an empty text."""
    if not isinstance(cost, Mapping):
        return ""
    try:
        amount = f"{cost['steps']:,} steps, {cost['images']:,} images, {cost['seconds'] / 60:,.0f} minutes"
    except (LookupError, TypeError, ValueError):
        return ""
    place = f" on {machine}" if (machine := cost.get("machine")) else ""
    if timed := cost.get("estimated_from"):  # not of the run itself
        return f" It takes {amount}{place}, estimated from the time of {timed} steps of each stage."
    return f" It took {amount}{place}."


def is_packaged(recipe: Mapping[str, object]) -> bool:
    """Returns whether `vaezoo train NAME` trains by the recipe of a config: without overrides or extensions."""
    if recipe["name"] not in list_recipes():
        return False
    with suppress(VaezooError):
        return read_recipe(str(recipe["name"])).digest == recipe["digest"]
    return False


def has_name(data: str) -> bool:
    """Returns whether `load_dataset` takes a name."""
    from vaezoo.data import datasets  # here: what only shows figures needs no torch

    return data.partition(":")[0] in ("torchvision", *datasets.names())


def latents_text(facts: Mapping[str, object]) -> str:
    """Returns the factors of `VAE.latents(x, scaled=True)`, and the data on which they were measured, if any."""
    noise = "draws of the posterior" if facts.get("noise") else "centers of the posterior"
    measured = (
        f", which has mean 0 and standard deviation 1 over {facts['examples']:,} {facts['split']} examples of "
        f"{facts['data']} ({noise})"
        if facts.get("data")
        else ", with the factors of the weights' source"
    )
    return (
        f"`model.latents(x, scaled=True)` returns (z − shift_factor) · scaling_factor{measured}; "
        "`model.decode_latents(z, scaled=True)` inverts it.\n\n"
        f"| factor | value |\n| --- | --- |\n| scaling_factor | {numbers_text(facts['scaling_factor'])} |\n"
        f"| shift_factor | {numbers_text(facts['shift_factor'])} |"
    )


def numbers_text(value: object) -> str:
    """Returns a number, or the numbers of a list, with 6 significant digits."""
    return ", ".join(f"{each:.6g}" for each in (value if isinstance(value, list) else [value]))


#: data set -> its name on the Hub
ON_THE_HUB = {"mnist": "ylecun/mnist", "fashion-mnist": "zalando-datasets/fashion_mnist"}


def data_section(config: Mapping[str, object], terms: Terms) -> list[str]:
    """Returns the section on the training data and their license, none for a model without data."""
    data = cast(Mapping[str, object] | None, config.get("data"))
    if data is None:
        return []
    name = str(data["name"])
    own = f"`{name.removeprefix('folder:')}`, a folder of images" if name.startswith("folder:") else f"`{name}`"
    licence = licence_of(name) if terms.data_license is None else f"{own}, license: {terms.data_license}"
    padded = f", with {data['pad']} zeros on each side" if data.get("pad") else ""
    text = f"{licence or f'{own}; their license is not stated'}; binarization `{data['binarize']}`{padded}."
    place = f" On the Hub: [{terms.dataset}](https://huggingface.co/datasets/{terms.dataset})." if terms.dataset else ""
    return ["## Data", text + place]


def licence_of(data: str) -> str:
    """Returns "TITLE: OWNERS, LICENSE" of a registered data set, of the chosen parts of it, or an empty text."""
    from vaezoo.data import datasets  # here: what only shows cards needs no torch

    name, _, choice = data.partition(":")
    if name not in datasets.names():
        return ""
    home = sys.modules.get(getattr(datasets.get(name), "__module__", ""))
    if callable(of_choice := getattr(home, "licence", None)):
        return str(of_choice(choice))
    return "" if choice else str(getattr(home, "LICENCE", ""))


def front_matter(
    name: str, config: Mapping[str, object], metrics: Mapping[str, object], terms: Terms = UNSTATED
) -> str:
    """Returns the metadata of a card, which the Hub reads: library, license, tags, data, figures as a model index."""
    from huggingface_hub import EvalResult, ModelCardData

    data = str(metrics.get("data"))
    hub_name, title = ON_THE_HUB.get(data), licence_of(data).partition(":")[0] or data.removeprefix("folder:")
    hub_name = terms.dataset or hub_name
    images = len(cast(Sequence[int], cast(Mapping[str, object], config["architecture"])["shape"])) == 3
    results = []
    for key, metric in all_metrics().items():
        found = metrics.get(key)
        number = found.get("mean") if isinstance(found, Mapping) else found  # the mean of an estimate
        text = metric.title(metrics, on_the_hub=True)
        if metric.unit and isinstance(number, int | float):
            result = EvalResult(
                task_type="unconditional-image-generation" if images else "other",
                dataset_type=hub_name or title,
                dataset_name=title,
                dataset_split=str(metrics.get("split")),
                metric_type=text.partition(" (")[0],
                metric_name=text,
                metric_value=round(float(number), 4),
            )
            results.append(result)
    card = ModelCardData(
        library_name="vaezoo",
        license=terms.license,
        license_name=terms.license_name,
        license_link=terms.license_link,
        tags=tags(config),
        datasets=[hub_name] if hub_name else None,
        model_name=name,
        eval_results=results,
    )
    return f"---\n{card.to_yaml()}\n---"
