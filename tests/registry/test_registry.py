"""Names, options, compositions, and packages that register their own."""

import importlib
import json
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from msgspec import Meta
from support.cases import Case

import vaezoo
from vaezoo.cli import main
from vaezoo.core import VAE
from vaezoo.data import datasets, load_dataset
from vaezoo.errors import (
    CompositionError,
    ConfigError,
    PluginWarning,
    RecipeError,
    RegistryCollisionError,
    ShapeError,
    UnknownNameError,
    VaezooError,
)
from vaezoo.objectives import WeightedObjective
from vaezoo.recipe import read_recipe
from vaezoo.registry import Architecture, Registry, backbones, create, likelihoods, recreate, register, variants
from vaezoo.registry.options import allowed, expectation
from vaezoo.storage.model_folder import meta_twin
from vaezoo.workflows.compare import expand
from vaezoo.workflows.listing import describe

SHAPE = (1, 8, 8)


@pytest.fixture
def clean() -> Iterator[None]:
    """Removes the registrations of a test."""
    kept = [
        (r, dict(r._entries), dict(r._owners), set(r._warned)) for r in (variants, backbones, likelihoods, datasets)
    ]
    yield
    for registry, entries, owners, warned in kept:
        registry._entries, registry._owners, registry._warned = entries, owners, warned


def builder(base: VAE, architecture: Architecture, *, weight: float = 2.0) -> VAE:
    return base.replace(objective=WeightedObjective(rate=weight))


def identity(base: VAE, architecture: Architecture) -> VAE:
    return base


def test_names_are_found_without_importing_torch() -> None:
    code = (
        "import sys, vaezoo.registry as r; names = r.variants.names(), r.backbones.names(), r.likelihoods.names();"
        "import vaezoo; vaezoo.list_variants('*'); assert 'torch' not in sys.modules; print(names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "beta-vae" in done.stdout and "conv" in done.stdout and "discretized-logistic" in done.stdout


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"variant": "beta_vae"}, "Unknown variant 'beta_vae'. Did you mean 'beta-vae'"),
        ({"variant": "Bate-VAE"}, "Did you mean 'beta-vae'"),
        ({"variant": "vae+iwea"}, "Did you mean 'iwae'"),
        ({"variant": "vae+"}, "Unknown variant ''"),
        ({"variant": ["vae"]}, "A name is a string"),
        ({"variant": "x" * 10**6}, f"Known: {variants.names()[0]}, "),
        ({"backbone": "covn"}, "Unknown backbone 'covn'. Did you mean 'conv'"),
        ({"likelihood": "bernouli"}, "Unknown likelihood 'bernouli'. Did you mean 'bernoulli'"),
    ],
)
def test_errors_of_unknown_names_contain_the_closest_name(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UnknownNameError, match="Known: ") as caught:
        create(**{"variant": "vae", "shape": SHAPE, **wrong})  # type: ignore[arg-type]  # that is the point
    assert words in str(caught.value) and len(str(caught.value)) < 600
    assert isinstance(caught.value, LookupError)


def test_an_error_lists_all_mistakes_in_options() -> None:
    with pytest.raises(ConfigError) as caught:
        create("factor-vae", shape=SHAPE, gama=1.0, critic_hiden=[3], gamma=-1.0, critic_hidden="wide")
    text = str(caught.value)
    mistakes = (
        "'gama'. Did you mean 'gamma'",
        "'critic_hiden'. Did you mean 'critic_hidden'",
        "got -1.0",
        "got 'wide'",
    )
    assert all(words in text for words in mistakes) and len(text.splitlines()) == 4
    with pytest.raises(ConfigError) as caught:
        create("vae", shape=SHAPE, backbone={"name": "conv", "chanels": [3], "kernel": 0, "blocks": 99})
    assert "Did you mean 'channels'" in str(caught.value) and len(str(caught.value).splitlines()) == 3
    with pytest.raises(ConfigError, match=r"vae: unknown option 'beta'.*Options: none"):
        create("vae", shape=SHAPE, beta=3.0)


def test_variants_that_change_the_same_part_do_not_compose() -> None:
    for name, part in (("beta-vae+iwae", "objective"), ("cvae+vq-vae", "prior"), ("factor-vae+vq-vae", "objective")):
        first, second = name.split("+")
        with pytest.raises(
            CompositionError, match=f"'{first}' and '{second}' cannot be composed: both change the {part}"
        ):
            create(name, shape=SHAPE, context=3)
    with pytest.raises(CompositionError, match="both change the encoder"):  # ladder-vae yields its objective alone
        create("ladder-vae+top-down-vae", shape=SHAPE)
    with pytest.raises(CompositionError, match="names 'vae' twice"):
        create("vae+vae", shape=SHAPE)


@pytest.mark.usefixtures("clean")
def test_a_part_yielded_to_any_variant_is_yielded_in_both_orders() -> None:
    @register("own-goal", changes="objective", yields={"objective": "any"})
    def own_goal(base: VAE, architecture: Architecture) -> VAE:
        return base.replace(objective=WeightedObjective(rate=7.0))

    assert float(create("own-goal", shape=SHAPE).objective.rate(None)) == 7.0
    for name in ("own-goal+vq-vae", "vq-vae+own-goal"):
        assert type(create(name, shape=SHAPE).objective).__name__ == "CommitmentObjective"
    for name in ("own-goal+beta-vae", "beta-vae+own-goal"):
        assert float(create(name, shape=SHAPE, beta=3.0).objective.rate(None)) == 3.0
    with pytest.raises(ConfigError, match="requires 'any'"):
        register("needy", requires="any")


def test_composed_names_build_each_variant() -> None:
    model = create("cvae + iwae", shape=SHAPE, context=3, samples=4)
    assert model.config is not None and model.config["variant"] == "cvae+iwae"
    assert model.config["options"] == {"cvae.prior_hidden": [], "iwae.samples": 4, "iwae.gradient": "plain"}
    again = create(str(model.config["variant"]), **{**model.config["architecture"], **model.config["options"]})  # type: ignore[dict-item]
    assert again.config == model.config and again.state_dict().keys() == model.state_dict().keys()
    swapped = create("iwae+cvae", shape=SHAPE, context=3, **{"iwae.samples": 4})
    assert swapped.state_dict().keys() == model.state_dict().keys()
    assert create("vae+beta-vae", shape=SHAPE).players().keys() == {"model"}
    with pytest.raises(ConfigError, match="'samples' of iwae is given twice"):
        create("iwae", shape=SHAPE, **{"samples": 3, "iwae.samples": 4})
    with pytest.raises(ConfigError, match=r"unknown option 'vae\.samples'"):
        create("iwae", shape=SHAPE, **{"vae.samples": 4})


def test_a_config_is_plain_and_canonical() -> None:
    model = create(
        "beta-vae", shape=torch.Size(SHAPE), beta=np.float64(2), backbone={"name": "mlp", "hidden": (3,)}, latent=4
    )  # type: ignore[arg-type]
    assert model.config == {
        "variant": "beta-vae",
        "architecture": {
            "shape": [1, 8, 8],
            "latent": [4],
            "context": 0,
            "backbone": {"name": "mlp", "hidden": [3], "activation": "relu", "gated": False},
            "likelihood": {"name": "bernoulli"},
            "examples": 0,
        },
        "options": {"beta-vae.beta": 2.0},
    }
    assert json.loads(json.dumps(model.config)) == model.config


HOSTILE: dict[str, dict[str, object]] = {
    "latent": {"latent": 10**9},
    "latent product": {"latent": (10**5, 10**5)},
    "latent zero": {"latent": 0},
    "latent bool": {"latent": True},
    "shape": {"shape": (10**9,)},
    "hidden": {"backbone": {"name": "mlp", "hidden": [65536] * 64}},
    "channels": {"backbone": {"name": "conv", "channels": [8192] * 8, "kernel": 7, "blocks": 16}},
    "backbone number": {"backbone": 7},
    "backbone nameless": {"backbone": {"hidden": [3]}},
    "backbone keys": {"backbone": {"name": "mlp", 3: 4}},
    "backbone path": {"backbone": "os.system"},
    "likelihood callable": {"likelihood": print},
    "scale": {"likelihood": {"name": "gaussian", "scale": 1e-300}},
    "scale kind": {"likelihood": {"name": "gaussian", "scale_kind": "shared"}},
    "levels": {"likelihood": {"name": "discretized-logistic", "levels": 10**9}},
    "context": {"context": 10**9},
    "context negative": {"context": -1},
    "examples": {"examples": -1},
    "context wide": {"context": 2**24, "backbone": {"name": "mlp", "hidden": [65536]}},
}


def test_hostile_architectures_are_refused_before_anything_is_allocated() -> None:
    for name, wrong in HOSTILE.items():
        start = time.perf_counter()
        with pytest.raises((ConfigError, UnknownNameError, ShapeError)) as caught:
            create(**{"variant": "vae", "shape": SHAPE, **wrong})  # type: ignore[arg-type]  # that is the point
        assert time.perf_counter() - start < 2.0 and len(str(caught.value)) < 700, name


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"latent": 4.5}, "latent = 4.5; expected up to 8 positive whole numbers"),
        ({"latent": [4, 2.5]}, "positive whole numbers"),
        ({"shape": (32, 1, 28, 28), "backbone": "conv"}, "Leave out the batch dimension: shape=(1, 28, 28)."),
        ({"shape": 30, "backbone": "conv"}, "Use backbone 'mlp'."),
    ],
)
def test_errors_of_shapes_state_the_remedy(wrong: dict[str, object], words: str) -> None:
    with pytest.raises((ConfigError, ShapeError), match=re.escape(words)):
        create(**{"variant": "vae", "shape": SHAPE, **wrong})  # type: ignore[arg-type]  # that is the point


def test_large_models_can_be_created_and_loaded() -> None:
    with torch.device("meta"):
        video = create("vae", shape=(3, 32, 512, 512), backbone={"name": "mlp", "hidden": [8]})
        assert create("vq-vae", shape=(1, 64, 64), codes=2**18).encoder.codes == 2**18
    assert video.config is not None and meta_twin(video.config).shape == (3, 32, 512, 512)


@pytest.mark.usefixtures("clean")
def test_a_name_fixes_the_backbone_or_the_likelihood_that_it_states() -> None:
    with pytest.raises(ConfigError, match=r"'name': 'mlp'.*'conv-vae'.*Leave backbone out, or use 'vae'"):
        create("conv-vae+iwae", shape=SHAPE, backbone="mlp")
    for wrong in ("bernoulli", "gaussian", {"name": "gaussian", "scale_kind": "learned"}):
        with pytest.raises(ConfigError, match=r"'sigma-vae'.*'scale_kind': 'optimal'"):
            create("sigma-vae", shape=SHAPE, likelihood=wrong)  # type: ignore[arg-type]  # a name or a table
    assert create("conv-vae", shape=SHAPE, backbone={"name": "conv", "channels": [3]}).config is not None
    register("dense-vae", changes="backbone", defaults={"backbone": "mlp"}, permits={"backbone": ["conv"]})(identity)
    assert create("dense-vae", shape=SHAPE, backbone="conv").config is not None
    scaled = {"name": "gaussian", "scale": 0.1, "scale_kind": "optimal"}
    model = create("sigma-vae", shape=SHAPE, likelihood=scaled)
    assert model.config is not None
    architecture = {**model.config["architecture"], "likelihood": "bernoulli"}  # type: ignore[dict-item]  # a table
    old = recreate("sigma-vae", {}, **architecture)
    assert old.config is not None and old.config["architecture"]["likelihood"] == {"name": "bernoulli"}  # type: ignore[index]


# Registering


def test_your_own_variant_composes_and_is_validated(clean: None) -> None:
    register("my-vae", changes="objective", year=2030)(builder)
    model = create("my-vae+cvae", shape=SHAPE, context=3, weight=3.0)
    assert model.config is not None and model.config["options"] == {"cvae.prior_hidden": [], "my-vae.weight": 3.0}
    with pytest.raises(CompositionError, match="'my-vae' and 'iwae'"):
        create("my-vae+iwae", shape=SHAPE)
    assert "my-vae" in variants.names()


def test_a_variant_is_described_without_the_facts_that_it_lacks(clean: None) -> None:
    register("mine", changes="objective")(builder)
    register("dated", changes="objective", year=2030)(builder)
    assert describe("mine").startswith("mine\n\n") and describe("dated").startswith("dated (2030)\n\n")
    assert describe("beta-vae").startswith("beta-vae (Higgins et al., 2017; https://")


def test_collisions_name_both_owners(clean: None) -> None:
    with pytest.raises(RegistryCollisionError, match=r"'beta-vae' of \S*test_registry is already registered by vaezoo"):
        register("beta-vae", changes="objective")(builder)
    Registry.register(variants, "mine", variants.get("vae"), owner="first-package")
    with pytest.raises(RegistryCollisionError, match="'mine' of second-package is already registered by first-package"):
        variants.register("mine", variants.get("vae"), owner="second-package")
    variants.register("mine", variants.get("vae"), owner="second-package", override=True)
    register("beta-vae", changes="objective", override=True)(builder)
    assert "weight" in variants.get("beta-vae").options


def test_malformed_registrations_are_refused(clean: None) -> None:
    def clashing(base: VAE, architecture: Architecture, *, latent: int = 3) -> VAE:
        return base

    def needy(base: VAE, architecture: Architecture, *, weight: float) -> VAE:
        return base

    with pytest.raises(ConfigError, match="option like a shared field: latent"):
        register("my-vae")(clashing)
    for name in ("", "My-VAE", "my_vae", "-vae", "vae-", "a--b", "a+b", "vaé", "a b"):
        with pytest.raises(ConfigError, match="expected lower-case letters"):
            register(name)
    with pytest.raises(ConfigError, match=r"got changes = \('objectve',\)"):
        register("my-vae", changes="objectve")
    with pytest.raises(ConfigError, match="got defaults"):
        register("my-vae", defaults={"latnet": 3})
    with pytest.raises(ConfigError, match="got example"):
        register("my-vae", example={"wieght": 3.0})(builder)
    register("needy-vae")(needy)
    with pytest.raises(ConfigError, match="option weight is missing"):
        create("needy-vae", shape=SHAPE)
    assert create("needy-vae", shape=SHAPE, weight=1).config is not None


def test_an_option_of_two_variants_needs_the_name_of_one(clean: None) -> None:
    def other(base: VAE, architecture: Architecture, *, samples: int = 3) -> VAE:
        return base

    register("other-vae", changes="prior")(other)
    with pytest.raises(ConfigError, match=r"'samples' belongs to iwae and other-vae: write 'iwae\.samples'"):
        create("iwae+other-vae", shape=SHAPE, samples=3)
    model = create("iwae+other-vae", shape=SHAPE, **{"iwae.samples": 2, "other-vae.samples": 5})
    assert model.config is not None
    assert model.config["options"] == {"iwae.samples": 2, "iwae.gradient": "plain", "other-vae.samples": 5}


# Other packages

PLUGIN = '''
from typing import Annotated
from msgspec import Meta
from torch import nn
from vaezoo.priors import StandardNormalPrior
from vaezoo.registry import register

class WidePrior(StandardNormalPrior):
    pass

@register("{name}", changes="prior", year=2030)
def build(base, architecture, *, width: Annotated[float, Meta(gt=0)] = 2.0):
    """A plug-in."""
    return base.replace(prior=WidePrior(architecture.latent))
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None) -> Iterator[Install]:
    """Installs distributions: modules and metadata on the import path."""
    modules: list[str] = []

    def put(package: str, module: str, source: str, *points: str, group: str = "vaezoo.variants") -> None:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n" + "\n".join(points) + "\n")
        modules.append(module)
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield put
    for module in modules:
        sys.modules.pop(module, None)


def test_a_package_registers_a_variant_that_composes_and_saves(install: Install, tmp_path: Path) -> None:
    install("vaezoo-wide", "wide_plugin", PLUGIN.replace("{name}", "wide-vae"), "wide-vae = wide_plugin:build")
    assert "wide-vae" in variants.names()
    with pytest.raises(RegistryCollisionError, match=r"'wide-vae' of \S*test_registry .* registered by vaezoo-wide"):
        register("wide-vae")(builder)
    assert "wide_plugin" not in sys.modules  # listed and taken, not imported
    model = create("wide-vae+iwae", shape=SHAPE, samples=3, width=4.0)
    assert type(model.prior).__name__ == "WidePrior" and model.config is not None
    assert model.config["options"] == {"wide-vae.width": 4.0, "iwae.samples": 3, "iwae.gradient": "plain"}
    x = Case("vae").inputs(3)[0]
    vaezoo.save(model.eval(), tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "\nIt needs `pip install vaezoo-wide`.\n" in card
    loaded = vaezoo.load(tmp_path / "saved")
    assert type(loaded.prior).__name__ == "WidePrior" and torch.equal(loaded.reconstruct(x), model.reconstruct(x))
    tables = {"variant": "wide-vae", "data": {"name": "digits"}, "train": {"steps": 3, "batch_size": 8}}
    assert read_recipe({**tables, "options": {"width": 3.0}}).options == {"width": 3.0}
    with pytest.raises(RecipeError, match="width"):
        read_recipe({**tables, "options": {"width": -1.0}})
    with pytest.raises(ConfigError, match="option width"):
        create("wide-vae", shape=SHAPE, width=-1.0)
    with pytest.raises(RegistryCollisionError, match=r"'wide-vae' of \S*test_registry .* registered by wide_plugin"):
        register("wide-vae")(builder)


def test_a_package_registers_a_backbone_and_a_likelihood(install: Install, tmp_path: Path) -> None:
    install(
        "vaezoo-thin",
        "thin_plugin",
        "from vaezoo.backbones.mlp import mlp\nfrom vaezoo.likelihoods.bernoulli import Bernoulli\n"
        "def thin(*, width: int = 3):\n    return mlp(hidden=[width])\n",
        "thin = thin_plugin:thin",
        "[vaezoo.likelihoods]",
        "coin = thin_plugin:Bernoulli",
        group="vaezoo.backbones",
    )
    model = create("vae", shape=SHAPE, backbone={"name": "thin", "width": 5}, likelihood="coin")
    assert model.state_dict()["encoder.network.layers.0.weight"].shape == (5, 64)
    card = (vaezoo.save(model.eval(), tmp_path / "saved") / "README.md").read_text()
    assert "\nIt needs `pip install vaezoo-thin`.\n" in card
    assert "pip install" not in (vaezoo.save(create("vae", shape=SHAPE), tmp_path / "own") / "README.md").read_text()
    with pytest.raises(ConfigError, match=r"backbone thin: unknown option 'widht'\. Did you mean 'width'"):
        create("vae", shape=SHAPE, backbone={"name": "thin", "widht": 5})


@pytest.mark.parametrize(
    ("source", "point", "words"),
    [
        ("raise RuntimeError('boom')", "sad_plugin:build", "RuntimeError: boom"),
        ("import no_such_module_at_all", "sad_plugin:build", "no_such_module_at_all"),
        ("import sys; sys.exit(3)", "sad_plugin:build", "SystemExit: 3"),
        ("def build(base, architecture): ...", "sad_plugin:build", "expected what @register returns"),
        ("build = 3", "sad_plugin:missing", "missing"),
        (PLUGIN.replace("{name}", "vae"), "sad_plugin:build", "already registered by vaezoo"),
    ],
)
def test_a_broken_package_warns_once_and_affects_no_other_name(
    install: Install, source: str, point: str, words: str
) -> None:
    install("vaezoo-sad", "sad_plugin", source, f"sad-vae = {point}")
    assert "sad-vae" in variants.names()
    with pytest.warns(PluginWarning, match="'sad-vae' was ignored") as caught, pytest.raises(UnknownNameError) as error:
        create("sad-vae", shape=SHAPE)
    assert len(caught) == 1 and "vaezoo-sad" in str(error.value) and words in str(error.value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnknownNameError, match="vaezoo-sad"):
            create("sad-vae", shape=SHAPE)
        assert create("vae", shape=SHAPE).config is not None


def test_a_package_cannot_take_a_built_in_name(install: Install) -> None:
    install("vaezoo-thief", "thief_plugin", "build = None", "beta-vae = thief_plugin:build")
    with pytest.warns(PluginWarning, match="belongs to vaezoo itself; vaezoo-thief must choose another"):
        assert "beta-vae" in variants.names()
    assert variants.get("beta-vae").paper == "Higgins et al."


def test_two_packages_with_one_name_affect_no_other_name(install: Install) -> None:
    source = PLUGIN.replace("{name}", "wide-vae")
    install("vaezoo-one", "one_plugin", source, "wide-vae = one_plugin:build")
    install("vaezoo-two", "two_plugin", source, "wide-vae = two_plugin:build")
    install("vaezoo-sad", "sad_plugin", "raise RuntimeError('boom')", "sad-vae = sad_plugin:build")
    assert {"wide-vae", "sad-vae", "vae"} <= {*variants.names()}
    with (
        pytest.warns(PluginWarning, match="'wide-vae' was ignored: both vaezoo-"),
        pytest.raises(RegistryCollisionError, match=r"vaezoo-(one|two) and vaezoo-(one|two)"),
    ):
        create("wide-vae", shape=SHAPE)
    with pytest.warns(PluginWarning, match="boom"):
        found, broken = variants.available("*vae")
    assert {"vae", "beta-vae"} <= {*found} and {*broken} == {"wide-vae", "sad-vae"}
    assert "boom" in broken["sad-vae"] and create("beta-vae", shape=SHAPE).config is not None


def test_commands_state_broken_packages_and_go_on(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    twin = PLUGIN.replace("{name}", "wide-vae")
    install("vaezoo-one", "one_plugin", twin, "wide-vae = one_plugin:build")
    install("vaezoo-two", "two_plugin", twin, "wide-vae = two_plugin:build")
    source = "raise RuntimeError('boom\\nand \\x1b[31m red')"
    install("vaezoo-sad", "sad_plugin", source, "sad-vae = sad_plugin:build", "[vaezoo.datasets]", "sad = sad_plugin:x")
    odd = "def odd(*, width: 'NoSuchType' = 3):\n    return None\n"
    install("vaezoo-odd", "odd_plugin", odd, "odd = odd_plugin:odd", group="vaezoo.backbones")

    def output(*words: str, status: int = 0) -> str:
        with warnings.catch_warnings(action="ignore", category=PluginWarning):
            assert main(list(words)) == status, words
        found = capsys.readouterr()
        assert "\x1b" not in found.out + found.err
        return " ".join((found.out + found.err).split())

    for words, name, reason in (
        (
            ("--variants",),
            "sad-vae",
            "The plug-in vaezoo-sad that offers it failed to load: RuntimeError: boom and ?[31m",
        ),
        (("--variants",), "wide-vae", "Several packages register the variant 'wide-vae'"),
        (("--datasets",), "sad", "The plug-in vaezoo-sad that offers it failed to load: RuntimeError: boom"),
        (("--backbones",), "odd", "Its options cannot be read: NameError: name 'NoSuchType' is not defined"),
    ):
        assert f"{name} broken: {reason}" in output("list", *words), words
        records = {each["name"]: each for each in json.loads(output("list", *words, "--json"))}
        assert records[name]["broken"].startswith(reason) and len(records) > 2
    assert "vae (Kingma & Welling, 2014" in output("show", "vae") and "beta-vae-mnist" in output("list")
    assert "Did you mean" not in output("show", "sad-vae", status=1)
    assert "RuntimeError: boom" in output("compare", "sad-vae", "--data", "digits", status=1)
    assert "Uninstall all but one" in output("show", "wide-vae", status=1)
    with warnings.catch_warnings(action="ignore", category=PluginWarning):
        everything = expand(["all"])
    assert {"vae", "beta-vae"} <= {*everything} and not {"sad-vae", "wide-vae"} & {*everything}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: create("vae", shape=SHAPE, backbone="CNN"), "Did you mean 'conv'"),
        (lambda: create("vae", shape=SHAPE, likelihood="mse"), "Did you mean 'gaussian'"),
        (lambda: create("vae", shape=SHAPE, likelihood="BCE"), "Did you mean 'bernoulli'"),
        (lambda: create("beta-vae", shape=SHAPE, kl_weight=2.0), "Did you mean 'beta'"),
        (lambda: create("vae", shape=SHAPE, latent_dim=3), "Did you mean 'latent'"),
        (lambda: read_recipe("vae-mnist", "lr=1e-3"), "override 'lr' is unknown. Did you mean 'learning_rate'"),
        (lambda: read_recipe("vae-mnist", ["train.batch=3"]), "batch_size"),
        (lambda: read_recipe("vae-mnist", ["train=3"]), "is a table: name one of its keys, such as train.KEY"),
        (lambda: read_recipe("vae"), "'vae' is a variant"),
        (lambda: vaezoo.load("conv-vae+iwae"), "is a variant, which has no weights"),
        (lambda: vaezoo.load("vae-digits"), "a recipe that has no weights yet: train it (vaezoo train vae-digits)"),
        (lambda: load_dataset("cifar-10"), "torchvision:CIFAR10"),
    ],
)
def test_words_of_other_libraries_give_a_hint(call: Callable[[], object], words: str) -> None:
    with pytest.raises(VaezooError, match=re.escape(words)):
        call()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Literal["a", "b"], "one of a, b"),
        (Literal[3, 4], "one of 3, 4"),
        (bool, "true or false"),
        (Annotated[int, Meta(ge=1, le=8192)], "a whole number from 1 to 8,192"),
        (Annotated[float, Meta(gt=0, lt=0.5)], "a number above 0 and below 0.5"),
        (Annotated[float, Meta(ge=1e-6)], "a number of at least 1e-06"),
        (
            Annotated[tuple[Annotated[int, Meta(ge=2, le=9)], ...], Meta(min_length=1, max_length=4)],
            "a list of 1 to 4 whole numbers from 2 to 9",
        ),
        (Annotated[list[float], Meta(min_length=3, max_length=3)], "a list of 3 numbers"),
        (Annotated[float, Meta(le=1)] | None, "a number of at most 1 or none"),
        (bool | Literal["fast"], "true or false or 'fast'"),
        (dict[str, float], "a table"),
    ],
    ids=str,
)
def test_values_that_a_type_allows_are_stated_in_words(kind: object, text: str) -> None:
    assert expectation(kind) == text


def test_wrong_values_of_options_name_those_that_are_allowed() -> None:
    for field, given, text in (
        (
            "backbone",
            {"name": "conv", "activation": "rellu"},
            "relu, tanh, silu, gelu, elu, leaky-relu; got 'rellu'. Did",
        ),
        ("backbone", {"name": "conv", "kernel": 6}, "expected one of 3, 4, 5, 7; got 6"),
        ("backbone", {"name": "conv", "upsampling": "bilinear"}, "one of transposed, nearest, pixel-shuffle; got"),
        ("backbone", {"name": "mlp", "hidden": 32}, "a list of 0 to 64 whole numbers from 1 to 65,536; got 32"),
        ("likelihood", {"name": "gaussian", "scale_kind": "best"}, "one of fixed, learned, optimal; got 'best'"),
    ):
        with pytest.raises(ConfigError, match=re.escape(text)):
            create("vae", shape=SHAPE, **{field: given})  # type: ignore[arg-type]
        with pytest.raises(RecipeError, match=re.escape(text)):
            tables = {"variant": "vae", "data": {"name": "digits"}, "train": {"steps": 1}}
            read_recipe({**tables, "architecture": {field: given}})
    for entry in map(variants.get, variants.names()):
        for option in entry.options.values():
            if choices := allowed(option.type):
                with pytest.raises(ConfigError, match=re.escape(", ".join(choices))):
                    option.parse("no such value", "option")
