"""Damaged files, and sizes made to exhaust time or memory: refused before any value is used."""

import json
import os
import random
import resource
import shutil
import sys
import time
import typing
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cases import ONE_EACH, Case
from support.forks import Forks, ended, forked
from support.mutations import config_of, joined, small, split, write_config, write_weights

import vaezoo
from vaezoo.errors import CorruptWeightsError, VaezooError
from vaezoo.storage.config import CONFIG, read_config
from vaezoo.storage.json_files import LARGEST_JSON, canonical
from vaezoo.storage.model_folder import WEIGHTS, meta_twin, read_metrics, read_weights
from vaezoo.zoo.index import PACKAGE_FOLDER, parse_index


@pytest.fixture
def folder(quick_path: Path) -> Path:
    return small(quick_path / "model")


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits(first: int, last: int, count: int) -> list[int]:
    """Returns `count` different bits of the bytes from `first` to `last`, or all where there are fewer."""
    every = range(8 * first, 8 * last)
    return random.Random(0).sample(every, min(count, len(every)))


# Damage: a sample in the daily run, everything in the full one
SAMPLES = [pytest.param(True, id="sample"), pytest.param(False, id="all", marks=pytest.mark.full)]


@pytest.mark.parametrize("sample", SAMPLES)
def test_truncated_weights_are_refused(folder: Path, sample: bool) -> None:
    path = folder / WEIGHTS
    data = path.read_bytes()
    for length in range(0, len(data), 23 if sample else 1):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptWeightsError, match=rf"has {length} bytes; expected {len(data)}"):
            vaezoo.load(folder)
    for longer in (data + b"\0", data + data):
        path.write_bytes(longer)
        with pytest.raises(CorruptWeightsError, match=f"expected {len(data)}"):
            vaezoo.load(folder)
    path.write_bytes(data)
    assert vaezoo.load(folder).config is not None


@pytest.mark.parametrize("sample", SAMPLES)
def test_flipped_bit_of_the_weights_is_refused(folder: Path, sample: bool) -> None:
    path = folder / WEIGHTS
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    count = 60 if sample else 1000
    chosen = [bits(8, end, count), bits(end, len(data), count)]
    assert [len(each) for each in chosen] == [count, count]
    config = read_config(folder)
    for number, bit in enumerate(chosen[0] + chosen[1]):
        path.write_bytes(flipped(data, bit))
        with pytest.raises(CorruptWeightsError, match="SHA-256"):
            read_weights(folder, config) if number % 20 else vaezoo.load(folder)
    for bit in bits(0, 8, 64):  # the header's length
        path.write_bytes(flipped(data, bit))
        with pytest.raises(CorruptWeightsError, match=r"SHA-256|claims a header"):
            read_weights(folder, config)


@pytest.mark.parametrize("sample", SAMPLES)
def test_damaged_config_or_index_is_refused_or_has_the_same_values(folder: Path, sample: bool) -> None:
    def config(damaged: bytes) -> object:
        (folder / CONFIG).write_bytes(damaged)
        return read_config(folder)

    for read, data, count, step, words in (
        (config, (folder / CONFIG).read_bytes(), 300 if sample else 10**6, 29 if sample else 1, "config.json"),
        (parse_index, (PACKAGE_FOLDER / "index.json").read_bytes(), 40, 999, "index of pretrained models"),
    ):
        good, refused = read(data), 0
        cuts = [data[:length] for length in range(0, len(data), step)]
        damages = [flipped(data, bit) for bit in bits(0, len(data), count)] + cuts
        for damaged in damages:
            try:
                assert read(damaged) == good
            except CorruptWeightsError as error:
                assert words in str(error)
                refused += 1
        assert refused > 0.9 * len(damages)


def test_changed_value_is_refused_and_another_layout_loads(folder: Path) -> None:
    """Editors add newlines and change indents; values have a digest."""
    text = (folder / CONFIG).read_text()
    for same in (
        text + "\n",
        text.replace("\n", "\r\n"),
        json.dumps(json.loads(text)),
        json.dumps(json.loads(text), indent=8),
    ):
        (folder / CONFIG).write_text(same)
        assert vaezoo.load(folder).config is not None
    values = json.loads(text)
    for changed in (text.replace('"examples": 0', '"examples": 1'), json.dumps({**values, "digest": "0" * 64})):
        (folder / CONFIG).write_text(changed)
        with pytest.raises(CorruptWeightsError, match="digest"):
            vaezoo.load(folder)
    del values["digest"]
    (folder / CONFIG).write_text(json.dumps(values))
    with pytest.raises(CorruptWeightsError, match="digest"):
        vaezoo.load(folder)


def test_bundled_model_is_compared_with_the_index_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaezoo.zoo import index

    shutil.copytree(PACKAGE_FOLDER / "cvae-mnist", tmp_path / "cvae-mnist")
    for file in ("index.json", "cvae-mnist/config.json", "cvae-mnist/metrics.json"):
        (tmp_path / file).write_text(json.dumps(json.loads((PACKAGE_FOLDER / file).read_bytes()), indent=3) + "\n\n")
    monkeypatch.setattr(index, "PACKAGE_FOLDER", tmp_path)
    index.read_index.cache_clear()
    try:
        assert vaezoo.load("cvae-mnist").context == 10
        (tmp_path / "cvae-mnist" / CONFIG).write_bytes((PACKAGE_FOLDER / "vae-mnist" / CONFIG).read_bytes())
        with pytest.raises(CorruptWeightsError, match="the index has"):
            vaezoo.load("cvae-mnist")
    finally:
        index.read_index.cache_clear()


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    header, body = split((folder / WEIGHTS).read_bytes())
    for value in (torch.nan, torch.inf, -torch.inf):
        wrong = torch.tensor([value]).numpy().tobytes()
        for place in range(0, len(body), 44):
            write_weights(folder, joined(header, body[:place] + wrong + body[place + 4 :]))
            with pytest.raises(CorruptWeightsError, match="NaN or infinite values"):
                vaezoo.load(folder)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_another_floating_type_is_kept_if_all_tensors_have_it(folder: Path, kind: torch.dtype) -> None:
    vaezoo.save(vaezoo.load(folder, dtype=kind), folder)
    model = vaezoo.load(folder)
    assert {tensor.dtype for tensor in (*model.parameters(), *model.buffers())} == {kind}
    assert torch.equal(model.sample(3, seed=0), vaezoo.load(folder).sample(3, seed=0))
    header, body = split((folder / WEIGHTS).read_bytes())
    name = next(iter(header))
    other = "F16" if kind is not torch.float16 else "F64"
    facts = header[name]
    assert isinstance(facts, dict)
    facts["dtype"] = other
    write_weights(folder, joined(header, body))
    with pytest.raises(CorruptWeightsError, match="Different"):
        vaezoo.load(folder)


# Wrong headers, in files whose config has the right size and hash

BIAS = "decoder.network.head.bias"
EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
HEADERS: dict[str, Callable[[Any], object]] = {
    "shape of zero size": lambda header: header | {"../../x": EMPTY | {"shape": [0, 2**60]}},
    "a path for a name": lambda header: header | {"/etc/passwd": EMPTY},
    "metadata": lambda header: header | {"__metadata__": {"_target_": "os.system"}},
    "metadata with a table": lambda header: header | {"__metadata__": {"a": {"b": 1}}},
    "an entry is a number": lambda header: header | {"../../x": 1},
    "nothing": lambda header: {},
    "a list": lambda header: [header],
    "null": lambda header: None,
    "one is missing": lambda header: dict(list(header.items())[1:]),
}
ENTRIES: list[dict[str, object]] = [
    *({"shape": shape} for shape in (5, None, ["5"], [True], [2**64], [-5])),
    *({"dtype": dtype} for dtype in ("F4", ["F32"])),
    *({"data_offsets": offsets} for offsets in ([20, 0], [0, 2**62], [2**70, 2**70 + 20], ["0", "20"], [4, 24], [0])),
    {"_target_": "os.system"},
]
HEADERS |= {str(facts): lambda header, facts=facts: header | {BIAS: header[BIAS] | facts} for facts in ENTRIES}


@pytest.mark.parametrize("name", HEADERS)
def test_wrong_header_is_refused(folder: Path, name: str) -> None:
    header, body = split((folder / WEIGHTS).read_bytes())
    write_weights(folder, joined(HEADERS[name](header), body))
    with pytest.raises(CorruptWeightsError, match=r"model\.safetensors"):
        vaezoo.load(folder)


def test_duplicate_tensor_name_is_refused(folder: Path) -> None:
    header, body = split((folder / WEIGHTS).read_bytes())
    name = next(iter(header))
    text = json.dumps(header).replace("{", "{" + json.dumps({name: header[name]})[1:-1] + ", ", 1).encode()
    write_weights(folder, len(text).to_bytes(8, "little") + text + body)
    with pytest.raises(CorruptWeightsError, match="duplicate key"):
        vaezoo.load(folder)


# Sizes


MLP = {"name": "mlp", "hidden": [5], "activation": "relu"}
CONV = {"name": "conv", "channels": [8192] * 8, "dense": [8192] * 8, "blocks": 16, "kernel": 7}
SLIM = CONV | {"channels": [1], "dense": [], "blocks": 0}
GRID = {"shape": [1, 4096, 4096]}
#: changes of the architecture, and "variant" and "options" of the config
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "a latent of 10^9": {"latent": [10**9]},
    "a latent of 10^9 in eight": {"latent": [10] * 7 + [100]},
    "a shape of 2^24": {"shape": [2**24], "latent": [2**24]},
    "a shape of 2^62 to the eighth": {"shape": [2**62] * 8},
    "a context of 2^24": {"context": 2**24},
    "a wide perceptron": {"backbone": MLP | {"hidden": [65536] * 64}},
    "a deep perceptron": {"backbone": MLP | {"hidden": [2000] * 64}},
    "a wide convolution": GRID | {"backbone": CONV},
    "a fine latent grid": GRID | {"latent": [4, 2048, 2048], "backbone": SLIM},
    "a critic that no file records": {"variant": "factor-vae", "options": {"factor-vae.critic_hidden": [16000] * 2}},
    "a codebook": {
        "variant": "vq-vae", "options": {"vq-vae.codes": 65536},
        "shape": [1, 8, 8], "latent": [65536, 4, 4], "backbone": SLIM,
    },
    "50,000 variants": {"variant": "vae+" * 50_000 + "vae"},
    "200 variants": {"variant": "vae+" * 200 + "vae"},
    "3,000 options": {"options": {f"o{n}": n for n in range(3000)}},
    "200 options": {"options": {f"o{n}": n for n in range(200)}},
    "lists": {"options": {"vae.x": [[]] * 8_000}},
}  # fmt: skip
DOCUMENTS = {
    "depth 100,000": b"[" * 100_000 + b"]" * 100_000,
    "depth 30,000": b"[" * 30_000 + b"]" * 30_000,
    "depth 9,000 of tables": b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
    "depth 300 and wide": b"[" * 300 + b",".join([b"0"] * 30_000) + b"]" * 300,
    "a number of a million digits": b"9" * 1_000_000,
    "a number of 60,000 digits": b"9" * 60_000,
}


def hostile_folders(place: Path) -> dict[str, Path]:
    """Writes folders made to take time or memory; digests are correct where they can be."""
    header, body = split((small(place / "good") / WEIGHTS).read_bytes())
    good, huge = config_of(place / "good"), 100 * 2**20 + 1
    claim = huge.to_bytes(8, "little")
    weights = {
        "a header of 100 MiB and a byte": claim + b"{" + b" " * (huge - 2) + b"}" + body,
        "a header that claims 2^63": (2**63).to_bytes(8, "little") + b"{}" + body,
        "100,000 tensors": joined({f"t{n}": EMPTY for n in range(100_000)}, b""),
        "a shape of (0, 2^60)": joined(header | {"x": EMPTY | {"shape": [0, 2**60]}}, body),
    }

    def config(changes: dict[str, Any]) -> dict[str, object]:
        outer = {key: changes[key] for key in ("variant", "options") if key in changes}
        inner = {key: value for key, value in changes.items() if key not in outer}
        return {**good, **outer, "architecture": {**good["architecture"], **inner}}  # type: ignore[dict-item]

    configs = {name: config(changes) for name, changes in ARCHITECTURES.items()}
    configs["a config of 10 MB"] = good | {"vaezoo": "x" * 10**7}
    # A sparse file of 640 MB whose size the config records is not read either.
    size = 8 + huge + 4 * (2 * 2**20 * 64 + 2**20)
    record = {"weights": {"file": WEIGHTS, "size": size, "sha256": "0" * 64}}
    configs["a large model"] = config({"shape": [2**20], "latent": [8], "backbone": MLP | {"hidden": [64]}}) | record
    found = {name: small(place / name.replace(" ", "-")) for name in (*weights, *configs, *DOCUMENTS)}
    for name, folder in found.items():
        if name in weights:
            write_weights(folder, weights[name])
        elif name in configs:
            write_config(folder, configs[name])
        else:
            (folder / CONFIG).write_bytes(DOCUMENTS[name])
    with open(found["a large model"] / WEIGHTS, "wb") as file:
        file.write(claim)
        file.truncate(size)
    return found


def measured(work: Callable[[], object]) -> list[object]:
    """Runs `work` in a fork: its result, seconds, additional memory in MiB, and processor seconds."""
    read, write = os.pipe()

    def child() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, busy = time.perf_counter(), time.process_time()
        try:
            work()
            result = "done"
        except VaezooError as error:
            result = f"{type(error).__name__}: {error}"
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        os.write(write, json.dumps([result[:2000], seconds, memory, busy]).encode())

    number = forked(child)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    status = ended(number)
    assert status == 0, status
    found: list[object] = json.loads(answer)
    return found


def weigh(name: str) -> list[object]:
    """Loads a folder in a fork of this process."""
    import vaezoo.workflows.load  # its imports do not count

    vaezoo.load("vae-mnist")
    return measured(partial(vaezoo.load, Path(name)))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise elsewhere")
def test_hostile_sizes_take_neither_time_nor_memory(quick_path: Path, forks: Forks) -> None:
    folders = hostile_folders(quick_path)
    result, seconds, memory, _ = forks.call(weigh, name=str(quick_path / "good"))
    assert result == "done" and seconds < 1 and memory < 64
    for name, folder in folders.items():
        result, seconds, memory, _ = forks.call(weigh, name=str(folder))
        print(f"{name}: {seconds * 1000:.0f} ms, {memory:.1f} MiB, {result[:150]}")
        assert result != "done" and seconds < 1 and memory < 64, (name, result, seconds, memory)
    model = vaezoo.create("vae", shape=(64,), latent=2, backbone={"name": "mlp", "hidden": [3600, 3600]})
    result, _, memory, _ = forks.call(weigh, name=str(vaezoo.save(model, quick_path / "large")))
    assert result == "done" and memory > 100  # the memory of a large model is measured


@pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes")
@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_pipe_or_device_instead_of_a_file_is_refused(folder: Path, file: str) -> None:
    path = folder / file
    for replace in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        path.unlink()
        replace()
        with pytest.raises(VaezooError):
            vaezoo.load(folder)


def test_invalid_metrics_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    for text, words in (
        (canonical({"a": "x" * LARGEST_JSON}), "bytes"),
        ("[1]", "json"),
        ("{", "json"),
        ("NaN", "json"),
    ):
        path.write_text(text)
        with pytest.raises(CorruptWeightsError, match=words):
            read_metrics(tmp_path)


def largest(kind: Any) -> object:
    """Returns the largest value that an option may have, by its annotation."""
    bounds: dict[str, Any] = {}
    while typing.get_origin(kind) is typing.Annotated:
        kind, *marks = typing.get_args(kind)
        for mark in marks:
            given = {name: getattr(mark, name) for name in ("le", "lt", "max_length")}
            bounds |= {name: value for name, value in given.items() if value is not None}
    if typing.get_origin(kind) is tuple:
        return [largest(typing.get_args(kind)[0])] * bounds["max_length"]
    if kind is int:
        return bounds["le"] if "le" in bounds else bounds["lt"] - 1
    return None


def grown(case: Case) -> dict[str, dict[str, object]]:
    """Returns configs with each option of a variant at its largest value, all of them, and large latents."""
    create = {"shape": list(case.shape), "context": case.context, "latent": [2], "examples": 10}
    found = {
        entry.name + "." + option.name: value
        for entry in case.entries
        for option in entry.options.values()
        if (value := largest(option.type)) is not None
    }
    wide = {key: [64] * len(value) if isinstance(value, list) else value for key, value in found.items()}
    configs: dict[str, dict[str, object]] = {key: {**create, key: value} for key, value in found.items()}
    configs |= {f"{key} of 64": {**create, key: value} for key, value in wide.items() if value != found[key]}
    configs |= {"all": {**create, **found}, "all, narrow": {**create, **wide}}
    return configs | {f"latent {size}": {**create, "latent": [size]} for size in (2**12, 2**18, 2**24)}


def build_in_forks(variant: str, configs: dict[str, dict[str, object]]) -> dict[str, list[object]]:
    """Builds the twin that `load` compares a header with, each in a fork; see `measured`."""
    from vaezoo.registry import create

    def twin(config: dict[str, Any]) -> object:
        facts = {key: config[key] for key in ("shape", "latent", "context", "examples")}
        rest = {"backbone": {"name": "mlp"}, "likelihood": {"name": "bernoulli"}}
        options = {key: value for key, value in config.items() if key not in facts}
        return meta_twin({"variant": variant, "architecture": facts | rest, "options": options})

    with torch.device("meta"), suppress(VaezooError):
        create(variant, shape=8, latent=2, context=3)  # its imports do not count
    return {name: measured(partial(twin, config)) for name, config in configs.items()}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise elsewhere")
@pytest.mark.full
@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_largest_options_take_neither_time_nor_memory(case: Case, forks: Forks) -> None:
    answers = forks.call(build_in_forks, variant=case.variant, configs=grown(case))
    for name, (result, _, memory, seconds) in answers.items():
        print(f"{case.variant}, {name}: {seconds * 1000:.0f} ms, {memory:.1f} MiB, {result[:100]}")
    assert all(seconds < 1 and memory < 64 for _, _, memory, seconds in answers.values()), answers
