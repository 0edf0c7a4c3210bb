"""The package as a whole: its layers, dependencies, sizes, style, metadata and distributions."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vaezoo"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCUMENTS = ["README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"]
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
LAYERS = [
    set(re.findall(r"`(\w+)`", row))
    for row in re.findall(r"^\| \d+ \| ([^|]+) \|", ARCHITECTURE.partition("\n## One")[0], re.MULTILINE)
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Distributions whose import name is another; plug-ins of pytest are not imported.
IMPORTED_AS = {"pillow": "PIL", "scikit-learn": "sklearn", "pytest-timeout": "", "pytest-xdist": ""}
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# Idiom that docs/explanation/style.md excludes. A few honest uses of a word are possible.
IDIOM = re.compile(
    r"\b(told|hear[sd]?|heeds?|says whether|(is|are) confused with|rooms?|learnt|judg(e|es|ing)|public door)\b", re.I
)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of the imports of a file, those for type checkers alone excepted."""
    waiting: list[ast.AST] = [parsed(path)]
    while waiting:
        node = waiting.pop()
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        waiting += node.orelse if typing_only else ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{label(path)}:{node.lineno}: use an absolute import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def required(extra: str | None = None) -> set[str]:
    """Returns the import names of the declared dependencies, those without an extra by default."""
    lists = PROJECT["project"]
    lines = lists["dependencies"] if extra is None else lists["optional-dependencies"][extra]
    names = [re.split(r"[<>=!~\[ ;]", line)[0].lower() for line in lines]
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names} - {""}


def third_party(paths: list[Path]) -> set[str]:
    return {name.split(".")[0] for path in paths for _, name in imports(path)} - {*sys.stdlib_module_names, "vaezoo"}


def python(code: str, *arguments: str, **options: object) -> str:
    """Runs code in a new interpreter and returns its output."""
    command = [sys.executable, "-P", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)  # type: ignore[call-overload]  # by name
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


class TestLayers:
    def test_every_package_has_a_layer_in_the_table_and_in_the_drawing(self):
        assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES} == set(RANK)
        boxes = " ".join(re.findall(r"│(.*)│$", ARCHITECTURE, re.MULTILINE))
        drawn = [set(names.split()) for names in re.split(r"\d+ ", boxes)[:0:-1]]
        assert drawn == LAYERS

    def test_the_files_on_the_page_exist(self):
        names = set(re.findall(r"`([\w./-]+/[\w./-]*)`", ARCHITECTURE)) - {"checkpoints/"}
        names = {name.removeprefix("vaezoo/") for name in names if "NAME" not in name}
        missing = {name for name in names if not (PACKAGE / name).exists() and not (ROOT / name).exists()}
        assert len(names) > 60 and not missing

    def test_imports_go_to_lower_layers_only(self):
        wrong = []
        for path in SOURCES:
            own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
            for line, name in imports(path):
                parts = name.split(".")
                if parts[0] == "vaezoo" and parts[1] != own and RANK[parts[1]] >= RANK[own]:
                    wrong.append(f"{label(path)}:{line} imports {name}")
        assert not wrong

    def test_modules_import_each_other_without_cycles(self):
        dotted = {path: label(path).removesuffix(".py").replace("/", ".") for path in SOURCES}
        modules = {name.removesuffix(".__init__"): path for path, name in dotted.items()}
        waiting = {
            name: {
                found
                for _, target in imports(path)
                for found in (target, target.rpartition(".")[0])
                if found in modules and found != name and not name.startswith(f"{found}.")
            }
            for name, path in modules.items()
        }
        while free := [name for name, needs in waiting.items() if not needs & set(waiting)]:
            for name in free:
                del waiting[name]
        assert not waiting, f"a cycle among {sorted(waiting)}"

    def test_networks_import_nothing_of_autoencoders(self):
        known = {name for path in (PACKAGE / "networks").glob("*.py") for _, name in imports(path)}
        assert not {name for name in known if re.match(r"vaezoo\.(?!networks|errors|core\.full_precision)", name)}


class TestStyle:
    def test_the_package_its_files_and_functions_are_small(self):
        assert len({path.relative_to(PACKAGE).parts[0] for path in SOURCES}) <= 29
        long = []
        for path in SOURCES:
            most = 80 if path.parent.name == "variants" else 500
            lines = path.read_text(encoding="utf-8").count("\n")
            long += [f"{label(path)} has {lines} lines, more than {most}"] * (lines > most)
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    words = ast.get_docstring(node, clean=False)
                    size = (node.end_lineno or 0) - node.lineno + 1 - (words.count("\n") + 1 if words else 0)
                    long += [f"{label(path)}:{node.lineno} {node.name} has {size} lines, more than 40"] * (size > 40)
        assert not long

    def test_the_language_is_plain(self):
        pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
        found = [
            f"{label(path)}:{number}: {match[0]}"
            for path in [*SOURCES, *pages]
            if path.name != "style.md"  # the page with the examples
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            for match in IDIOM.finditer(line)
        ]
        assert not found, "\n".join(found)


class TestNoPickle:
    """Loading a model never runs code: nothing that unpickles, evaluates or executes is used anywhere."""

    def test_nothing_that_unpickles_is_imported_or_called(self):
        wrong = []
        for path in SOURCES:
            wrong += [(label(path), name) for _, name in imports(path) if name.split(".")[0] in UNPICKLERS]
            for call in (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)):
                name = ast.unparse(call.func)
                words = {word.arg: ast.unparse(word.value) for word in call.keywords}
                safe_conversion = (
                    label(path) == "vaezoo/storage/conversion/state_dict.py"
                    and name == "torch.load"
                    and words.get("weights_only") == "True"
                )
                safe_conversion |= name == "torch.export.save"  # writes alone
                dangerous = name in ("eval", "exec", "compile") or name.endswith(".__reduce__")
                stored = re.fullmatch(r"torch\.(jit\.|package\.|export\.)?(load|save)", name)
                if dangerous or (stored and not safe_conversion) or words.get("allow_pickle") == "True":
                    wrong.append((f"{label(path)}:{call.lineno}", name))
        assert not wrong


class TestMetadata:
    def test_the_version_has_one_source(self):
        import vaezoo

        declared = PROJECT["project"]["version"]
        assert vaezoo.__version__ == version("vaezoo") == declared
        assert f"## [{declared}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        assert f"\nversion: {declared}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")

    def test_the_readme_is_short_and_its_counts_are_right(self):
        from vaezoo import list_models, list_recipes, list_variants

        text = (ROOT / "README.md").read_text(encoding="utf-8")
        assert text.count("\n") <= 160 and len(re.findall(r"^\|", text, re.MULTILINE)) <= 15
        counts = {"variants": list_variants(), "pretrained models": list_models(), "recipes": list_recipes()}
        assert all(f"{len(names)} {what}" in text for what, names in counts.items())

    def test_every_import_is_a_declared_dependency(self):
        assert third_party(SOURCES) <= required() | required("train")
        paths = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
        siblings = {path.stem for path in paths} | {path.parent.name for path in paths}
        lines = (ROOT / "benchmarks" / "requirements.txt").read_text(encoding="utf-8").splitlines()
        peers = {re.split("[<>=#]", line)[0] for line in lines}
        extras = set[str]().union(*map(required, ("train", "onnx", "parquet", "dev")))
        assert third_party(paths) - siblings <= required() | extras | peers

    def test_types_are_shipped_and_no_rule_is_relaxed_for_the_package(self):
        assert (PACKAGE / "py.typed").exists() and PROJECT["tool"]["mypy"]["strict"] is True
        assert PROJECT["tool"]["ruff"]["lint"]["per-file-ignores"] == {"tests/*": ["D"], "benchmarks/*": ["D"]}

    def test_the_build_names_no_machine_and_no_index(self):
        for name in ("Makefile", "pyproject.toml", ".ci/run"):
            before, _, rest = (ROOT / name).read_text(encoding="utf-8").partition("[project.urls]")
            text = before + rest.partition("\n[")[2]
            assert not re.search(r"https?://|index-url|(?<![\w.$)/])/(home|root|Users|work|opt)/", text), name


BLOCK = "import sys\nfor name in sys.argv[1].split(','): sys.modules[name] = None  # an import of it fails\n"
LOAD = """
import torch, vaezoo

model = vaezoo.load("vae-mnist")
x = model.sample(4, seed=0).round()
assert model.encode(x).mean.shape == (4, 50) and model(x).bound.isfinite().all()
vaezoo.save(model, "copy")
assert torch.equal(vaezoo.load("./copy").reconstruct(x), model.reconstruct(x))
assert vaezoo.create("vq-vae", shape=(1, 28, 28)).config and "vae-mnist" in vaezoo.list_recipes()
assert not {"rich", "cyclopts"} & set(sys.modules)
"""
COMMANDS = """
import contextlib, io, json
from vaezoo.cli import main

with contextlib.redirect_stdout(io.StringIO()):
    assert main(["list"]) == 0 and main(["show", "vae-mnist"]) == 0
errors = []
for command in json.loads(sys.argv[2]):
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        assert main(command.split()) == 1
    errors.append(stream.getvalue())
print(json.dumps(errors))
"""
MISSING = {
    "sample vae-mnist": "torchvision",
    "traverse vae-mnist": "torchvision",
    "train vae-digits": "scikit-learn",
    "fit-sampler vae-mnist gaussian-mixture --data digits --out copy": "scikit-learn",
    "evaluate vae-mnist --data torchvision:MNIST": "torchvision",
}


class TestImports:
    def test_quick_calls_import_no_torch(self):
        code = "import sys, vaezoo, vaezoo.cli\nvaezoo.list_models(), vaezoo.list_variants()\n"
        assert python(code + "print({'torch', 'numpy', 'matplotlib'} & set(sys.modules))", cwd=ROOT) == "set()\n"

    def test_models_load_without_extras_and_commands_name_a_missing_package(self, tmp_path: Path):
        extras = ",".join(required("train") - required())
        errors = json.loads(python(BLOCK + LOAD + COMMANDS, extras, json.dumps(list(MISSING)), cwd=tmp_path))
        for error, package in zip(errors, MISSING.values(), strict=True):
            (line,) = error.splitlines()
            assert line.startswith("error [missing-extra]: ") and f"Install it: pip install {package}" in line, line

    @pytest.mark.full
    def test_models_are_built_without_torchs_compiler(self):
        """Some operations on the meta device import the compiler, which takes two seconds."""
        code = (
            "import sys, torch\nfrom support.cases import ONE_EACH\nassert 'sympy' not in sys.modules, 'torch has it'\n"
            "with torch.device('meta'):\n    for case in ONE_EACH: case.create()\n"
            "print(*(name for name in ('sympy', 'torch._dynamo') if name in sys.modules))"
        )
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
        assert python(code, env=os.environ | paths).split() == []


CONTRIBUTED = """
import json, sys, tomllib, torch
from vaezoo.data.load import datasets
from vaezoo.recipe import read_recipe
from vaezoo.registry import backbones, create, likelihoods

python, recipe = json.loads(sys.stdin.read())
names = {"__name__": "contributed"}
for block in python:
    exec(block, names)
backbones.register("affine", names["affine"], override=True)
likelihoods.register("laplace", names["Laplace"], override=True)
datasets.register("stripes", names["stripes"], override=True)
head = {"name": "laplace", "scale": 0.5}
model = create("my-vae", shape=(1, 8, 8), latent=2, backbone="affine", likelihood=head, nats=1.0)
data = names["stripes"]("train")
x = data.batch(torch.arange(len(data)))
model.initialize([(x, None)])
optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
for _ in range(20):
    losses.append(model(x).losses["model"].mean())
    optimizer.zero_grad()
    losses[-1].backward()
    optimizer.step()
assert losses[-1] < losses[0], losses
assert model.reconstruct(x).shape == x.shape
assert read_recipe(tomllib.loads(recipe)).options == {"nats": 3.0}
"""


class TestContributing:
    def test_its_code_runs_and_its_files_belong_to_folders_that_exist(self):
        text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
        code, (recipe, *_) = (re.findall(rf"```{name}\n(.*?)```", text, re.DOTALL) for name in ("python", "toml"))
        python(CONTRIBUTED, input=json.dumps([code, recipe]), cwd=ROOT)
        files = [block.splitlines()[0].removeprefix("# ") for block in [*code, recipe]]
        assert len(files) == 5
        assert all((ROOT / name).parent.is_dir() for name in files)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the sdist and of the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


@pytest.mark.deep
class TestDistributions:
    def test_the_wheel_holds_code_weights_images_recipes_and_nothing_else(self, built: Path):
        files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        shipped = {label(path) for path in files}
        shipped |= {f"vaezoo/recipes/{path.name}" for path in (ROOT / "recipes").glob("*.toml")}
        with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
            licences = [name for name in archive.namelist() if "/licenses/" in name]
        assert names == shipped
        assert {"vaezoo/py.typed", "vaezoo/data/mnist64.safetensors", "vaezoo/recipes/vae-mnist.toml"} <= names
        assert any(name.endswith("LICENSE") for name in licences)
        sizes = {path.suffix: path.stat().st_size for path in built.iterdir()}
        assert len(sizes) == 2 and sizes[".whl"] <= 95_000_000 and sizes[".gz"] < 100_000_000, sizes

    def test_the_sdist_holds_what_the_tests_need(self, built: Path):
        with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        needed = {*DOCUMENTS, "Makefile", "pyproject.toml", "tests/test_packaging.py", "recipes/vae-mnist.toml"}
        assert needed <= names
        assert not {name for name in names if re.match(r"\.venv|\.git/|runs/|dist/", name)}

    def test_the_wheel_works_without_a_checkout_and_without_extras(self, built: Path, tmp_path: Path):
        with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
            archive.extractall(tmp_path / "site")
        code = BLOCK + "sys.path.insert(0, sys.argv[2])\n" + LOAD + "assert vaezoo.__file__.startswith(sys.argv[2])"
        python(code, ",".join(required("train") - required()), str(tmp_path / "site"), cwd=tmp_path)


FORMER_NAMES = {
    "vaezoo.elbo": ("Part", "WeightedObjective", "draw"),
    "vaezoo.model": ("VAE",),
    "vaezoo.parts": ("GaussianEncoder", "Decoder", "given"),
    "vaezoo.games": ("Game", "logit"),
    "vaezoo.networks": ("Backbone", "join"),
    "vaezoo.data": ("prepare", "draw", "get"),
}


@pytest.mark.parametrize("module", FORMER_NAMES)
def test_former_names_resolve_with_a_warning(module: str) -> None:
    for name in FORMER_NAMES[module]:
        with pytest.warns(DeprecationWarning, match=f"{module}.{name} is deprecated"):
            assert callable(getattr(importlib.import_module(module), name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        importlib.import_module(module).nothing  # noqa: B018  (the access itself is tested)
