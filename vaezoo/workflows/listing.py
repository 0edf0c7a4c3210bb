"""Tables of models, variants and recipes, for `vaezoo list`, `vaezoo show` and the pages in docs/.

`python -m vaezoo.workflows.listing docs/models.md docs/variants.md docs/recipes-list.md` writes the pages again.
"""

import fnmatch
import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vaezoo.errors import UnknownNameError
from vaezoo.evaluation.metric import all_metrics
from vaezoo.recipe import list_recipes, published_metrics
from vaezoo.storage.model_card import figures_table
from vaezoo.zoo.index import list_models, read_index

if TYPE_CHECKING:  # the registry imports torch
    from vaezoo.registry import Variant

Rows = list[tuple[str, ...]]


def models(pattern: str = "*") -> tuple[tuple[str, ...], Rows]:
    """Returns headings and rows of the pretrained models, from the index and the recipes."""
    shown = {key: metric for key, metric in all_metrics().items() if metric.listed}
    rows: Rows = []
    for name in list_models(pattern):
        facts = read_index()[name]
        metrics = cast(Mapping[str, object], facts["metrics"])
        files = cast(Mapping[str, Mapping[str, int]], facts["files"])
        published = published_metrics(name)
        data = f"{metrics['data']}, {'binarized' if metrics['binarization'] != 'none' else 'gray'}"
        measured = [metric.in_table(key, metrics) for key, metric in shown.items()]
        reported = "" if published is None else published.text("log_evidence")
        size = sum(known["size"] for file, known in files.items() if file.endswith(".safetensors"))
        rows.append((name, str(facts["variant"]), data, *measured, reported, f"{size / 1e6:.1f} MB"))
    return ("model", "variant", "data", *(metric.heading for metric in shown.values()), "published", "size"), rows


def variants(pattern: str = "*") -> tuple[tuple[str, ...], Rows]:
    """Returns headings and rows of the registered variants."""
    rows: Rows = []
    for entry in variant_entries(pattern):
        summary = (inspect.getdoc(entry.builder) or "").partition("\n")[0]
        options = ", ".join(f"{option.name} = {option.default}" for option in entry.options.values()) or "–"
        used = sorted(name for name, facts in read_index().items() if entry.name in str(facts["variant"]).split("+"))
        changes, weights, paper = (
            ", ".join(entry.changes) or "–",
            ", ".join(used) or "–",
            f"{entry.paper} ({entry.year})",
        )
        rows.append((entry.name, changes, entry.rate, summary, options, paper, weights))
    return ("variant", "changes", "rate", "what it does", "options", "paper", "weights"), rows


def variants_table() -> str:
    """Returns the table of variants in docs/variants.md, with links to options and papers."""
    headings, rows = variants()
    linked: Rows = []
    for (name, *facts, _, paper, weights), entry in zip(rows, variant_entries(), strict=True):
        source = f"[{paper}]({entry.url})" if entry.url else paper
        linked.append((f"[{name}](#{name})" if entry.options else name, *facts, source, weights))
    return markdown([heading for heading in headings if heading != "options"], linked)


def options_list() -> str:
    """Returns the options of each variant as Markdown lists, each with its default and its description."""
    parts = []
    for entry in variant_entries():
        texts = option_texts(entry)
        lines = [f"- `{each.name} = {each.default!r}`: {texts.get(each.name, '')}" for each in entry.options.values()]
        parts += [f"### {entry.name}\n\n" + "\n".join(lines)] if lines else []
    return "\n\n".join(parts)


def variant_entries(pattern: str = "*") -> "list[Variant]":
    """Returns the registered variants whose names match a shell pattern and that can be loaded."""
    from vaezoo.registry import variants as registry

    return [*registry.available(pattern)[0].values()]


def option_texts(entry: "Variant") -> dict[str, str]:
    """Returns the description of each option, from the section `Hyperparameters:` of the builder's docstring."""
    section = (inspect.getdoc(entry.builder) or "").partition("Hyperparameters:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in found for name in names.split(", ")}


def recipes(pattern: str = "*") -> tuple[tuple[str, ...], Rows]:
    """Returns headings and rows of the recipes."""
    rows: Rows = []
    for name, path in sorted(list_recipes().items()):
        if fnmatch.fnmatchcase(name, pattern):
            text = path.read_text(encoding="utf-8")
            table = tomllib.loads(text)
            first = text.splitlines()[0].removeprefix("#").strip()
            rows.append((name, str(table["variant"]), str(table["data"]["name"]), first))
    return ("recipe", "variant", "data", "what it is"), rows


def describe(name: str) -> str:
    """Returns a description of a pretrained model, a variant, a recipe or a run; raises UnknownNameError for others."""
    if name in read_index():
        facts = read_index()[name]
        place = f", hf:{facts['repository']}@{facts['commit']}" if "repository" in facts else ""
        figures = figures_table(cast(Mapping[str, object], facts["metrics"]))
        return f"{name}: a pretrained {facts['variant']}{place}\n{facts['architecture']}\n\n{figures}"
    known = list_recipes()
    if name in known:
        return known[name].read_text(encoding="utf-8")
    if "/" in name and ((Path(name) / "config.json").is_file() or (Path(name) / "recipe.json").is_file()):
        from vaezoo.workflows.run_folder import describe_folder

        return describe_folder(Path(name))
    from vaezoo.registry import variants as registry

    if name in registry.names():
        entry = registry.get(name)
        options = "\n".join(f"  {option.name} = {option.default!r}" for option in entry.options.values())
        head = f"{name} ({entry.paper}, {entry.year}; {entry.url})"
        return f"{head}\n\n{inspect.getdoc(entry.builder)}\n\nOptions:\n{options or '  none'}"
    raise UnknownNameError("model, variant or recipe", name, [*read_index(), *known, *registry.names()])


def markdown(headings: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    """Returns a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def refresh(text: str) -> str:
    """Returns a page with the text between `<!-- NAME -->` and `<!-- end -->` replaced by the table of that name."""
    tables: dict[str, Callable[[], str]] = {
        "models": lambda: markdown(*models()),
        "variants": variants_table,
        "options": options_list,
        "recipes": lambda: markdown(*recipes()),
    }
    for name, table in tables.items():
        start, marker, rest = text.partition(f"<!-- {name} -->\n")
        if marker:
            text = f"{start}{marker}{table()}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return text


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        page = Path(argument)
        page.write_text(refresh(page.read_text(encoding="utf-8")), encoding="utf-8")
