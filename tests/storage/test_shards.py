"""Weights in several files."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from support.mutations import config_of, write_config

import vaezoo
from vaezoo.errors import ConfigError, CorruptWeightsError
from vaezoo.storage.config import CONFIG, file_names
from vaezoo.storage.json_files import sha256
from vaezoo.storage.model_folder import WEIGHTS, published_state, read_model
from vaezoo.storage.weight_files import packed

SHARD = 2_500


@pytest.fixture
def model() -> vaezoo.VAE:
    torch.manual_seed(1)
    return vaezoo.create("vae", shape=(1, 8, 8), latent=2, backbone={"name": "mlp", "hidden": [16]}).eval()


@pytest.fixture
def folder(model: vaezoo.VAE, tmp_path: Path) -> Path:
    return vaezoo.save(model, tmp_path / "large", shard_size=SHARD)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def replace(folder: Path, number: int, data: bytes) -> None:
    """Replaces the bytes of a shard and its record in the config."""
    config: dict[str, Any] = config_of(folder)
    table = config["weights"]["files"][number]
    table |= {"size": len(data), "sha256": sha256(data)}
    (folder / table["file"]).write_bytes(data)
    write_config(folder, config)


def test_large_weights_are_split_and_load_equal(model: vaezoo.VAE, folder: Path) -> None:
    config: dict[str, Any] = config_of(folder)
    count = len(config["weights"]["files"])
    assert count > 2 and config["format"] == 2
    assert [path.name for path in shards(folder)] == file_names(count)
    for path, table in zip(shards(folder), config["weights"]["files"], strict=True):
        data = path.read_bytes()
        assert table == {"file": path.name, "size": len(data), "sha256": sha256(data)}
        tensors = parse_tensors(data)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= SHARD or len(tensors) == 1
    loaded = vaezoo.load(folder)
    expected = published_state(model)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in published_state(loaded).items())
    assert torch.equal(loaded.sample(3, seed=0), model.sample(3, seed=0))
    again = vaezoo.save(loaded, folder.parent / "again", shard_size=SHARD)
    assert [path.read_bytes() for path in shards(again)] == [path.read_bytes() for path in shards(folder)]
    assert (again / CONFIG).read_bytes() == (folder / CONFIG).read_bytes()


def test_one_file_and_several_replace_each_other(model: vaezoo.VAE, folder: Path) -> None:
    one = pack_tensors(dict(sorted(published_state(model).items())))
    assert list(packed(published_state(model), 10**9)) == [(WEIGHTS, one)]
    vaezoo.save(model, folder)
    assert [path.name for path in shards(folder)] == [WEIGHTS] and (folder / WEIGHTS).read_bytes() == one
    record = {"file": WEIGHTS, "size": len(one), "sha256": sha256(one)}
    assert {"format": 1, "weights": record}.items() <= config_of(folder).items()
    vaezoo.save(model, folder, shard_size=1)
    assert len(shards(folder)) == len(published_state(model)) and not (folder / WEIGHTS).exists()
    assert torch.equal(vaezoo.load(folder).sample(1, seed=0), model.sample(1, seed=0))
    with pytest.raises(ConfigError, match="at least 1"):
        vaezoo.save(model, folder, shard_size=0)


def test_damaged_or_missing_shard_is_refused(folder: Path) -> None:
    for path in shards(folder):
        good = path.read_bytes()
        for bad, words in ((good[:-1], "bytes; expected"), (good[:-1] + bytes([good[-1] ^ 1]), "SHA-256")):
            path.write_bytes(bad)
            with pytest.raises(CorruptWeightsError, match=f"{path.name} has .*{words}"):
                vaezoo.load(folder)
        os.unlink(path)
        with pytest.raises(CorruptWeightsError, match="cannot be read"):
            vaezoo.load(folder)
        path.write_bytes(good)
    vaezoo.load(folder)


def test_shard_with_wrong_tensors_is_refused(folder: Path) -> None:
    files = [(path, path.read_bytes()) for path in shards(folder)]
    first, last = parse_tensors(files[0][1]), parse_tensors(files[-1][1])
    key, tensor = next(iter(last.items()))
    twice = next(iter(first.items()))
    cases = [
        (pack_tensors({**last, twice[0]: twice[1]}), f"Not expected: .*{twice[0]}"),
        (pack_tensors({**last, "extra": tensor.clone()}), r"Not expected: \['extra'\]"),
        (pack_tensors({**last, key: tensor.double()}), f"Different: {key}"),
        (pack_tensors({**last, key: tensor.unsqueeze(0)}), f"Different: {key}"),
        (pack_tensors({**last, key: torch.full_like(tensor, torch.nan)}), "NaN"),
        (pack_tensors({name: value for name, value in last.items() if name != key}), rf"Missing: \['{key}'"),
        (files[-1][1] + bytes(4), "safetensors"),
    ]
    for data, words in cases:
        replace(folder, -1, data)
        with pytest.raises(CorruptWeightsError, match=words):
            vaezoo.load(folder)
    replace(folder, -1, files[-1][1])
    read_model(folder)


def test_wrong_record_of_shards_is_refused(folder: Path) -> None:
    config: dict[str, Any] = config_of(folder)
    files = config["weights"]["files"]
    for weights in (
        {"files": []},
        {"files": files[:1]},
        {"files": files[:-1]},
        {"files": files[::-1]},
        {"files": [*files, files[-1]]},
        *(
            {"files": [{**files[0], **changes}, *files[1:]]}
            for changes in (
                {"file": "../" + files[0]["file"]},
                {"size": True},
                {"size": -1},
                {"sha256": "x"},
                {"more": 1},
            )
        ),
        {"files": files, "more": 1},
        {"files": "model.safetensors"},
        {"files": {"0": files[0], "1": files[1]}},
        files,
        None,
    ):
        write_config(folder, config | {"weights": weights})
        with pytest.raises(CorruptWeightsError, match="weights"):
            vaezoo.load(folder)
    for size, count in ((2**39, 2), (5, 200)):
        listed = [{"file": name, "size": size, "sha256": "0" * 64} for name in file_names(count)]
        write_config(folder, config | {"weights": {"files": listed}})
        with pytest.raises(CorruptWeightsError, match=r"records [\d,]+ bytes of weights"):
            vaezoo.load(folder)
    write_config(folder, config | {"format": 1})
    with pytest.raises(CorruptWeightsError, match="its weights"):
        vaezoo.load(folder)
