"""Recipes: all mistakes at once, strict types, overrides, stable digests."""

import json
import re
from functools import reduce
from pathlib import Path

import pytest

from vaezoo.errors import RecipeError, UnknownNameError, VaezooError
from vaezoo.evaluation.metric import all_metrics
from vaezoo.recipe import find_recipe, list_recipes, published_metrics, read_recipe, reading
from vaezoo.recipe.diff import changes, differ_in_length_only
from vaezoo.zoo.index import PACKAGE_FOLDER, read_index

Tables = dict[str, object]
SET_IN_NAME = {"torchvision:CIFAR10": "cifar10", "torchvision:CelebA": "celeba64"}


def tables(**changes: object) -> Tables:
    return {"variant": "beta-vae", "data": {"name": "digits"}, "train": {"steps": 10}} | changes


def mistakes(source: object, *overrides: str, **changes: object) -> list[str]:
    """Returns the mistakes in a recipe, without their numbers."""
    with pytest.raises(RecipeError) as caught:
        read_recipe(source, overrides, **changes)  # type: ignore[arg-type]  # hostile sources too
    first, *lines = str(caught.value).splitlines()
    assert f"{len(lines)} mistake" in first
    assert all(line.startswith(f"  {number}. ") for number, line in enumerate(lines, 1))
    return [line.split(". ", 1)[1] for line in lines]


def test_a_recipe_with_its_defaults() -> None:
    recipe = read_recipe(tables(name="mine", train={"steps": 1, "learning_rate": 1}))
    assert (recipe.name, recipe.variant, recipe.seed, recipe.init) == ("mine", "beta-vae", 0, None)
    assert recipe.architecture.latent is None and recipe.data.binarize == "none" and recipe.published is None
    assert recipe.stages[0].betas == (0.9, 0.999) and type(recipe.stages[0].learning_rate) is float
    with pytest.raises(AttributeError):
        recipe.seed = 1  # type: ignore[misc]  # frozen


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_every_recipe_of_vaezoo(name: str) -> None:
    recipe, text = read_recipe(name), find_recipe(name).read_text(encoding="utf-8")
    assert recipe.name == name and read_recipe(find_recipe(name)) == recipe
    words, command, *_ = text.splitlines()
    assert re.fullmatch(r"# \S.{20,}[.;].*", words) or words.endswith("."), "the first line describes the recipe"
    assert command == f"# vaezoo train {name}"
    assert SET_IN_NAME.get(recipe.data.name, recipe.data.name) in name or recipe.data.name == "folder:images"
    assert not ("# No weights yet." in text and name in read_index()), "remove the comment: there are weights"
    assert published_metrics(name) == recipe.published


def test_published_metrics_are_no_settings_of_the_run() -> None:
    published = {"log_evidence": -86.76, "source": "Burda et al., 2016", "note": "tanh"}
    recipe, plain = read_recipe(tables(published=published)), read_recipe(tables())
    assert recipe.published is not None and recipe.published.metrics == {"log_evidence": -86.76}
    assert recipe.published.text("log_evidence") == "-86.76 (tanh; Burda et al., 2016)"
    assert recipe.published.text("psnr") == ""
    found = read_recipe(tables(published={**published, "samples": 50, "protocol": "static", "bound": -90.0})).published
    assert (found.value("log_evidence"), found.value("bound")) == ("-86.76 (50)", "-90.00")
    assert found.origin == "tanh; Burda et al., 2016; static"
    verdicts = [
        (-86.5, 50, None, "above by 0.26"),
        (-87.0, 50, None, "below by 0.24"),
        (-86.70, 50, None, "equal within 0.1 nats"),  # less than another binarization changes
        (-80.0, 500, None, "not comparable: K = 50"),
        (-80.0, 50, 0, "not comparable: other images"),
        (None, 50, None, ""),
    ]
    for mean, samples, subset, verdict in verdicts:
        metrics = {"log_evidence": {"mean": mean}, "samples": samples, "subset_seed": subset, "split": "test"}
        metrics |= {"data": recipe.data.name, "binarization": recipe.data.binarize}
        assert found.verdict(metrics) == verdict
    assert (recipe.digest, recipe.settings, recipe.as_dict()) == (plain.digest, plain.settings, plain.as_dict())
    assert changes(recipe, plain) == [] and differ_in_length_only(recipe, plain)
    found = mistakes(tables(published={"log_evidence": "low", "source": 3}))
    assert [line.partition(": ")[0] for line in found] == ["published.source", "published.metrics[...]"]


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ({}, "below by 1.22"),  # -86.00 against -84.78
        ({"data": "fashion-mnist"}, "not comparable: mnist is published"),
        ({"binarization": "none", "measure": "density"}, "not comparable: other images"),
        ({"measure": "density"}, "not comparable: a probability is published"),
    ],
)
def test_published_figures_compare_with_measurements_of_their_data_and_measure(
    measured: dict[str, str], verdict: str
) -> None:
    facts = {"data": "mnist", "split": "test", "binarization": "static", "samples": 5000, "measure": "mass"}
    published = published_metrics("iwae-mnist")
    assert published is not None and published.metrics["log_evidence"] == -84.78
    assert published.verdict({**facts, "log_evidence": {"mean": -86.0}, **measured}) == verdict


def test_every_published_figure_has_source_and_protocol_and_a_log_evidence_its_number_of_samples() -> None:
    for name in list_recipes():
        if (found := published_metrics(name)) is not None:
            assert found.source and found.protocol and set(found.metrics) <= set(all_metrics()), name
            assert found.samples or "log_evidence" not in found.metrics, name


def test_bundled_models_have_the_digests_of_their_recipes() -> None:
    configs = [PACKAGE_FOLDER / name / "config.json" for name in read_index()]
    stored = [json.loads(path.read_bytes()).get("recipe") for path in configs if path.is_file()]
    assert stored and all(read_recipe(each["name"]).digest == each["digest"] for each in stored)


def test_mistakes_in_every_table_at_once() -> None:
    found = mistakes(
        {
            "varaint": "vae",
            "variant": "beta-vae",
            "seed": -1,
            "options": {"beta": -1, "bta": 2},
            "architecture": {"latent": [1, "a"], "backbone": "cnov"},
            "data": {"binarize": "dinamic"},
            "stage": [{"steps": 1, "epochs": 2}, {"epochs": 1, "train": ["encodr"], "batch_size": 0, "stpes": 1}, 3],
        }
    )
    starts = [
        "'varaint': unknown key. Did you mean 'variant'",
        "seed: expected a whole number >= 0; got -1",
        "data.binarize: expected one of none, dynamic, static; got 'dinamic'. Did you mean 'dynamic'?",
        "data.name: missing.",
        "architecture.latent[1]: expected a whole number; got [1, 'a']",
        "stage[1].train[0]: expected one of encoder, decoder, prior, objective; got 'encodr'",
        "stage[1].batch_size: expected a whole number >= 1; got 0",
        "stage[1].stpes: unknown key. Did you mean 'steps'?",
        "stage[2]: expected a table; got 3",
        "stage[0]: set one of steps and epochs; got steps = 1, epochs = 2",
        "options.bta: ",
        "options.beta: ",
    ]
    assert len(found) == len(starts), found
    for start in starts:
        assert any(each.startswith(start) for each in found), (start, found)
    # Names of backbone and likelihood are looked up where the architecture has no mistake of form.
    found = mistakes(tables(architecture={"backbone": "cnov", "likelihood": {"name": "gaussian", "scael": 2}}))
    assert len(found) == 2 and "'scale'" in found[1] and found[1].startswith("architecture.likelihood.scael: ")
    assert found[0].startswith("architecture.backbone: Unknown backbone 'cnov'. Did you mean 'conv' or ")


@pytest.mark.parametrize(
    ("train", "start"),
    [
        ({}, "train: set one of steps and epochs; got steps = 0, epochs = 0"),
        ({"steps": 1.5}, "train.steps: expected a whole number; got 1.5"),
        ({"steps": True}, "train.steps: expected a whole number; got True"),
        ({"steps": 10**10}, "train.steps: expected a whole number <= 1000000000; got 10000000000"),
        ({"steps": 10**30}, "train.steps: expected a finite number of at most 63 bits"),
        ({"steps": 1, "learning_rate": 0}, "train.learning_rate: expected `float` > 0"),
        ({"steps": 1, "learning_rate": float("nan")}, "train.learning_rate: expected a finite number"),
        ({"steps": 1, "betas": [0.9]}, "train.betas: expected `list` of length 2"),
        ({"steps": 1, "betas": [0.9, 1.0]}, "train.betas[1]: expected `float` < 1.0"),
        ({"steps": 1, "learning_rates": {"critic": "fast"}}, "train.learning_rates[...]: expected `float`; got"),
        ({"steps": 1, "rate_cycles": 2}, "train.rate_cycles: needs rate_warmup"),
        ({"steps": 1, "final_learning_rate": 1e-4}, "train.final_learning_rate: has no effect"),
        ({"steps": 1, "options": {"bta": 2}}, "train.options.bta: beta-vae: unknown option 'bta'. Did you mean"),
    ],
)
def test_invalid_stages(train: Tables, start: str) -> None:
    (found,) = mistakes(tables(train=train))
    assert found.startswith(start)


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"stage": [{"steps": 1}]}, "train: expected one [train] table or several"),
        ({"train": None}, "train: expected one [train] table or several [[stage]] tables; got neither."),
        ({"train": None, "stage": []}, "stage: expected [[stage]] tables"),
        ({"variant": "cvae"}, "data.context: 'cvae' needs a context"),
        ({"variant": "beta-vae+iwae"}, "variant: 'beta-vae' and 'iwae' cannot be composed"),
        ({"variant": None}, "variant: missing"),
        ({"variant": "vae\0"}, "variant: expected"),
        ({"seed": object()}, "seed: expected a finite number"),
        ({"train": {"steps": 10**5000}}, "train.steps: "),
        ({"init": ""}, "init: expected `str` of length >= 1"),
        ({"published": 3}, "published: expected a table"),
        ({"options": reduce(lambda inner, _: {"a": inner}, range(5000), {})}, "options.a.a.a"),
    ],
    ids=range(12),
)
def test_invalid_tables(changes: Tables, start: str) -> None:
    assert mistakes(tables(**changes))[0].startswith(start)


def test_a_stage_changes_the_objective_alone() -> None:
    (found,) = mistakes(tables(variant="vq-vae", train={"steps": 1, "options": {"codes": 9}}))
    assert found.startswith("train.options.codes: a stage may change the objective alone, but 'vq-vae' changes the")
    recipe = read_recipe(tables(train=None, stage=[{"steps": 1, "options": {"beta": 2.0}}, {"epochs": 3}]))
    assert recipe.stages[0].options == {"beta": 2.0} and recipe.stages[1].epochs == 3


@pytest.mark.parametrize(
    "name",
    [
        "http://x/y",
        "../digits",
        "/etc/passwd",
        "a\\b",
        "ftp:x/y",
        "folder:",
        "torchvision:../x",
        "",
        "x\0y",
        "d" * 2000,
    ],
)
def test_a_data_set_is_neither_a_path_nor_an_address(name: str) -> None:
    for valid in ("digits", "torchvision:CIFAR10", "folder:/a folder/of images", "my table"):
        assert read_recipe(tables(data={"name": valid})).data.name == valid
    assert mistakes(tables(data={"name": name}))[0].startswith("data.name: expected ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"variant = ", "cannot be read as TOML"),
        (b"variant = '\xff'", "cannot be read as TOML"),
        (b"a = " + b"[" * 20_000 + b"]" * 20_000, "cannot be read as TOML"),
        (b"seed = " + b"9" * 5000, "cannot be read as TOML"),
        (b"# " + b"x" * 2**20, "longer than"),
        (b"seed = 2020-01-01", "seed: expected a finite number"),
    ],
    ids=lambda value: repr(value[:16]),
)
def test_invalid_files(tmp_path: Path, text: bytes, reason: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text)
    with pytest.raises(RecipeError, match=reason) as caught:
        read_recipe(path)
    assert "mine" in str(caught.value)


@pytest.mark.parametrize("name", ["nope", "../vae-mnist", "vae-mnist\0", "\0.toml", "a" * 5000 + ".toml", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UnknownNameError, match="Unknown recipe"):
        find_recipe(name)
    with pytest.raises(UnknownNameError, match="Did you mean 'vae-mnist'"):
        find_recipe("vae-minst")


def test_a_folder_beside_an_installed_package_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "vaezoo"
    for folder in (package, package / "recipes", package.parent / "recipes"):
        folder.mkdir(parents=True, exist_ok=True)
    (package / "recipes" / "own.toml").touch()
    (package.parent / "recipes" / "foreign.toml").touch()
    monkeypatch.setattr(reading, "PACKAGE", package)
    assert set(list_recipes()) == {"own"}
    (package.parent / "pyproject.toml").touch()
    assert set(list_recipes()) == {"own", "foreign"}


def test_dotted_and_bare_overrides() -> None:
    recipe = read_recipe(
        tables(),
        ["steps=20", "train.batch_size=7", "beta=2", "latent = [2]", "data.binarize=dynamic", "init=a/b"],
        seed=3,
    )
    assert (recipe.stages[0].steps, recipe.stages[0].batch_size, recipe.seed) == (20, 7, 3)
    assert (recipe.options, recipe.architecture.latent) == ({"beta": 2}, [2])
    assert (recipe.data.binarize, recipe.init) == ("dynamic", "a/b")
    assert read_recipe(tables(), ["epochs=2"]).stages[0].steps == 0
    assert read_recipe(tables(), [], epochs=2, steps=3).stages[0].epochs == 0
    assert read_recipe(tables(), ["steps=7", "epochs=0"]).stages[0].steps == 7
    composed = tables(variant="conv-vae+iwae")
    assert read_recipe(composed, ["options.iwae.samples=3"]).options == {"iwae.samples": 3}
    assert read_recipe(composed, ["samples=3"]).options == {"samples": 3}


def test_overrides_of_a_backbone_and_of_stages() -> None:
    given = tables(architecture={"backbone": "mlp"})
    recipe = read_recipe(given, ["architecture.backbone.hidden=[8, 4]", "architecture.likelihood={name='gaussian'}"])
    assert recipe.architecture.backbone == {"name": "mlp", "hidden": [8, 4]}
    assert recipe.architecture.likelihood == {"name": "gaussian"}
    assert given == tables(architecture={"backbone": "mlp"}), "the caller's tables are unchanged"
    assert "backbone={name='mlp'" in mistakes(tables(), "architecture.backbone.hidden=[8]")[0]
    given = tables(train=None, stage=[{"steps": 1}, {"steps": 2}])
    recipe = read_recipe(given, ["stage.1.steps=7", "stage.0.epochs=3", "train.batch_size=4", "learning_rate=0.5"])
    assert [(s.steps, s.epochs) for s in recipe.stages] == [(0, 3), (7, 0)]
    assert all((s.batch_size, s.learning_rate) == (4, 0.5) for s in recipe.stages)
    assert "stage.2.steps" in mistakes(given, "stage.2.steps=1")[0]
    assert mistakes(given, "stage.0.stpes=1")[0].startswith("stage[0].stpes: unknown key")


def test_a_whole_float_is_an_integer_in_recipes_and_overrides() -> None:
    settings = {"train.steps": 100, "seed": 7, "data.validation": 50, "data.size": [8, 9], "latent": [4, 2, 2]}
    expected = read_recipe(tables(), **settings)
    found = read_recipe(
        tables(train={"steps": 1e2}, seed=7.0, data={"name": "digits", "validation": 5e1, "size": [8.0, 9]}),
        ["latent=[4.0, 2e0, 2]"],
    )
    assert found == expected and found.digest == expected.digest
    assert [type(each) for each in (found.stages[0].steps, found.seed, found.data.validation)] == [int] * 3
    assert read_recipe(tables(), ["steps=1e2", "learning_rate=1e0"]).stages[0].steps == 100
    assert read_recipe(tables(variant="iwae"), ["samples=5e0"]).options == {"samples": 5}
    assert mistakes(tables(variant="iwae"), "samples=1.5") == [
        "options.samples: variant iwae: option samples: expected a whole number from 1 to 100,000; got 1.5."
    ]


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("steps", "override 'steps': expected key=value"),
        ("=3", "override '=3': expected key=value"),
        ("bta=3", "override 'bta' is unknown. Did you mean 'beta'"),
        ("trian.steps=3", "'trian': unknown key. Did you mean 'train'"),
        ("train.stepz=3", "train.stepz: unknown key. Did you mean 'steps'?"),
        ("train.steps.x=3", "override 'train.steps.x': the recipe has no table"),
        ("train=3", "override 'train'"),
        ("steps=many", "train.steps: expected a whole number; got 'many'"),
        ("steps=1.5", "train.steps: expected a whole number; got 1.5"),
        ("clip=inf", "clip: expected a finite number"),
        ("steps=" + "9" * 5000, "steps: expected a finite number"),
        ("options=" + "[" * 9999, "options: expected"),
    ],
    ids=lambda value: value[:16],
)
def test_overrides_with_mistakes(override: str, start: str) -> None:
    assert mistakes(tables(), override)[0].startswith(start)


def test_a_recipe_can_be_read_back_from_its_tables_and_its_digest_covers_the_settings() -> None:
    for given in (tables(name="x"), tables(train=None, stage=[{"steps": 1, "betas": [0.5, 0.9]}, {"epochs": 2}])):
        recipe = read_recipe(given)
        written = json.loads(json.dumps(recipe.as_dict()))
        assert read_recipe(written) == recipe and read_recipe(written).digest == recipe.digest
        assert "stages" not in written
    digest = read_recipe(tables()).digest
    assert digest == "2f5c17f8ac848c777df80d3ecfb72c418e124c4ad853d58e938723148ca9db1a"
    same = tables(name="other", seed=0, train={"steps": 10, "batch_size": 128, "betas": [0.9, 0.999]})
    assert read_recipe(same).digest == digest
    others: list[Tables] = [{"seed": 1}, {"options": {"beta": 3}}, {"train": {"epochs": 10}}, {"variant": "vae"}]
    assert len({digest, *(read_recipe(tables(**each)).digest for each in others)}) == 5


@pytest.mark.parametrize(
    "source", [3, None, [], {"variant": {}}, {"train": 1, "stage": 2, "data": 3, "architecture": 4, "options": 5}]
)
def test_every_error_is_a_vaezoo_error(source: object) -> None:
    with pytest.raises(VaezooError):
        read_recipe(source)  # type: ignore[arg-type]
