"""Random names, configs, recipes and headers: valid, or refused with a VaezooError."""

import tempfile
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.mutations import (
    KEYS,
    NAMES,
    RECIPE_TEXT,
    VALUES,
    changed,
    config_of,
    joined,
    small,
    split,
    write_config,
    write_weights,
)

import vaezoo
from vaezoo.errors import VaezooError
from vaezoo.hub.client import Repository
from vaezoo.recipe import find_recipe, read_recipe
from vaezoo.registry import registry as registered
from vaezoo.storage.config import read_config
from vaezoo.storage.model_folder import WEIGHTS, read_weights

#: the same examples at every run but the deep one
QUICK = settings(
    max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
FULL = settings(QUICK, max_examples=2_000)
DEEP = settings(QUICK, max_examples=100_000, derandomize=False)

FRAGMENTS = [*NAMES, *KEYS, *vaezoo.list_models(), *vaezoo.list_variants(), "/", "+", "@", "hf:", "~", "\\", ":", " "]
FRAGMENTS = [each for each in FRAGMENTS if len(each) < 500]
names = st.one_of(
    st.text(max_size=300),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5)), max_size=5).map("".join),
)
plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(FRAGMENTS)
)
values = st.one_of(
    st.sampled_from(VALUES),
    st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
)
changes = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 3), st.one_of(st.sampled_from(KEYS), st.text(max_size=10)), values),
    min_size=1,
    max_size=3,
)


PLACE = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


@cache
def place() -> Path:
    """Returns a folder with a small model, in memory where possible."""
    return small(Path(PLACE.name) / "model")


@pytest.fixture(autouse=True, scope="module")
def entry_points_are_listed_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registered, "entry_points", cache(registered.entry_points))
        yield


def survives(function: Callable[[], object]) -> bool:
    """Returns whether a call succeeds; False after a VaezooError, other exceptions propagate."""
    try:
        function()
    except VaezooError as error:
        assert len(str(error)) < 100_000
        return False
    return True


def after(value: object, several: list[tuple[int, int, str, object]]) -> object:
    for where, how, key, new in several:
        value = changed(value, where, how, key, new)
    return value


def check_name(name: str) -> None:
    if survives(lambda: Repository.of(name)):
        repository = Repository.of(name)
        assert ".." not in str(repository) and repository.name.count("/") == 1
    elif name.startswith("hf:"):
        assert not survives(lambda: vaezoo.load(name))  # the others would be requested from the Hub
    if not name.startswith("hf:") and survives(lambda: vaezoo.load(name)):
        assert name in vaezoo.list_models()
    if survives(lambda: vaezoo.create(name, shape=4)):
        assert {each.strip() for each in name.split("+")} <= set(vaezoo.list_variants())
    survives(lambda: vaezoo.create("vae", shape=4, backbone=name, likelihood={"name": name}))
    survives(lambda: vaezoo.info(name))
    survives(lambda: find_recipe(name))


def check_config(several: list[tuple[int, int, str, object]]) -> None:
    good = config_of(place())
    good["data"] = {"name": "mnist", "binarize": "none", "digest": None}
    good["recipe"] = {"name": "x", "digest": "y", "extensions": []}
    write_config(place(), after(good, several))
    try:
        survives(lambda: vaezoo.load(place()))
    finally:
        write_config(place(), good)


RECIPE = tomllib.loads(RECIPE_TEXT)


def check_recipe(several: list[tuple[int, int, str, object]]) -> None:
    tables = after(RECIPE, several)
    if isinstance(tables, dict) and survives(lambda: read_recipe(tables)):
        assert read_recipe(read_recipe(tables).as_dict()) == read_recipe(tables)


def check_recipe_text(text: str) -> None:
    path = place() / "recipe.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    survives(lambda: read_recipe(path))


def check_header(several: list[tuple[int, int, str, object]], tail: int) -> None:
    good = (place() / WEIGHTS).read_bytes()
    header, body = split(good)
    try:
        write_weights(place(), joined(after(header, several), body[: max(0, len(body) + tail)] + bytes(max(0, tail))))
        survives(lambda: read_weights(place(), read_config(place())))
    finally:
        write_weights(place(), good)


lines = st.sampled_from(
    ['variant = "vae"', "[data]", 'name = "mnist"', "[train]", "steps = 1", "[[stage]]", "[options]", "beta = 1.0"]
)
words = st.one_of(
    lines, st.sampled_from(FRAGMENTS), st.text(max_size=20), st.sampled_from(['"', "=", "[", "]", "{", "."])
)
recipes = st.tuples(st.lists(words, max_size=12), st.sampled_from(["\n", " ", ""])).map(
    lambda each: each[1].join(each[0])
)
CHECKS: dict[str, tuple[Callable[..., None], Any]] = {
    "names": (check_name, given(names)),
    "configs": (check_config, given(changes)),
    "recipes": (check_recipe, given(changes)),
    "recipes' text": (check_recipe_text, given(recipes)),
    "headers": (check_header, given(changes, st.integers(-4, 4))),
}


RUNS = [
    pytest.param(QUICK, id="quick"),
    pytest.param(FULL, id="full", marks=pytest.mark.full),
    pytest.param(DEEP, id="deep", marks=pytest.mark.deep),
]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("kind", CHECKS)
def test_only_vaezoo_errors_are_raised(kind: str, run: settings) -> None:
    check, inputs = CHECKS[kind]
    run(inputs(check))()  # decorated here, since a function takes settings only once


def test_unchanged_model_and_recipe_are_valid() -> None:
    assert survives(lambda: vaezoo.load(place()))
    assert survives(lambda: read_recipe(RECIPE))
    assert not survives(lambda: vaezoo.load("no such model"))
    with pytest.raises(ZeroDivisionError):
        survives(lambda: 1 / 0)
