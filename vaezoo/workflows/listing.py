"""What `vaezoo list` and `show` print, and the tables of the README (`python -m vaezoo.zoo.tables README.md`)."""

from __future__ import annotations

import fnmatch
import inspect
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from vaezoo.errors import UnknownNameError
from vaezoo.recipe import list_recipes
from vaezoo.storage.model_card import estimate_text, figures_table
from vaezoo.zoo.index import list_models, read_index

__all__ = ["describe", "markdown", "models", "recipes", "refresh", "variants"]

WEIGHTS = ".safetensors"
Rows = list[tuple[str, ...]]

#: figures of the same class in the literature, nats, on all test images
PUBLISHED = {
    "vae-mnist": "-86.76 (Burda et al., 2016)",
    "iwae-mnist": "-84.78 (Burda et al., 2016)",
    "cvae-mnist": "-82.32 (label prior)",
    "conv-vae-mnist": "-81.08 (ResNet; Kingma et al., 2016)",
    "ladder-vae-mnist": "-81.74 (Sønderby et al., 2016)",
    "top-down-vae-mnist": "-78.01 (NVAE; Vahdat & Kautz, 2020)",
    "two-layer-vae-mnist": "-85.33 (Burda et al., 2016)",
    "vae-fashion-mnist": "-228.70 (gated; Norouzi et al., 2020)",
    "vamp-vae-fashion-mnist": "-227.35 (gated; Norouzi et al., 2020)",
    "vamp-vae-mnist": "-82.43 (gated; Norouzi et al., 2020)",
}


MODEL_HEADINGS = (
    "model", "variant", "data", "bound", "log-evidence (K)", "published", "PSNR", "active", "parameters", "size"
)  # fmt: skip


def models(pattern: str = "*") -> tuple[tuple[str, ...], Rows]:
    """Returns headings and rows of the pretrained models, from the index alone."""
    rows: Rows = []
    for name in list_models(pattern):
        facts = read_index()[name]
        metrics = cast(Mapping[str, object], facts["metrics"])
        files = cast(Mapping[str, Mapping[str, int]], facts["files"])
        evidence = estimate_text(metrics["log_evidence"])
        active, codes = metrics["active_units"], cast(float, metrics["perplexity"] or 0.0)
        rows.append(
            (
                name,
                str(facts["variant"]),
                f"{metrics['data']}, {'binarized' if metrics['binarization'] != 'none' else 'grey'}",
                estimate_text(metrics["bound"]),
                evidence if evidence == "–" else f"{evidence} ({metrics['samples']})",
                PUBLISHED.get(name, ""),
                f"{cast(float, metrics['psnr']):.1f}",
                f"{codes:.0f} codes" if active is None else f"{active}/{metrics['latents']}",
                f"{cast(int, metrics['parameters']):,}",
                f"{sum(known['size'] for file, known in files.items() if file.endswith(WEIGHTS)) / 1e6:.1f} MB",
            )
        )
    return MODEL_HEADINGS, rows


def variants(pattern: str = "*", *, links: bool = False) -> tuple[tuple[str, ...], Rows]:
    """Returns headings and rows of the registered variants; `links` makes Markdown links of the papers."""
    from vaezoo.registry import variants as registry

    trained: dict[str, list[str]] = {}
    for model, facts in sorted(read_index().items()):
        for part in str(facts["variant"]).split("+"):
            trained.setdefault(part, []).append(model)
    rows: Rows = []
    for name in registry.names():
        if not fnmatch.fnmatchcase(name, pattern):
            continue
        entry = registry.get(name)
        options = ", ".join(f"{option.name} = {option.default}" for option in entry.options.values()) or "–"
        source = f"{entry.paper} ({entry.year})"
        rows.append(
            (
                name,
                ", ".join(entry.changes) or "–",
                entry.rate,
                summary(entry.builder),
                options,
                f"[{source}]({entry.url})" if links and entry.url else source,
                ", ".join(trained.get(name, ())) or "–",
            )
        )
    return ("variant", "changes", "rate", "what it does", "options", "paper", "weights"), rows


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


def summary(function: object) -> str:
    """Returns the first sentence of a docstring, dollar signs kept."""
    return (inspect.getdoc(function) or "").splitlines()[0]


def describe(name: str) -> str:
    """Returns what is known of a pretrained model, a variant or a recipe, as text.

    Raises:
        UnknownNameError: it is none of them; with the closest names.
    """
    if name in read_index():
        facts = read_index()[name]
        place = f", hf:{facts['repository']}@{facts['commit']}" if "repository" in facts else ""
        return f"{name}: a pretrained {facts['variant']}{place}\n{facts['architecture']}\n\n" + figures_table(
            cast(Mapping[str, object], facts["metrics"])
        )
    known = list_recipes()
    if name in known:
        return known[name].read_text(encoding="utf-8")
    from vaezoo.registry import variants as registry

    if name in registry.names():
        entry = registry.get(name)
        options = "\n".join(f"  {option.name} = {option.default!r}" for option in entry.options.values())
        head = f"{name} ({entry.paper}, {entry.year}; {entry.url})"
        return f"{head}\n\n{inspect.getdoc(entry.builder)}\n\nOptions:\n{options or '  none'}"
    raise UnknownNameError("model, variant or recipe", name, [*read_index(), *known, *registry.names()])


def markdown(headings: Sequence[str], rows: Rows) -> str:
    """Returns a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def refresh(text: str) -> str:
    """Returns a page with what stands between `<!-- NAME -->` and `<!-- end -->` replaced by the table of that name."""
    for name, (headings, rows) in (("models", models()), ("variants", variants(links=True)), ("recipes", recipes())):
        block = f"<!-- {name} -->\n{markdown(headings, rows)}\n<!-- end -->"
        start, marker, rest = text.partition(f"<!-- {name} -->\n")
        if marker:
            text = start + block + rest.partition("<!-- end -->")[2]
    return text


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        page = Path(argument)
        page.write_text(refresh(page.read_text(encoding="utf-8")), encoding="utf-8")
