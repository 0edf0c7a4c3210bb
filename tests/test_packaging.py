"""The house itself: what is shipped, who imports whom, and how large things are."""

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vaezoo"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCUMENTS = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"]


def layers() -> list[set[str]]:
    """Returns the packages of each layer, from the bottom up, as docs/architecture.md lists them."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| ([^|]+) \|", text, re.MULTILINE)
    return [set(re.findall(r"`(\w+)`", row)) for row in rows]


RANK = {name: rank for rank, names in enumerate(layers()) for name in names}
# What a distribution is imported as, where that is not its name.
IMPORTED_AS = {
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "huggingface-hub": "huggingface_hub",
    "pytest-timeout": "",
    "pytest-xdist": "",
}
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yields every node, at module level or in functions, that is not only there for type checkers."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        else:
            todo += ast.iter_child_nodes(node)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of everything that a file imports when it runs."""
    for node in run_time_nodes(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{label(path)}:{node.lineno}: write the whole name of what is imported"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call))


def required(extra: str | None = None) -> set[str]:
    """Returns the import names of the declared dependencies."""
    lists = PROJECT["project"]
    lines = lists["dependencies"] if extra is None else lists["optional-dependencies"][extra]
    names = [re.split(r"[<>=!~\[ ;]", line)[0].lower() for line in lines]
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names} - {""}


def third_party(paths: list[Path]) -> set[str]:
    found = {name.split(".")[0] for path in paths for _, name in imports(path)}
    return found - set(sys.stdlib_module_names) - {"vaezoo"}


class TestLayers:
    def test_every_package_has_a_layer(self) -> None:
        found = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()}
        packages = {name for name in found if (PACKAGE / f"{name}.py").exists() or list((PACKAGE / name).rglob("*.py"))}
        assert packages == set(RANK)

    def test_the_top_of_the_package_stays_small(self) -> None:
        entries = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()]
        assert len([path for path in entries if path.name != "__pycache__"]) <= 28

    @pytest.mark.parametrize("path", SOURCES, ids=label)
    def test_imports_go_to_lower_layers_only(self, path: Path) -> None:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        wrong = []
        for line, name in imports(path):
            parts = name.split(".")
            same = parts[0] == "vaezoo" and parts[1] == own
            if parts[0] == "vaezoo" and not same and RANK[parts[1]] >= RANK[own]:
                wrong.append(f"{label(path)}:{line} imports {name}")
        assert not wrong

    def test_modules_import_each_other_in_no_circle(self) -> None:
        modules = {module_of(path): path for path in SOURCES}
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
        assert not waiting, f"a circle among {sorted(waiting)}"

    def test_networks_import_nothing_of_autoencoders(self) -> None:
        known = {name for path in (PACKAGE / "networks").glob("*.py") for _, name in imports(path)}
        assert not {name for name in known if re.match(r"vaezoo\.(?!networks|errors|core\.precision)", name)}


class TestSizes:
    @pytest.mark.parametrize("path", SOURCES, ids=label)
    def test_files_and_functions_stay_small(self, path: Path) -> None:
        most = 100 if path.parent.name == "variants" else 500
        lines = path.read_text(encoding="utf-8").count("\n")
        long = [f"{path.name} has {lines} lines, more than {most}"] if lines > most else []
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                words = ast.get_docstring(node, clean=False)
                size = (node.end_lineno or 0) - node.lineno + 1 - (words.count("\n") + 1 if words else 0)
                long += [f"{label(path)}:{node.lineno} {node.name} has {size} lines, more than 40"] * (size > 40)
        assert not long


class TestNoPickle:
    """A model file can never run code: nothing that unpickles, evaluates or executes is used anywhere."""

    @pytest.mark.parametrize("path", SOURCES, ids=label)
    def test_nothing_that_unpickles_is_imported(self, path: Path) -> None:
        assert not {name for _, name in imports(path) if name.split(".")[0] in UNPICKLERS}

    @pytest.mark.parametrize("path", SOURCES, ids=label)
    def test_nothing_that_unpickles_is_called(self, path: Path) -> None:
        wrong = []
        for call in calls(path):
            name = ast.unparse(call.func)
            words = {word.arg: ast.unparse(word.value) for word in call.keywords}
            safe_conversion = (
                label(path) == "vaezoo/storage/conversion/state_dict.py"
                and name == "torch.load"
                and words.get("weights_only") == "True"
            )
            dangerous = name in ("eval", "exec", "compile") or name.endswith(".__reduce__")
            stored = re.fullmatch(r"torch\.(jit\.|package\.|export\.)?(load|save)", name)
            if dangerous or (stored and not safe_conversion) or words.get("allow_pickle") == "True":
                wrong.append(f"{label(path)}:{call.lineno} {name}")
        assert not wrong


class TestMetadata:
    def test_the_version_has_one_source(self) -> None:
        import vaezoo

        declared = PROJECT["project"]["version"]
        assert vaezoo.__version__ == version("vaezoo") == declared
        assert f"## [{declared}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize("name", DOCUMENTS)
    def test_the_documents_are_there(self, name: str) -> None:
        assert len((ROOT / name).read_text(encoding="utf-8")) > 400

    def test_every_import_is_a_declared_dependency(self) -> None:
        assert third_party(SOURCES) <= required()

    def test_every_import_of_the_tests_is_declared(self) -> None:
        paths = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
        siblings = {path.stem for path in paths} | {path.parent.name for path in paths}
        lines = (ROOT / "benchmarks" / "requirements.txt").read_text(encoding="utf-8").splitlines()
        peers = {re.split("[<>=#]", line)[0] for line in lines}
        assert third_party(paths) - siblings <= required() | required("dev") | peers

    def test_types_are_shipped_and_strictly_checked(self) -> None:
        assert (PACKAGE / "py.typed").exists()
        assert PROJECT["tool"]["mypy"]["strict"] is True

    def test_no_rule_is_relaxed_for_the_package(self) -> None:
        ignores = PROJECT["tool"]["ruff"]["lint"]["per-file-ignores"]
        assert set(ignores) == {"tests/*", "benchmarks/*"}
        assert all(rules == ["D"] for rules in ignores.values())

    @pytest.mark.parametrize("name", ["Makefile", "pyproject.toml", ".ci/run"])
    def test_the_build_names_no_machine_and_no_index(self, name: str) -> None:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|index-url|(?<![\w.$)/])/(home|root|Users|work|opt)/", text)


class TestStart:
    @pytest.mark.parametrize("call", ["", "vaezoo.list_models()", "vaezoo.list_variants()", "import vaezoo.cli"])
    def test_what_must_be_quick_imports_no_torch(self, call: str) -> None:
        code = f"import sys, vaezoo\n{call}\nprint(*(n for n in ('torch', 'numpy', 'matplotlib') if n in sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.split() == []

    def test_models_are_built_without_torchs_compiler(self) -> None:
        """Some operations on the meta device, where files are compared with a model, import it for two seconds."""
        code = (
            "import sys, torch\nfrom support.cases import ONE_EACH\nassert 'sympy' not in sys.modules, 'torch has it'\n"
            "with torch.device('meta'):\n    for case in ONE_EACH: case.create()\n"
            "print(*(name for name in ('sympy', 'torch._dynamo') if name in sys.modules))"
        )
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | paths
        )
        assert done.stdout.split() == []


def blocks(language: str) -> list[str]:
    """Returns the code blocks of CONTRIBUTING.md."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)


CONTRIBUTED = """
import sys, json
from pathlib import Path

import torch
from vaezoo.data.load import datasets
from vaezoo.recipe import read_recipe
from vaezoo.registry import backbones
from vaezoo.registry import create
from vaezoo.registry import likelihoods

python, recipe = json.loads(sys.stdin.read())
names = {"__name__": "contributed"}
for block in python:
    exec(block, names)
backbones.register("affine", names["affine"], override=True)
likelihoods.register("laplace", names["laplace"], override=True)
datasets.register("stripes", names["stripes"], override=True)
head = {"name": "laplace", "scale": 0.5}
model = create("my-vae", shape=(1, 8, 8), latent=2, backbone="affine", likelihood=head, nats=1.0)
data = names["stripes"]("train", cache=Path("."), download=False)
x = data.batch(torch.arange(len(data)))
model.initialize([(x, None)])
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
losses = []
for _ in range(20):
    loss = model(x).losses["model"].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0], losses
assert model.reconstruct(x).shape == x.shape
import tomllib
assert read_recipe(tomllib.loads(recipe)).options == {"nats": 3.0}
"""


class TestContributing:
    def test_its_code_runs(self) -> None:
        given = json.dumps([blocks("python"), blocks("toml")[0]])
        command = [sys.executable, "-c", CONTRIBUTED]
        done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT, timeout=300)
        assert done.returncode == 0, done.stderr

    def test_the_files_it_names_are_where_they_say(self) -> None:
        files = [block.splitlines()[0].removeprefix("# ") for block in blocks("python") + blocks("toml")[:1]]
        homes = [Path(name).parent for name in files]
        assert len(homes) == 5
        assert all((ROOT / home).is_dir() for home in homes)


def shipped() -> set[str]:
    """Returns what a wheel must hold, as names inside it."""
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    names = {label(path) for path in files}
    return names | {f"vaezoo/recipes/{path.name}" for path in (ROOT / "recipes").glob("*.toml")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the sdist and of the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


@pytest.mark.deep
class TestWheel:
    def test_holds_code_weights_images_recipes_and_nothing_else(self, built: Path) -> None:
        with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
            licences = [name for name in archive.namelist() if "/licenses/" in name]
        assert names == shipped()
        assert {"vaezoo/py.typed", "vaezoo/data/mnist64.safetensors", "vaezoo/recipes/vae-mnist.toml"} <= names
        assert any(name.endswith("LICENSE") for name in licences)

    def test_is_not_larger_than_an_index_of_packages_takes(self, built: Path) -> None:
        sizes = {path.name: path.stat().st_size for path in built.iterdir()}
        assert len(sizes) == 2 and all(size < 100_000_000 for size in sizes.values()), sizes

    def test_the_sdist_holds_what_the_tests_need(self, built: Path) -> None:
        with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        needed = {*DOCUMENTS, "Makefile", "pyproject.toml", "tests/test_packaging.py", "recipes/vae-mnist.toml"}
        assert needed <= names
        assert not {name for name in names if re.match(r"\.venv|\.git/|runs/|dist/", name)}

    def test_works_where_there_is_no_checkout(self, built: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
            archive.extractall(tmp_path / "site")
        code = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "import vaezoo, vaezoo.data\n"
            "assert vaezoo.__file__.startswith(sys.argv[1]), vaezoo.__file__\n"
            "assert 'vae-mnist' in vaezoo.list_recipes()\n"
            "names = [model if isinstance(model, str) else model.name for model in vaezoo.list_models()]\n"
            "x = vaezoo.data.bundled_images().images.float() / 255\n"
            "model = vaezoo.load(names[0]) if names else vaezoo.create('vae', shape=(1, 28, 28))\n"
            "print(len(names), model.config['variant'])\n"
        )
        command = [sys.executable, "-I", "-c", code, str(tmp_path / "site")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stderr
