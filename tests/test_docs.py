"""README and docs: code runs, recipes are valid, commands exist, tables are current, links have targets."""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote

import msgspec
import pytest

from vaezoo.cli import app
from vaezoo.recipe import ArchitectureTable, DataTable, Recipe, Stage, find_recipe, read_recipe
from vaezoo.registry import variants
from vaezoo.workflows.building_blocks import KINDS, option_texts, options, registry_of, summary
from vaezoo.workflows.listing import refresh

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
GENERATED = [
    DOCS / "reference" / each for each in ("variants", "models", "commands.md")
]  # by `make docs`, ignored by git
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if not {page, *page.parents} & {*GENERATED}),
]
SHELL = ("sh", "console", "bash", "shell")

# Runs the Python blocks of each page in order, in a namespace and an empty folder of their own. All pages share a
# process, so that torch is imported once; line numbers in tracebacks are those of the page.
RUNNER = r"""
import json, os, sys
for job in json.load(sys.stdin):
    os.makedirs(job["folder"])
    os.chdir(job["folder"])
    space = {"__name__": "__main__"}
    for line, code in job["blocks"]:
        exec(compile("\n" * line + code, job["page"], "exec"), space)
"""


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """Returns (line above, text) of a page's fenced blocks in one of these languages."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(text[: match.start()].count("\n") + 1, match[2]) for match in found if match[1] in languages]


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def label(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def in_blocks(*languages: str) -> list[tuple[str, str]]:
    """Returns (page:line, text) of the blocks of all pages in one of these languages."""
    return [(f"{label(page)}:{line}", text) for page in PAGES for line, text in blocks(page, *languages)]


def run(code: str, folder: Path, **options: object) -> str:
    """Runs code in a new interpreter, which finds vaezoo and packages in `folder`; returns its output."""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=paths, capture_output=True, text=True, timeout=280, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "pages", [pytest.param(PAGES[:1], id="README"), pytest.param(PAGES[1:], id="docs", marks=pytest.mark.full)]
)
def test_python_blocks_run(pages: list[Path], tmp_path: Path):
    jobs = [
        {"page": label(page), "folder": str(tmp_path / str(number)), "blocks": blocks(page, "python")}
        for number, page in enumerate(pages)
    ]
    run(RUNNER, tmp_path, input=json.dumps(jobs))


def test_every_block_has_a_known_language():
    known = {"python", "toml", "text", "json", *SHELL}
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) % 2 == 0, page
        assert set(fences[::2]) <= known and set(fences[1::2]) <= {""}, (page, set(fences[::2]) - known)


def test_recipes_are_valid_and_the_tutorial_shows_that_of_the_package():
    for _, text in in_blocks("toml"):
        tables = tomllib.loads(text)
        if "variant" in tables:
            read_recipe(tables)
    (shown,) = [text for _, text in blocks(DOCS / "tutorials" / "tutorial.md", "toml")]
    assert tomllib.loads(shown) == tomllib.loads(find_recipe("tutorial-vae-mnist").read_text(encoding="utf-8"))


def test_commands_and_make_targets_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for place, text in in_blocks(*SHELL):
        assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= targets, place
        lines = text.replace("\\\n", " ").splitlines()
        for program, *words in filter(None, (shlex.split(line.removeprefix("$ "), comments=True) for line in lines)):
            if program != "vaezoo":
                continue
            command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
            assert command.__module__.startswith("vaezoo.cli."), (place, words)
            if command.__name__ == "train":
                settings = bound.arguments.get("overrides", ())
                assert all("=" in each for each in settings), (place, words)
                named = [f"data.name={json.dumps(each)}" for each in [bound.arguments.get("data")] if each]
                if not bound.arguments["recipe"].startswith(("my", "./")):
                    read_recipe(bound.arguments["recipe"], [*settings, *named])


@pytest.mark.parametrize("name", ["models", "variants", "recipes-list", "building-blocks"])
def test_tables_are_current(name: str):
    page = DOCS / "reference" / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    assert "<!-- end -->" in text and refresh(text) == text, f"Run: python -m vaezoo.workflows.listing {label(page)}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_of_a_building_block_is_described(kind: str):
    for name, entry in registry_of(kind).available()[0].items():
        texts = option_texts(entry)
        assert summary(entry), name
        assert all(texts.get(option) for option in options(entry)), (name, [*options(entry)], texts)


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_have_targets_and_every_picture_is_shown_with_a_text_for_those_who_do_not_see_it():
    for page in PAGES:
        assert not re.search(r"!\[\s*\]|<img (?![^>]*alt=\"\w)", without_blocks(page)), label(page)
        for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
            if not re.match(r"[a-z]+:", target):
                path, _, anchor = unquote(target).partition("#")
                file = (page.parent / path).resolve() if path else page
                assert file.exists() and (not anchor or anchor in anchors(file)), f"{label(page)}: {target}"
    shown = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in (DOCS / "pictures").iterdir():
        assert f"pictures/{picture.name})" in shown, picture.name


@pytest.mark.parametrize(
    ("heading", "struct"),
    {
        "Top level": Recipe,
        "`[architecture]`": ArchitectureTable,
        "`[data]`": DataTable,
        "`[train]` and `[[stage]]`": Stage,
    }.items(),
)
def test_every_key_of_a_recipe_is_documented(heading: str, struct: type[msgspec.Struct]):
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    page = (DOCS / "reference" / "recipes.md").read_text(encoding="utf-8")
    section = page.partition(f"### {heading}\n")[2].partition("\n#")[0]
    given = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))
    assert set(given) == set(fields) - ({"name", "stages"} if struct is Recipe else set())
    for key, text in given.items():
        field = fields[key]
        assert field.required == (text == "required"), key
        if not field.required:
            factory = field.default_factory
            default = field.default if factory is msgspec.NODEFAULT else factory()
            if isinstance(default, msgspec.Struct) and default == type(default)():
                default = {}
            expected = None if text == "–" else tomllib.loads(f"value = {text.strip('`')}")["value"]
            assert expected == (list(default) if isinstance(default, tuple) else default), key


def test_every_variant_has_a_test_of_its_mathematics():
    text = (DOCS / "explanation" / "correctness.md").read_text(encoding="utf-8").partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert all(len(line) == 5 and line[3] for line in lines)
    assert sorted(line[1] for line in lines) == variants.names()
    assert [line[:2] for line in lines] == sorted(line[:2] for line in lines)
    for _, name, test, *_ in lines:
        file, _, function = test.partition("::")
        code = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"\ndef {function}(" in code, name


def test_example_of_adding_a_variant_works_as_an_installed_package(tmp_path: Path):
    page = DOCS / "guides" / "adding-a-variant.md"
    (code,) = [text for _, text in blocks(page, "python") if text.startswith("# my_package/")]
    (table,) = [text for _, text in blocks(page, "toml") if "entry-points" in text]
    points = tomllib.loads(table)["project"]["entry-points"]
    file = tmp_path / code.splitlines()[0].removeprefix("# ")
    file.parent.mkdir()
    file.write_text(code, encoding="utf-8")
    facts = tmp_path / "my_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    entries = [line for group, names in points.items() for line in (f"[{group}]", *map(" = ".join, names.items()))]
    (facts / "entry_points.txt").write_text("\n".join(entries))
    script = inspect.cleandoc(
        """
        import sys, vaezoo
        assert "my-geco" in vaezoo.list_variants() and "my_package" not in sys.modules
        model = vaezoo.create("conv-vae+my-geco", shape=(1, 8, 8), target=3.0)
        vaezoo.save(model, "runs/geco")
        print(vaezoo.load("runs/geco").config["options"])
        """
    )
    assert "'my-geco.target': 3.0" in run(script, tmp_path)
