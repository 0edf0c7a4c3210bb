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
from vaezoo.workflows.listing import refresh

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("sh", "console", "bash", "shell")

# Runs the Python blocks of each page in order, in a namespace and an empty folder of their own. All pages share a
# process, so that torch is imported once; line numbers in tracebacks are those of the page.
RUNNER = r"""
import json, os, sys, traceback
results = {}
for job in json.load(sys.stdin):
    os.makedirs(job["folder"])
    os.chdir(job["folder"])
    try:
        space = {"__name__": "__main__"}
        for line, code in job["blocks"]:
            exec(compile("\n" * line + code, job["page"], "exec"), space)
        results[job["page"]] = ""
    except BaseException:
        results[job["page"]] = traceback.format_exc()
with open(sys.argv[1], "w") as file:
    json.dump(results, file)
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


def environment(*folders: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*folders, ROOT]))}


def in_blocks(*languages: str) -> list[object]:
    """Returns a test case for each block in one of these languages."""
    return [pytest.param(text, id=f"{label(page)}:{line}") for page in PAGES for line, text in blocks(page, *languages)]


@pytest.mark.parametrize(
    "pages", [pytest.param(PAGES[:1], id="README"), pytest.param(PAGES[1:], id="docs", marks=pytest.mark.full)]
)
def test_python_blocks_run(pages: list[Path], tmp_path: Path) -> None:
    jobs = [
        {"page": label(page), "folder": str(tmp_path / str(number)), "blocks": blocks(page, "python")}
        for number, page in enumerate(pages)
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(tmp_path / "results.json")],
        input=json.dumps(jobs), capture_output=True, text=True, timeout=280, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: dict[str, str] = json.loads((tmp_path / "results.json").read_text())
    assert not any(results.values()), "\n".join(results.values())


def test_every_block_has_a_known_language() -> None:
    known = {"python", "toml", "text", "json", *SHELL}
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) % 2 == 0, page
        assert set(fences[::2]) <= known and set(fences[1::2]) <= {""}, (page, set(fences[::2]) - known)


@pytest.mark.parametrize("text", in_blocks("toml"))
def test_recipes_are_valid(text: str) -> None:
    tables = tomllib.loads(text)
    if "variant" in tables:
        read_recipe(tables)


def test_tutorial_shows_the_recipe_of_the_package() -> None:
    (shown,) = [text for _, text in blocks(ROOT / "docs" / "tutorial.md", "toml")]
    assert tomllib.loads(shown) == tomllib.loads(find_recipe("tutorial-vae-mnist").read_text(encoding="utf-8"))


def commands(text: str) -> list[list[str]]:
    """Returns the arguments of each `vaezoo …` line of a shell block, without comments and prompts."""
    lines = [shlex.split(line.removeprefix("$ "), comments=True) for line in text.replace("\\\n", " ").splitlines()]
    return [words[1:] for words in lines if words and words[0] == "vaezoo"]


@pytest.mark.parametrize("text", [case for case in in_blocks(*SHELL) if commands(case.values[0])])  # type: ignore[attr-defined]
def test_commands_exist(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(text):
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert command.__module__.startswith("vaezoo.cli."), words
        if command.__name__ == "train":
            settings = bound.arguments.get("overrides", ())
            assert all("=" in each for each in settings), words
            if not bound.arguments["recipe"].startswith(("my", "./")):
                monkeypatch.chdir(ROOT)
                read_recipe(bound.arguments["recipe"], settings)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for _, text in blocks(page, *SHELL):
            assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= targets, page


@pytest.mark.parametrize("name", ["models", "variants", "recipes-list"])
def test_tables_are_current(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert "<!-- end -->" in text and refresh(text) == text, f"Run: python -m vaezoo.workflows.listing docs/{name}.md"


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_have_targets() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
            if not re.match(r"[a-z]+:", target):
                path, _, anchor = unquote(target).partition("#")
                file = (page.parent / path).resolve() if path else page
                assert file.exists() and (not anchor or anchor in anchors(file)), f"{label(page)}: {target}"


def test_every_picture_is_shown() -> None:
    shown = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in (ROOT / "docs" / "pictures").iterdir():
        assert f"pictures/{picture.name})" in shown, picture.name


# docs/recipes.md lists every key


def documented(heading: str) -> dict[str, str]:
    """Returns key -> default from a section of docs/recipes.md."""
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    section = text.partition(f"### {heading}\n")[2].partition("\n#")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "struct", "not_keys"),
    [
        ("Top level", Recipe, {"name", "stages"}),
        ("`[architecture]`", ArchitectureTable, set()),
        ("`[data]`", DataTable, set()),
        ("`[train]` and `[[stage]]`", Stage, set()),
    ],
)
def test_every_key_of_a_recipe_is_documented(heading: str, struct: type[msgspec.Struct], not_keys: set[str]) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(struct) if field.name not in not_keys}
    given = documented(heading)
    assert set(given) == set(fields)
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


# docs/correctness.md has a row for each variant


def test_every_variant_has_a_test_of_its_mathematics() -> None:
    text = (ROOT / "docs" / "correctness.md").read_text(encoding="utf-8").partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert all(len(line) == 5 and line[3] for line in lines)
    assert sorted(line[1] for line in lines) == variants.names()
    assert [line[:2] for line in lines] == sorted(line[:2] for line in lines)
    for _, name, test, *_ in lines:
        file, _, function = test.partition("::")
        code = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"\ndef {function}(" in code, name


# docs/adding-a-variant.md: the package of the example


def test_example_works_as_an_installed_package(tmp_path: Path) -> None:
    page = ROOT / "docs" / "adding-a-variant.md"
    (code,) = [text for _, text in blocks(page, "python") if text.startswith("# my_package/")]
    (points,) = [
        tomllib.loads(text)["project"]["entry-points"] for _, text in blocks(page, "toml") if "entry-points" in text
    ]
    file = tmp_path / code.splitlines()[0].removeprefix("# ")
    file.parent.mkdir()
    (file.parent / "__init__.py").write_text("")
    file.write_text(code, encoding="utf-8")
    facts = tmp_path / "my_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in own.items()) for group, own in points.items()
    ]
    (facts / "entry_points.txt").write_text("\n".join(lines))
    script = inspect.cleandoc(
        """
        import sys, vaezoo
        assert "my-geco" in vaezoo.list_variants() and "my_package" not in sys.modules
        model = vaezoo.create("conv-vae+my-geco", shape=(1, 8, 8), target=3.0)
        vaezoo.save(model, "runs/geco")
        print(vaezoo.load("runs/geco").config["options"])
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "'my-geco.target': 3.0" in done.stdout
