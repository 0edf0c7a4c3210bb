"""Fuzzes one door with atheris, by hand: `pip install atheris`, then `python tests/support/fuzz.py config 60`.

The doors: config, index, recipe, header. Only VaezooErrors may escape, and no input may take a second. Inputs are bytes
of such a file, or choose what to change in a good one; what needs a digest to come further in gets the right one.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vaezoo", "json", "tomllib", "msgspec"]):
    import torch

    from support.mutations import KEYS, RECIPE_TEXT, VALUES, changed, config_of, small, split
    from vaezoo.errors import VaezooError
    from vaezoo.recipe import read_recipe
    from vaezoo.recipe.reading import parse_toml
    from vaezoo.storage.config import check_config
    from vaezoo.storage.documents import parse_json, seal
    from vaezoo.storage.header import check_header, check_sizes
    from vaezoo.storage.model_folder import WEIGHTS, meta_twin, parse_state
    from vaezoo.zoo.index import PACKAGE_FOLDER, parse_index

PLACE = tempfile.TemporaryDirectory()
GOOD = small(Path(PLACE.name) / "model")
TWIN = meta_twin(config_of(GOOD)).state_dict()
BODY = split((GOOD / WEIGHTS).read_bytes())[1]


def config(data: bytes) -> None:
    value = parse_json(data, "fuzz", 2**16)
    if isinstance(value, dict):
        value.pop("digest", None)
        check_config(value)
        meta_twin(value)


def index(data: bytes) -> None:
    try:
        parse_index(data)
    except VaezooError:
        value = parse_json(data, "fuzz")
        if isinstance(value, dict):
            parse_index(seal(value))


def recipe(data: bytes) -> None:
    try:
        tables = parse_toml(data)
    except (ValueError, RecursionError):
        return  # what `read_toml` makes a RecipeError of
    read_recipe(tables)


def header(data: bytes) -> None:
    whole = len(data).to_bytes(8, "little") + data + BODY
    for file in (whole, data):
        with suppress(VaezooError):
            check_sizes(len(file), file[:8], TWIN, "fuzz")
            check_header(file, TWIN, "fuzz")
            parse_state(file, "fuzz")


def varied(data: bytes, good: object) -> object:
    """Returns a good value with up to three things changed."""
    choice = atheris.FuzzedDataProvider(data)
    value = good
    for _ in range(choice.ConsumeIntInRange(1, 3)):
        place, how = choice.ConsumeIntInRange(0, 300), choice.ConsumeIntInRange(0, 3)
        new = choice.PickValueInList([*VALUES, choice.ConsumeInt(9), choice.ConsumeUnicode(20), choice.ConsumeFloat()])
        key = choice.PickValueInList([*KEYS, choice.ConsumeUnicode(10)])
        value = changed(value, place, how, key, new)
    return value


MODELS = json.loads((PACKAGE_FOLDER / "index.json").read_bytes())["models"]
HEADER = split((GOOD / WEIGHTS).read_bytes())[0]
DOORS: dict[str, tuple[Callable[[bytes], None], object]] = {
    "config": (config, config_of(GOOD)),
    "index": (index, {"models": dict(list(MODELS.items())[:1])}),
    "recipe": (recipe, tomllib.loads(RECIPE_TEXT)),
    "header": (header, HEADER),
}


def main() -> None:
    door, good = DOORS[sys.argv[1]]
    seed = RECIPE_TEXT.encode() if door is recipe else json.dumps(good).encode()
    corpus = Path(PLACE.name) / "corpus"
    corpus.mkdir()
    (corpus / "seed").write_bytes(seed)
    (corpus / "change").write_bytes(b"\xff" + bytes(range(64)))
    torch.set_num_threads(1)
    slowest = 0.0

    def one(data: bytes) -> None:
        nonlocal slowest
        start = time.perf_counter()
        with suppress(VaezooError):
            if data[:1] >= b"\x80":  # no text begins like this: the rest says what to change
                value = varied(data[1:], good)
                read_recipe(value) if door is recipe and isinstance(value, dict) else door(json.dumps(value).encode())
            else:
                door(data)
        took = time.perf_counter() - start
        if took > slowest:
            slowest = took
            print(f"slowest: {took * 1000:.1f} ms for {len(data)} bytes", file=sys.stderr)
        assert took < 1.0, f"took {took:.2f} s"

    limits = [f"-max_total_time={sys.argv[2]}", "-rss_limit_mb=4096", "-max_len=16384", "-timeout=5"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, f"-artifact_prefix={os.getcwd()}{os.sep}"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
