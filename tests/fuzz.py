"""Fuzzes one door with atheris, by hand: `pip install atheris`, then `python tests/fuzz.py config 60`.

The doors: config, index, recipe, header. Only VaezooErrors may escape, and no input may take a second or 256 MiB. The
first bytes of a good file are the corpus. Half of the inputs that are JSON get the digest they need to come further in.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vaezoo", "json", "tomllib", "msgspec"]):
    import torch
    from mutations import RECIPE_TEXT, config_of, small, split

    from vaezoo.documents import parse_json, seal
    from vaezoo.errors import VaezooError
    from vaezoo.recipe import read_recipe
    from vaezoo.recipe.reading import parse_toml
    from vaezoo.zoo.config import check_config
    from vaezoo.zoo.folder import CONFIG, WEIGHTS, meta_twin, parse_state
    from vaezoo.zoo.header import check_header, check_sizes
    from vaezoo.zoo.index import ROOM, parse_index

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


DOORS: dict[str, tuple[Callable[[bytes], None], bytes]] = {
    "config": (config, (GOOD / CONFIG).read_bytes()),
    "index": (index, json.dumps(json.loads((ROOM / "index.json").read_bytes())).encode()[:4000] + b"}}}"),
    "recipe": (recipe, RECIPE_TEXT.encode()),
    "header": (header, json.dumps(split((GOOD / WEIGHTS).read_bytes())[0]).encode()),
}


def main() -> None:
    door, seed = DOORS[sys.argv[1]]
    corpus = Path(PLACE.name) / "corpus"
    corpus.mkdir()
    (corpus / "seed").write_bytes(seed)
    torch.set_num_threads(1)
    slowest = 0.0

    def one(data: bytes) -> None:
        nonlocal slowest
        start = time.perf_counter()
        with suppress(VaezooError):
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
