"""The generated pages of the documentation site: one for each variant, one for each pretrained model.

`docs/conf.py` calls `write_pages` before each build. The files are Markdown and PNG, and git ignores them.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vaezoo.errors import ConfigError
from vaezoo.evaluation.metric import all_metrics
from vaezoo.recipe import list_recipes, published_metrics
from vaezoo.registry.docstrings import bibliography, references_of, section_of, split_use
from vaezoo.storage.model_card import USAGE, architecture_text, figures_table
from vaezoo.storage.model_folder import CARD
from vaezoo.workflows.building_blocks import option_texts
from vaezoo.workflows.listing import (
    metrics_of,
    models_table,
    recipe_records,
    summary_of,
    table_title,
    variant_entries,
    weights_of,
)
from vaezoo.workflows.measure import in_the_literature
from vaezoo.workflows.tables import markdown
from vaezoo.zoo.index import PACKAGE_FOLDER, bundled_models, list_models, read_index

if TYPE_CHECKING:  # the registry imports torch
    from vaezoo.core import VAE
    from vaezoo.registry import Option, Variant

IMAGES = 16  # samples in a picture
HIGHLIGHTS, LISTED = "Probabilities: binarized images, 1 × 28 × 28", 8
PAIRS = 8  # images with their reconstructions
FEW_LATENTS = 10  # so many at most are changed one by one in a picture


def write_pages(folder: Path) -> list[Path]:
    """Writes the pages of all variants and all pretrained models with their pictures, and returns the pages.

    Pages of earlier builds whose variant or model no longer exists are removed. Nothing is downloaded: models that are
    not bundled get no pictures.

    Args:
        folder: receives `variants/NAME.md`, `models/NAME.md` and `models/pictures/`.
    """
    texts = {folder / "variants" / f"{entry.name}.md": variant_page(entry) for entry in variant_entries()}
    texts |= {folder / "models" / f"{name}.md": model_page(name) for name in list_models()}
    for old in {*folder.glob("variants/*.md"), *folder.glob("models/*.md")} - {*texts}:
        old.unlink()
    for page, text in texts.items():
        if not page.exists() or page.read_text(encoding="utf-8") != text:  # Sphinx reads pages again that are newer
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
    for name in bundled_models():
        write_pictures(name, folder / "models" / "pictures")
    return [*texts]


def highlights() -> str:
    """Returns a table of the pretrained models of one kind of data with the highest bounds, for the home page."""
    known = {key: all_metrics()[key] for key in ("bound", "log_evidence", "psnr", "parameters")}
    names = [name for name in list_models() if table_title(name) == HIGHLIGHTS]
    bounds = {name: bound for name in names if (bound := bound_of(name)) is not None}
    rows = [
        (name, *(metric.in_table(key, metrics_of(name)) for key, metric in known.items()))
        for name in sorted(bounds, key=bounds.__getitem__, reverse=True)[:LISTED]
    ]
    return markdown(("model", *(each.heading for each in known.values())), rows)


def bound_of(name: str) -> float | None:
    """Returns the mean bound of a pretrained model, if it has one."""
    return cast(Mapping[str, float | None], metrics_of(name)["bound"])["mean"]


def variant_page(entry: "Variant") -> str:
    """Returns the page of a variant: equation, facts, use, options, weights, references."""
    doc = inspect.getdoc(entry.builder) or ""
    text, use = split_use(doc)
    parts = [f"# {entry.name}", summary_of(entry), text, facts_table(entry)]
    parts += ["## When to use it", *([use] if use else []), usage_of(entry)]
    parts += ["## Options", options_table(entry), *see_also(doc)]
    parts += ["## Pretrained models", *weights_sections(entry.name)]
    return "\n\n".join([*parts, *references_section(doc)]) + "\n"


def facts_table(entry: "Variant") -> str:
    """Returns a table of the facts with which a variant is registered."""
    paper = f"{entry.paper} ({entry.year})"
    context = {"optional": "optional (`context=N`)", "required": "required (`context=N`)"}
    rows = [
        ("changes", ", ".join(entry.changes) or "nothing: all other variants change this one"),
        ("paper", f"[{paper}]({entry.url})" if entry.url else paper),
        ("rate", entry.rate),
        ("loss of an example", "depends on its batch" if entry.couples_examples else "depends on this example alone"),
        ("condition", context.get(entry.context, "class labels, which may be missing")),
        *([("needs", f"a variant that has {entry.requires}")] if entry.requires else []),
    ]
    return markdown(("fact", "value"), rows)


def usage_of(entry: "Variant") -> str:
    """Returns a block of Python that creates the model with its default options, and with what else it needs."""
    from vaezoo.registry import create, with_requirements

    name, context = with_requirements(entry.name), 10 if entry.context != "optional" else 0
    needs: dict[str, Any] = {"context": context} if context else {}  # Any: options have any type
    needs |= {key: entry.example[key] for key, option in entry.options.items() if has_no_default(option, entry.example)}
    try:
        create(name, shape=(1, 28, 28), **needs)
    except ConfigError:
        needs["examples"] = 60_000  # for estimates that depend on the size of the training set
    given = "".join(f", {key}={value!r}" for key, value in needs.items())
    line = f'model = vaezoo.create("{name}", shape=(1, 28, 28){given})'
    return f"```python\nimport vaezoo\n\n{line}\n```"


def has_no_default(option: "Option", example: Mapping[str, object]) -> bool:
    """Returns whether a value has to be chosen for an option; then a variant's example has one."""
    return option.name in example and option.default is None


def options_table(entry: "Variant") -> str:
    """Returns a table of the options with defaults and ranges."""
    from vaezoo.registry.options import expectation

    texts = option_texts(entry.builder)
    rows = [
        (f"`{each.name}`", f"`{each.default!r}`", *map(cell, (expectation(each.type), texts.get(each.name, ""))))
        for each in entry.options.values()
    ]
    none = "It has none. Networks, latent shape and likelihood are those of every variant."
    return markdown(("option", "default", "values", "meaning"), rows) if rows else none


def cell(text: str) -> str:
    """Returns text for a cell of a Markdown table."""
    return text.replace("|", r"\|")


def see_also(doc: str) -> list[str]:
    """Returns the section with related variants."""
    text = section_of(doc, "See also")
    return ["## See also", text[:1].upper() + text[1:]] if text else []


def weights_sections(variant: str) -> list[str]:
    """Returns the figures and samples of the pretrained models of a variant, and its recipes."""
    names, parts = weights_of(variant), list[str]()
    if names:
        parts.append(models_table("", names).without(("source", "data", "size")).markdown())
    bundled = bundled_models()
    parts += [strip(name, f"models/{name}.md") for name in names if name in bundled]
    recipes = [record["name"] for record in recipe_records() if variant in str(record["variant"]).split("+")]
    commands = "\n".join(f"vaezoo train {name}" for name in recipes)
    if not names:
        parts.append("There are none yet." + (" Its recipes train one:" if recipes else ""))
    return [*parts, f"```sh\n{commands}\n```"] if recipes else parts


def strip(name: str, page: str) -> str:
    """Returns the picture of samples of a model, with a link to its page; paths are those of a variant's page."""
    image = f"![Samples of {name}](../models/pictures/{name}-samples.png)"
    return f"{image}\n*Samples of [{name}](../{page}), seed 0.*"


def references_section(doc: str) -> list[str]:
    """Returns the references of a docstring, each with its BibTeX entry."""
    parts, known = ["## References"], bibliography()
    for use, paper, address in references_of(doc):
        parts.append(f"{use}: [{paper}]({address})" if use else f"[{paper}]({address})")
        parts += [f"```bibtex\n{known[address]}\n```"] if address in known else []
    return parts


def model_page(name: str) -> str:
    """Returns the page of a pretrained model: its card, with pictures, figures of the literature and the recipe."""
    file = PACKAGE_FOLDER / name / CARD
    bundled = name in bundled_models()
    card = file.read_text(encoding="utf-8").partition("\n---\n")[2].strip() if bundled else card_on_the_hub(name)
    about, heading, figures = card.partition("\n## Figures\n")
    figures, last, config = figures.partition("\n## Config\n")
    published = published_metrics(name)
    parts = [about.strip(), *(model_pictures(name) if bundled else []), heading.strip(), figures.strip()]
    if published is not None:
        parts += ["## In the literature", in_the_literature(published, metrics_of(name))]
    if name in list_recipes():
        recipe = list_recipes()[name].read_text(encoding="utf-8").strip()
        parts += ["## Recipe file", f"```toml\n{recipe}\n```"]
    return "\n\n".join([*parts, *([last.strip(), config.strip()] if last else [])]) + "\n"


def card_on_the_hub(name: str) -> str:
    """Returns a card of a model whose files are not in the package, from the index."""
    facts = read_index()[name]
    place = f"https://huggingface.co/{facts['repository']}/tree/{facts['commit']}"
    architecture = cast(Mapping[str, object], facts["architecture"])
    parts = [
        f"# {name}\n\nA `{facts['variant']}`, [on the Hub]({place}): `load` downloads it once.",
        USAGE.format(name=name, context=", c=0" if architecture["context"] else ""),
        f"## Figures\n\n{figures_table(metrics_of(name))}",
        f"## Config\n\n```text\n{architecture_text(architecture)}\n```",
    ]
    return "\n\n".join(parts)


def model_pictures(name: str) -> list[str]:
    """Returns the section with the pictures that `write_pictures` makes."""
    captions = {
        "reconstructions": ("Test images and their reconstructions", "Test images above their reconstructions."),
        "traversal": (f"Traversals of {name}", "A test image, with each of its six most active latents changed alone."),
        "samples": (f"Samples of {name}", "Samples, seed 0."),
    }
    return ["## Pictures"] + [
        f"![{captions[kind][0]}](pictures/{name}-{kind}.png)\n*{captions[kind][1]}*" for kind in kinds_of_pictures(name)
    ]


def kinds_of_pictures(name: str) -> list[str]:
    """Returns which pictures the page of a model has: of test images in the package or drawn, if any, and samples."""
    from vaezoo.data.bundled import needs_no_download  # imports torch

    if not needs_no_download(metrics_of(name).get("data")):
        return ["samples"]
    architecture = cast(Mapping[str, object], read_index()[name]["architecture"])
    latent = cast(Sequence[int], architecture["latent"])
    few = len(latent) == 1 and latent[0] <= FEW_LATENTS
    return ["reconstructions", *(["traversal"] if few else []), "samples"]


def write_pictures(name: str, folder: Path) -> None:
    """Writes the pictures of the page of a bundled model; those that are newer than the weights are kept."""
    targets = {kind: folder / f"{name}-{kind}.png" for kind in kinds_of_pictures(name)}
    written = all(each.exists() for each in targets.values())
    if written and newest(PACKAGE_FOLDER.glob(f"{name}/*")) < oldest(targets.values()):
        return
    from vaezoo import pictures
    from vaezoo.workflows.draw import some_images
    from vaezoo.workflows.load import load

    model = load(name)
    pictures.samples(model, IMAGES, targets["samples"], c=classes_of(model))
    if "reconstructions" in targets:
        x, c = some_images(model, None, PAIRS)
        pictures.reconstructions(model, x, targets["reconstructions"], c)
    if "traversal" in targets:
        pictures.traversal(model, x[:1], targets["traversal"])


def classes_of(model: "VAE") -> list[int] | None:
    """Returns a class for each sample of a conditional model."""
    return [index % model.context for index in range(IMAGES)] if model.context else None


def newest(files: Iterable[Path]) -> float:
    """Returns the time of the last change of any of some files."""
    return max(file.stat().st_mtime for file in files)


def oldest(files: Iterable[Path]) -> float:
    """Returns the time of the first change of some files."""
    return min(file.stat().st_mtime for file in files)
