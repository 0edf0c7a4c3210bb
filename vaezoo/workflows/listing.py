"""Tables of models, variants, recipes and building blocks, for `vaezoo list`, `vaezoo show` and the pages in docs/.

`python -m vaezoo.workflows.listing docs/reference/{models,variants,recipes-list,building-blocks}.md` writes the pages
again.
"""

import fnmatch
import inspect
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vaezoo.errors import UnknownNameError
from vaezoo.evaluation.metric import all_metrics
from vaezoo.recipe import list_recipes, published_metrics
from vaezoo.storage.json_files import LARGEST_JSON, parse_json, read_bytes
from vaezoo.storage.model_card import architecture_text, figures_table
from vaezoo.workflows.building_blocks import (
    KINDS,
    block_names,
    block_records,
    block_sections,
    block_tables,
    describe_block,
    kinds_of,
    option_line,
    option_texts,
    reflowed,
)
from vaezoo.workflows.formulas import plain
from vaezoo.workflows.tables import Record, Table, markdown
from vaezoo.zoo.index import list_models, read_index

if TYPE_CHECKING:  # the registry imports torch
    from vaezoo.registry import Variant

Rows = list[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which pretrained models to list, and in which order.

    Args:
        pattern: shell pattern of the name.
        data: name of the data set; None for all.
        variant: a variant, or a composition such as "vq-vae+code-prior"; None for all.
        sort: "name", "size", or a metric such as "log-evidence", the largest first; models without it come last.
        ascending: whether the smallest comes first.
    """

    pattern: str = "*"
    data: str | None = None
    variant: str | None = None
    sort: str = "name"
    ascending: bool = False

    def names(self) -> list[str]:
        """Returns the names of the models.

        Raises:
            UnknownNameError: a variant, a data set or a metric of that name is not among those of the models.
        """
        index = read_index()
        known = {"data set": {str(metrics_of(name)["data"]) for name in index},
                 "variant": {part for facts in index.values() for part in str(facts["variant"]).split("+")},
                 "order": {"name", "size", *(key.replace("_", "-") for key in all_metrics())}}  # fmt: skip
        for kind, given in (
            ("data set", [self.data]),
            ("variant", (self.variant or "").split("+")),
            ("order", [self.sort]),
        ):
            for each in given:
                if each and each not in known[kind]:
                    raise UnknownNameError(kind, each, sorted(known[kind]))
        found = list_models(self.pattern, self.variant)
        found = [name for name in found if self.data in (None, metrics_of(name)["data"])]
        if self.sort == "name":
            return found
        values = {name: self.value(name) for name in found}
        missing = [name for name in found if values[name] is None]
        rest = [name for name in found if values[name] is not None]
        return sorted(rest, key=lambda name: cast(float, values[name]), reverse=not self.ascending) + missing

    def value(self, name: str) -> float | None:
        """Returns the figure of a model that it is sorted by, None if it has none."""
        if self.sort == "size":
            return float(weights_size(name))
        found = metrics_of(name).get(self.sort.replace("-", "_"))
        found = found.get("mean") if isinstance(found, Mapping) else found
        return float(found) if isinstance(found, int | float) else None


def models(selection: Selection | str = "*") -> list[Table]:
    """Returns tables of the pretrained models, from the index and the recipes; see `table_title`."""
    tables: dict[str, list[str]] = {}
    for name in selected(selection):
        tables.setdefault(table_title(name), []).append(name)
    order = sorted(tables, key=lambda title: (title.startswith("Densities"), " given c" in title, title))
    return [models_table(title, tables[title]) for title in order]


def selected(selection: Selection | str) -> list[str]:
    """Returns the names of a selection, or of a shell pattern."""
    return (Selection(pattern=selection) if isinstance(selection, str) else selection).names()


def table_title(name: str) -> str:
    """Returns the title of a pretrained model's table, which figures share only if they are of one kind.

    Probabilities are apart from densities, log p(x given c) from log p(x), and images from those of another shape.
    """
    metrics, facts = metrics_of(name), cast(Mapping[str, Any], read_index()[name]["architecture"])
    given = " given c" if facts["context"] and metrics.get("label_error") is None else ""  # or classes are inferred
    kind, shape = "Probabilities" if is_mass(metrics) else "Densities", facts["shape"]
    images = "binarized" if metrics["binarization"] != "none" else "color" if shape[0] == 3 else "gray"
    return f"{kind}{given}: {images} images, {' × '.join(map(str, shape))}"


def metrics_of(name: str) -> Mapping[str, object]:
    """Returns the metrics of a pretrained model in the index."""
    return cast(Mapping[str, object], read_index()[name]["metrics"])


def is_mass(metrics: Mapping[str, object]) -> bool:
    """Returns whether figures are those of probability masses; earlier versions stored only the binarization."""
    return str(metrics.get("measure") or ("density" if metrics["binarization"] == "none" else "mass")) == "mass"


MISSING = "–: the model gives these images neither a probability nor a density, or it was not measured."


def models_table(title: str, names: Sequence[str]) -> Table:
    """Returns a table of pretrained models, with published figures of the same class of model."""
    known = {key: metric for key, metric in all_metrics().items() if metric.listed}
    literature = {
        name: found
        for name in names
        if (found := published_metrics(name)) is not None and found.metrics.keys() & {"bound", "log_evidence"}
    }
    bounds = any("bound" in each.metrics for each in literature.values())
    beside = [*(["published bound"] if bounds else []), "published (K)", "to published", "source"] if literature else []
    rows: Rows = []
    for name in names:
        facts, metrics, found = read_index()[name], metrics_of(name), literature.get(name)
        measured = [metric.in_table(key, metrics) for key, metric in known.items()]
        texts = [""] * 4
        if found is not None:
            texts = [found.value("bound"), found.value("log_evidence"), found.verdict(metrics), found.origin]
        texts = texts[4 - len(beside) :]
        size = f"{weights_size(name) / 1e6:.1f} MB"
        rows.append((name, str(facts["variant"]), str(metrics["data"]), *measured, *texts, size))
    figures = [metric.heading for metric in known.values()]
    return Table(
        headings=("model", "variant", "data", *figures, *beside, "size"),
        rows=rows,
        title=title,
        notes=[MISSING] if any("–" in row[3:5] for row in rows) else [],
        figures=[*figures, *beside[:-2], "size", "variant", "data"],
        optional=(
            "source", "to published", "size", "variant", "data", "parameters", "active", "PSNR", "published bound",
            "published (K)",
        ),
    )  # fmt: skip


def weights_size(name: str) -> int:
    """Returns the bytes of the weights of a pretrained model."""
    files = cast(Mapping[str, Mapping[str, int]], read_index()[name]["files"])
    return sum(known["size"] for file, known in files.items() if file.endswith(".safetensors"))


def model_records(selection: Selection | str = "*") -> list[Record]:
    """Returns plain values of the pretrained models."""
    found: list[Record] = []
    for name in selected(selection):
        facts, published = read_index()[name], published_metrics(name)
        literature = {} if published is None else {"published": {**published.metrics, **published.facts}}
        found.append(
            {"name": name, "variant": facts["variant"], "bytes": weights_size(name), **metrics_of(name), **literature}
        )
    return found


def variants(pattern: str = "*") -> list[Table]:
    """Returns a table of the registered variants: name, one sentence, pretrained models."""
    rows = [
        (entry.name, plain(summary_of(entry)), ", ".join(weights_of(entry.name)) or "–")
        for entry in variant_entries(pattern)
    ]
    rows += [(name, f"broken: {reason}", "–") for name, reason in broken_variants(pattern).items()]
    return [Table(headings=("variant", "what it does", "weights"), rows=rows)]


def variant_records(pattern: str = "*") -> list[Record]:
    """Returns plain values of the registered variants."""
    found: list[Record] = [
        {
            "name": entry.name,
            "summary": plain(summary_of(entry)),
            "changes": list(entry.changes),
            "rate": entry.rate,
            "options": {option.name: option.default for option in entry.options.values()},
            "paper": entry.paper,
            "year": entry.year,
            "url": entry.url,
            "weights": weights_of(entry.name),
        }
        for entry in variant_entries(pattern)
    ]
    return [*found, *({"name": name, "broken": reason} for name, reason in broken_variants(pattern).items())]


def summary_of(entry: "Variant") -> str:
    """Returns the first line of a variant's docstring."""
    return (inspect.getdoc(entry.builder) or "").partition("\n")[0]


def weights_of(variant: str) -> list[str]:
    """Returns the names of the pretrained models of a variant, or of compositions with it."""
    return sorted(name for name, facts in read_index().items() if variant in str(facts["variant"]).split("+"))


def variants_table() -> str:
    """Returns the table of variants in docs/reference/variants.md, with links to options and papers."""
    rows: Rows = []
    for entry in variant_entries():
        paper = f"{entry.paper} ({entry.year})"
        name = f"[{entry.name}](#{entry.name})" if entry.options else entry.name
        source = f"[{paper}]({entry.url})" if entry.url else paper
        changes, weights = (", ".join(each) or "–" for each in (entry.changes, weights_of(entry.name)))
        rows.append((name, changes, entry.rate, summary_of(entry), source, weights))
    return markdown(("variant", "changes", "rate", "what it does", "paper", "weights"), rows)


def options_list() -> str:
    """Returns the options of each variant as Markdown lists, each with its default and its description."""
    parts = []
    for entry in variant_entries():
        texts = option_texts(entry.builder)
        lines = [f"- `{each.name} = {each.default!r}`: {texts.get(each.name, '')}" for each in entry.options.values()]
        parts += [f"### {entry.name}\n\n" + "\n".join(lines)] if lines else []
    return "\n\n".join(parts)


def variant_entries(pattern: str = "*") -> "list[Variant]":
    """Returns the registered variants whose names match a shell pattern and that can be loaded."""
    from vaezoo.registry import variants as registry

    return [*registry.available(pattern)[0].values()]


def broken_variants(pattern: str = "*") -> dict[str, str]:
    """Returns the reason for each variant of a plug-in that cannot be loaded."""
    from vaezoo.registry import variants as registry

    return registry.available(pattern)[1]


def recipes(pattern: str = "*") -> list[Table]:
    """Returns a table of the recipes."""
    keys = ("name", "variant", "data", "summary")
    rows = [
        (*(str(record[key]) for key in keys), "" if record["pretrained"] else "no weights yet")
        for record in recipe_records(pattern)
    ]
    headings = ("recipe", "variant", "data", "what it is", "weights")
    return [Table(headings=headings, rows=rows, optional=("data", "variant"))]


def recipe_records(pattern: str = "*") -> list[Record]:
    """Returns plain values of the recipes."""
    found: list[Record] = []
    for name, path in sorted(list_recipes().items()):
        if fnmatch.fnmatchcase(name, pattern):
            text = path.read_text(encoding="utf-8")
            table = tomllib.loads(text)
            first = text.splitlines()[0].removeprefix("#").strip()
            facts = {"variant": table["variant"], "data": table["data"]["name"], "summary": first}
            found.append({"name": name, **facts, "pretrained": name in read_index()})
    return found


TABLES: dict[str, Callable[[str], list[Table]]] = {
    "models": models,
    "variants": variants,
    "recipes": recipes,
    **{kind: partial(block_tables, kind) for kind in KINDS},
}
RECORDS: dict[str, Callable[[str], list[Record]]] = {
    "models": model_records,
    "variants": variant_records,
    "recipes": recipe_records,
    **{kind: partial(block_records, kind) for kind in KINDS},
}


def describe(name: str) -> str:
    """Returns a description of a pretrained model, a recipe, a run, or any registered name.

    Raises:
        UnknownNameError: none of these.
        RegistryCollisionError: several packages register the name.
    """
    known = list_recipes()
    if name in read_index():
        facts = read_index()[name]
        place = f", hf:{facts['repository']}@{facts['commit']}" if "repository" in facts else ""
        figures = figures_table(cast(Mapping[str, object], facts["metrics"]))
        recipe = f"Its recipe:\n\n{known[name].read_text(encoding='utf-8')}" if name in known else ""
        shape = architecture_text(cast(Mapping[str, object], facts["architecture"]))
        text = f"{name}: a pretrained {facts['variant']}{place}\n{shape}\n\n{figures}\n\n{recipe}"
        return text.rstrip()
    if name in known:
        return known[name].read_text(encoding="utf-8")
    if "/" in name and ((Path(name) / "config.json").is_file() or (Path(name) / "recipe.json").is_file()):
        from vaezoo.workflows.run_folder import describe_folder

        return describe_folder(Path(name))
    from vaezoo.registry import variants as registry

    if name in registry.names():
        entry = registry.get(name)
        options = "\n".join(map(option_line, entry.options.values()))
        paper = ", ".join(filter(None, (entry.paper, str(entry.year or ""))))
        source = "; ".join(filter(None, (paper, entry.url)))  # a variant of one's own may have none
        head = f"{name} ({source})" if source else name
        return f"{head}\n\n{plain(reflowed(inspect.getdoc(entry.builder) or ''))}\n\nOptions:\n{options or '  none'}"
    if kinds := kinds_of(name):
        return "\n\n".join(describe_block(kind, name) for kind in kinds)
    names = [*read_index(), *known, *registry.names(), *block_names()]
    hint = "`vaezoo list`, with an option such as --variants, lists all; the folder of a run needs a slash (./mine)."
    raise UnknownNameError("model, recipe, variant or building block", name, names, hint)


def record_of(name: str) -> Record:
    """Returns what `describe` describes as plain values; a folder has its config, recipe and metrics.

    Raises:
        UnknownNameError, RegistryCollisionError: as `describe`.
    """
    describe(name)
    if "/" in name:
        files = {key: Path(name) / f"{key}.json" for key in ("config", "recipe", "metrics")}
        found = {
            key: parse_json(read_bytes(path, LARGEST_JSON), path.name) for key, path in files.items() if path.is_file()
        }
        return {"name": name, **found}
    kinds = (kind for kind, records in RECORDS.items() if any(each["name"] == name for each in records(name)))
    kind = next(kinds)
    return {"kind": kind, **next(each for each in RECORDS[kind](name) if each["name"] == name)}


def refresh(text: str) -> str:
    """Returns a page with the text between `<!-- NAME -->` and `<!-- end -->` replaced by the table of that name."""
    tables: dict[str, Callable[[], str]] = {
        "models": lambda: "\n\n".join(table.markdown() for table in models()),
        "variants": variants_table,
        "options": options_list,
        "recipes": lambda: recipes()[0].markdown(),
        **{kind: partial(block_sections, kind) for kind in KINDS},
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
