"""The documentation site: a page for each variant and model, whose figures are the measured ones; it builds."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

import vaezoo
from vaezoo.registry import variants
from vaezoo.registry.docstrings import BIBLIOGRAPHY, bibliography, references_of
from vaezoo.workflows import site
from vaezoo.zoo.index import PACKAGE_FOLDER, bundled_models, list_models, read_index

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = {  # of metrics.json, for the titles and headings of the pages
    "bound": "bound",
    "distortion": "distortion",
    "rate": "rate",
    "rate of each level": "level_rates",
    "log-evidence": "log_evidence",
    "PSNR": "psnr",
    "mean PSNR of the images": "mean_psnr",
    "SSIM": "ssim",
    "perceptual distance": "perceptual_distance",
    "bits per dimension": "bits_per_dimension",
    "active units": "active_units",
    "parameters": "parameters",
    "effective samples": "effective_samples",
    "perplexity of the codes": "perplexity",
    "codes": "codes",
    "codes in use": "used_codes",
    "effective dimension of the codes in use": "code_dimension",
    "quantization error": "quantization_error",
    "numbers in codebooks": "codebook_numbers",
    "wrong labels": "label_error",
    "clustering accuracy": "clustering_accuracy",
}
OTHER_KEYS = {"bits/dim": "bits_per_dimension", "active latents": "active_units", "active": "active_units"}
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
FIGURES_OF_README = [  # (model, key, text before the figure, unit)
    ("conv-iaf-flow-mnist", "log_evidence", "(log p(x) ≥ ", 1.0),
    ("flow-prior-vae-mnist", "log_evidence", "(", 1.0),
    ("vade-mnist", "clustering_accuracy", ": ", 0.01),
    ("m2-vae-mnist", "label_error", ": ", 0.01),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Returns path -> text of all generated pages, made without pictures."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "write_pictures", lambda name, target: None)
        written = site.write_pages(folder)
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in written}


def metrics_of(name: str) -> Mapping[str, object]:
    """Returns the measured figures: the file beside the weights; of a model on the Hub those of the index."""
    file = PACKAGE_FOLDER / name / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else read_index()[name]["metrics"]


def numbers(text: str) -> list[tuple[float, float]]:
    """Returns (value, half a unit of its last digit) of each number in a text."""
    found = [each.replace(",", "") for each in NUMBER.findall(text)]
    return [(float(each), 0.5001 * 10.0 ** -len(each.partition(".")[2])) for each in found]


def check_figure(title: str, text: str, metrics: Mapping[str, object]) -> None:
    """Raises AssertionError unless a text is the rounded value of the metric with this title."""
    name, _, samples = title.partition(" (K = ")
    value = metrics[KEYS[name.partition(",")[0].partition(" (of K")[0]]]
    if samples:
        assert int(samples.partition(")")[0].replace(",", "")) == metrics["samples"], (title, text)
    several = isinstance(value, list)
    expected = value if several else [value["mean"], value["error"]] if isinstance(value, Mapping) else [value]
    if expected[0] is None:
        assert text == "–", (title, text)
        return
    scale = 100.0 if "%" in text else 1.0
    shown = numbers(text)
    assert len(shown) == len(expected), (title, text)
    assert all(abs(number - scale * each) <= step for (number, step), each in zip(shown, expected, strict=True)), text


def check_model_page(page: str, metrics: Mapping[str, object]) -> int:
    """Raises AssertionError if the table of figures differs from the metrics; returns the number of its rows."""
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \|$", page.partition("## Figures\n")[2].partition("\n## ")[0], re.MULTILINE
    )
    for title, text in rows[2:]:
        check_figure(title, text, metrics)
    return len(rows[2:])


def table_rows(page: str, first: str) -> list[dict[str, str]]:
    """Returns the rows of the table whose first heading is given, as heading -> cell."""
    table = page.partition(f"| {first} |")[2].partition("\n\n")[0]
    headings, _, *rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
        for line in f"| {first} |{table}".splitlines()
    ]
    return [dict(zip(headings, row, strict=True)) for row in rows]


def check_row(row: Mapping[str, str]) -> None:
    """Raises AssertionError if a row of a table of pretrained models differs from the metrics of its model."""
    metrics = metrics_of(row["model"])
    evidence, _, samples = row["log-evidence (K)"].partition(" (")
    check_figure(f"log-evidence (K = {samples}" if samples else "log-evidence", evidence, metrics)
    for heading in ("bound", "PSNR", "parameters"):
        check_figure(heading, row[heading], metrics)


def test_every_variant_and_every_pretrained_model_has_a_page(pages):
    expected = {f"variants/{name}.md" for name in variants.names()} | {f"models/{name}.md" for name in list_models()}
    assert set(pages) == expected
    assert all(text.startswith(f"# {Path(path).stem}\n") for path, text in pages.items())


def test_pages_of_names_that_no_longer_exist_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "write_pictures", lambda name, folder: None)
    old = tmp_path / "models" / "of-an-earlier-build.md"
    old.parent.mkdir()
    old.write_text("# of-an-earlier-build\n")
    site.write_pages(tmp_path)
    assert not old.exists()


def test_figures_of_model_pages_are_those_of_metrics_json(pages):
    for name in list_models():
        assert check_model_page(pages[f"models/{name}.md"], metrics_of(name)) >= 5, name


def stated(page: Path) -> Iterator[tuple[str, str, str]]:
    """Yields (model, heading, cell) of the tables of a written page whose first column has pretrained models."""
    text = page.read_text(encoding="utf-8")
    for place in re.finditer(r"^\| model \|", text, re.MULTILINE):
        for row in table_rows(text[place.start() :], "model"):
            name = re.match(r"`([\w-]+)`", row["model"])
            if name and name[1] in list_models():
                yield from ((name[1], heading, cell) for heading, cell in row.items() if cell)


def check_stated(name: str, heading: str, cell: str) -> bool:
    """Raises AssertionError if a cell differs from the metrics; returns False for a figure that is not among them."""
    title = re.split(r",| \(", heading)[0]
    key = (KEYS | OTHER_KEYS).get(title)
    if key is None:
        return False
    metrics = metrics_of(name)
    value = metrics.get(key)
    expected = value["mean"] if isinstance(value, Mapping) else value
    samples = re.search(r"\((?:K = )?(\d+)\)", f"{heading} {cell}")
    assert samples is None or int(samples[1]) == metrics["samples"], (name, heading, cell)
    if expected is None:
        assert cell == "–", (name, heading, cell)
    else:
        (number, step), *_ = numbers(cell.replace("−", "-"))
        assert abs(number - expected) <= step, (name, heading, cell, expected)
    return True


def test_tables_of_written_pages_have_the_measured_figures():
    other = ROOT / "docs" / "explanation" / "benchmarks.md"  # has measurements on fewer images
    generated = {ROOT / "docs" / "reference" / each for each in ("variants", "models", "models.md")}
    written = [path for path in (ROOT / "docs").rglob("*.md") if not {path, *path.parents} & {other, *generated}]
    cells = [cell for page in written for cell in stated(page)]
    assert sum(check_stated(*cell) for cell in cells) > 50


def test_figures_of_the_readme_are_the_measured_ones():
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("−", "-")
    for name, key, before, unit in FIGURES_OF_README:
        (shown,) = re.findall(re.escape(f"`{name}`{' ' * (before[0] == '(')}{before}") + r"(-?[\d.]+)", text)
        value = metrics_of(name)[key]
        expected = value["mean"] if isinstance(value, Mapping) else value
        ((number, step),) = numbers(shown)
        assert abs(number * unit - expected) <= step * unit, (name, shown, expected)


def test_a_page_with_another_figure_than_its_metrics_is_found(pages):
    page = pages["models/vae-mnist.md"]
    (bound,) = re.findall(r"^\| bound, nats \| (\S+)", page, re.MULTILINE)
    with pytest.raises(AssertionError):
        check_model_page(page.replace(bound, f"{float(bound) + 0.02:.2f}"), metrics_of("vae-mnist"))
    assert check_stated("vae-mnist", "bound", f"−{bound[1:]}")
    for wrong in (f"−{abs(float(bound)) + 0.02:.2f}", f"−{bound[1:]} (999)"):
        with pytest.raises(AssertionError):
            check_stated("vae-mnist", "bound", wrong)


def test_every_pretrained_model_has_pictures_on_its_page_and_they_are_written(pages, tmp_path, monkeypatch):
    monkeypatch.setattr("vaezoo.workflows.load.load", lambda name: SimpleNamespace(context=0))
    monkeypatch.setattr("vaezoo.workflows.draw.some_images", lambda *given: ([None], None))
    monkeypatch.setattr("vaezoo.pictures.samples", lambda model, count, path, c: path.touch())
    monkeypatch.setattr("vaezoo.pictures.reconstructions", lambda model, x, path, c: path.touch())
    monkeypatch.setattr("vaezoo.pictures.traversal", lambda model, x, path: path.touch())
    for name in list_models():
        (tmp_path / name).mkdir()
        site.write_pictures(name, tmp_path / name)
        written = {path.name for path in (tmp_path / name).iterdir()}
        shown = re.findall(r"!\[[^\]]+\]\(pictures/([\w.-]+)\)", pages[f"models/{name}.md"])
        assert f"{name}-samples.png" in shown and set(shown) == written, name
        assert not name.endswith("dsprites") or f"{name}-traversal.png" in shown


def test_tables_of_variant_pages_and_of_the_home_page_have_the_measured_figures(pages):
    shown = set()
    for name in variants.names():
        page = pages[f"variants/{name}.md"].partition("## Pretrained models\n")[2]
        for row in table_rows(page, "model") if "| model |" in page else []:
            check_row(row)
            shown.add(row["model"])
    assert shown == set(list_models())
    home = table_rows(site.highlights(), "model")
    assert len(home) == site.LISTED
    for row in home:
        check_row(row)
    bounds = [metrics_of(row["model"])["bound"]["mean"] for row in home]
    assert bounds == sorted(bounds, reverse=True)


@pytest.mark.parametrize("name", variants.names())
def test_page_of_a_variant_has_equation_use_options_and_references(name, pages):
    page, entry = pages[f"variants/{name}.md"], variants.get(name)
    assert page.count("$$") >= 2
    assert re.search(r"## When to use it\n\nUse\s+it ", page), name
    rows = table_rows(page, "option") if entry.options else []
    assert [row["option"].strip("`") for row in rows] == [*entry.options]
    assert all(row["values"] and row["meaning"] for row in rows)
    assert "## See also" in page
    assert entry.url in page
    assert page.count("```bibtex\n") == len(references_of(inspect.getdoc(entry.builder)))


def test_code_of_variant_pages_runs(pages):
    for name in variants.names():
        (code,) = re.findall(r"^```python\n(.*?)^```$", pages[f"variants/{name}.md"], re.DOTALL | re.MULTILINE)
        space: dict[str, object] = {}
        exec(code, space)
        assert name in space["model"].config["variant"].split("+")


def test_references_have_a_bibtex_entry_of_the_same_author_and_year():
    known, used = bibliography(), set()
    keys = re.findall(r"^@\w+\{(\w+),", BIBLIOGRAPHY.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(keys) == len(set(keys)) == len(known)
    for name in variants.names():
        for _, paper, address in references_of(inspect.getdoc(variants.get(name).builder)):
            entry = known[address]
            year = paper.partition("(")[2].rstrip(")")
            assert f"year = {{{year}}}" in entry, (paper, entry)
            first = re.sub(r"\{.*?\}", "", re.findall(r"author = \{([^,]+),", entry)[0])  # without accented letters
            given = re.split(r" et al\.| &| \(", paper)[0]
            assert first == re.sub(r"[^ -~]", "", given), (first, given)
            used.add(address)
    assert used == set(known)


def test_pictures_of_a_conditional_model_are_written_once(tmp_path):
    site.write_pictures("cvae-mnist", tmp_path)
    files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(files) == {"cvae-mnist-samples.png", "cvae-mnist-reconstructions.png"}
    site.write_pictures("cvae-mnist", tmp_path)
    assert files == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_a_model_on_the_hub_has_a_page_from_the_index(monkeypatch):
    facts = {**read_index()["beta-vae-mnist"], "repository": "owner/beta-vae-mnist", "commit": "0" * 40}
    monkeypatch.setattr(site, "read_index", lambda: {"beta-vae-mnist": facts})
    monkeypatch.setattr(site, "bundled_models", lambda: [])
    page = site.model_page("beta-vae-mnist")
    assert check_model_page(page, metrics_of("beta-vae-mnist")) >= 5
    assert f"https://huggingface.co/owner/beta-vae-mnist/tree/{'0' * 40}" in page
    assert ".png" not in page


def test_every_public_name_is_in_the_reference_of_the_package():
    page = (ROOT / "docs" / "reference" / "api" / "vaezoo.rst").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto(?:function|class):: vaezoo\.(\w+)$", page, re.MULTILINE)
    assert sorted([*listed, "VaezooError"]) == sorted(set(vaezoo.__all__) | {"VaezooError"})


@pytest.mark.full
def test_site_builds_without_a_warning_and_is_searchable(tmp_path):
    pytest.importorskip("sphinx", reason="needs `pip install -e .[docs]`, which `make test-all` does")
    source, target = tmp_path / "docs", tmp_path / "site"
    shutil.copytree(ROOT / "docs", source, ignore=shutil.ignore_patterns("__pycache__", "variants", "models"))
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", str(source), str(target)]
    paths = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0 and "WARNING:" not in done.stderr, done.stderr
    for name in variants.names():
        assert (target / "reference" / "variants" / f"{name}.html").is_file(), name
    for name in bundled_models():
        page = (target / "reference" / "models" / f"{name}.html").read_text(encoding="utf-8")
        assert re.search(rf"{name}-samples\d*\.png", page), name  # numbered if a page shows a file of the same name
    assert '<mrow class="overline">' in (target / "reference" / "variants" / "geco-vae.html").read_text(
        encoding="utf-8"
    )
    index = json.loads((target / "searchindex.js").read_text(encoding="utf-8").removeprefix("Search.setIndex(")[:-1])
    titles = [title.lower() for title in index["alltitles"]]
    assert any("posterior collapse" in title for title in titles)
    page = index["docnames"].index("guides/posterior-collapse")
    for term in ("posterior", "collaps"):  # stems
        places = [index[kind].get(term, []) for kind in ("titleterms", "terms")]  # each a page, or a list of pages
        assert any(page in each if isinstance(each, list) else page == each for each in places), term
    quickstart = (target / "tutorials" / "quickstart.html").read_text(encoding="utf-8")
    assert "Tensor of shape (16, 1, 28, 28)" in quickstart and quickstart.count("<img") >= 3
