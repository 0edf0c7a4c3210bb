"""Hostile and damaged folders in the layout of diffusers: refused in less than a second, without any side effect."""

import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.auditing import audited
from support.diffusers_models import folder_of, make
from support.foreign import System
from torch import Tensor

import vaezoo
from vaezoo.errors import ConfigError, CorruptWeightsError, VaezooError
from vaezoo.storage.diffusers.reading import INDEX, WEIGHTS

Settings = dict[str, Any]
CODE = {"_target_": "os.system", "command": "touch pwned"}
WIDE = {"block_out_channels": [8192] * 8, "down_block_types": ["AttnDownEncoderBlock2D"] * 8}
#: name -> changes of a config, and a part of the error
HOSTILE: dict[str, tuple[Settings, str]] = {
    "unknown class": ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
    "class of a module": ({"_class_name": "os.system"}, "os.system"),
    "class that is a table": ({"_class_name": CODE}, "_target_"),
    "class that is a list": ({"_class_name": ["AutoencoderKL"]}, "AutoencoderKL"),
    "code of a repository": ({"auto_map": {"AutoModel": "modeling.Model"}}, "auto_map"),
    "target": ({"__init__": CODE, "target": CODE}, "target"),
    "unknown setting": ({"temporal_compression": 4}, "temporal_compression"),
    "unknown down blocks": (
        {"down_block_types": ["DownEncoderBlock2D", "CrossAttnDownBlock2D"]},
        "CrossAttnDownBlock2D",
    ),
    "unknown up blocks": ({"up_block_types": ["os.system", "UpDecoderBlock2D"]}, "os.system"),
    "down blocks that go up": ({"down_block_types": ["UpDecoderBlock2D"] * 2}, "UpDecoderBlock2D"),
    "code as blocks": ({"down_block_types": [CODE, CODE]}, "down_block_types"),
    "too few blocks": ({"down_block_types": ["DownEncoderBlock2D"]}, "1 down_block_types for 2 widths"),
    "thousands of grids": (
        {
            "block_out_channels": [32] * 5000,
            "down_block_types": ["DownEncoderBlock2D"] * 5000,
            "up_block_types": ["UpDecoderBlock2D"] * 5000,
        },
        "at most 65,536",
    ),
    "nine grids": ({"block_out_channels": [32] * 9}, "block_out_channels"),
    "thousands of blocks": ({"layers_per_block": 100_000}, "layers_per_block"),
    "no blocks": ({"layers_per_block": 0}, "layers_per_block"),
    "huge width": ({"block_out_channels": [32, 10**9]}, "block_out_channels"),
    "widest networks": (
        {**WIDE, "up_block_types": ["AttnUpDecoderBlock2D"] * 8, "layers_per_block": 16, "sample_size": 128},
        "weights",
    ),
    "negative width": ({"block_out_channels": [32, -64]}, "block_out_channels"),
    "width as text": ({"block_out_channels": "os.system"}, "block_out_channels"),
    "width as fraction": ({"block_out_channels": [32, 64.5]}, "block_out_channels"),
    "huge number of bits": ({"latent_channels": 10**400}, "latent_channels"),
    "groups that do not divide": ({"norm_num_groups": 7}, "groups = 7"),
    "no groups": ({"norm_num_groups": 0}, "norm_num_groups"),
    "activation": ({"act_fn": "os.system"}, "os.system"),
    "activation as code": ({"act_fn": CODE}, "act_fn"),
    "flag as text": ({"use_quant_conv": "false"}, "use_quant_conv"),
    "huge images": ({"sample_size": 10**9}, "sample_size"),
    "empty images": ({"sample_size": 0}, "sample_size"),
    "three sides": ({"sample_size": [16, 16, 16]}, "sample_size"),
    "other channels out": ({"out_channels": 4}, "3 channels in and 4 out"),
    "scale of zero": ({"scaling_factor": 0.0}, "scaling_factor"),
    "scale as text": ({"scaling_factor": "0.18"}, "scaling_factor"),
    "means without deviations": ({"latents_mean": [0.0] * 4}, "latents_std"),
    "means of other channels": ({"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}, "4 numbers"),
    "deviation of zero": ({"latents_mean": [0.0] * 4, "latents_std": [0.0] * 4}, "latents_std"),
    "tiny deviation": ({"latents_mean": [0.0] * 4, "latents_std": [1e-12] * 4, "scaling_factor": 1e12}, "usual size"),
}
#: name -> changes of a config of another class
OTHERS: dict[str, tuple[str, Settings, str]] = {
    "codes": ("VQModel", {"num_vq_embeddings": 2**40}, "num_vq_embeddings"),
    "spatial normalization": ("VQModel", {"norm_type": "spatial"}, "spatial"),
    "upsampling": ("AutoencoderTiny", {"upsample_fn": "os.system"}, "os.system"),
    "upsampling by 100": ("AutoencoderTiny", {"upsampling_scaling_factor": 100}, "upsampling_scaling_factor"),
    "widths of a tiny one": ("AutoencoderTiny", {"encoder_block_out_channels": [8, 8, 8, 16]}, "one width"),
    "grids of a tiny one": ("AutoencoderTiny", {"num_encoder_blocks": [1, 1, 1]}, "as many grids"),
    "blocks of a tiny one": ("AutoencoderTiny", {"num_encoder_blocks": [1, 1, 1, 1000]}, "num_encoder_blocks"),
    "blocks of a deep one": ("AutoencoderDC", {"encoder_block_types": "os.system"}, "os.system"),
    "normalization of a deep one": ("AutoencoderDC", {"decoder_norm_types": "layer_norm"}, "layer_norm"),
    "activation of a deep one": ("AutoencoderDC", {"decoder_conv_act_fn": "relu6"}, "relu6"),
    "halving of a deep one": ("AutoencoderDC", {"downsample_block_type": "os.system"}, "os.system"),
    "huge scales": ("AutoencoderDC", {"encoder_qkv_multiscales": [[10**9], []]}, "encoder_qkv_multiscales"),
    "even scales": ("AutoencoderDC", {"encoder_qkv_multiscales": [[4], []]}, "odd sizes"),
    "grids of a deep one": ("AutoencoderDC", {"encoder_layers_per_block": [1, 1, 1]}, "3 entries in blocks"),
    "no blocks on a grid": ("AutoencoderDC", {"encoder_layers_per_block": [1, 0]}, "at least 1 on each grid"),
    "wide heads": ("AutoencoderDC", {"encoder_block_types": "EfficientViTBlock"}, "head_width = 32"),
    "widths that do not divide": ("AutoencoderDC", {"encoder_block_out_channels": [8, 12]}, "multiple of the other"),
    "latents that do not divide": ("AutoencoderDC", {"latent_channels": 3}, "expected a divisor"),
    "widest deep one": (
        "AutoencoderDC",
        {"encoder_block_out_channels": [8192, 8192], "encoder_layers_per_block": [64, 64]},
        "weights",
    ),
    "shift of a deep one": ("AutoencoderDC", {"shift_factor": 0.1}, "shift_factor"),
    "decoder of other depth": (
        "AsymmetricAutoencoderKL",
        {"up_block_out_channels": [32], "up_block_types": ["UpDecoderBlock2D"]},
        "1 up_block_types for 2 widths",
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(make("AutoencoderKL"), tmp_path_factory.mktemp("good") / "model")


def settings_of(folder: Path) -> Settings:
    found: Settings = json.loads((folder / "config.json").read_text())
    return found


def copied(source: Path, folder: Path, changes: Settings | None = None) -> Path:
    """Returns a folder with the weights of another one and a changed config."""
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes((source / WEIGHTS).read_bytes())
    (folder / "config.json").write_text(json.dumps({**settings_of(source), **(changes or {})}))
    return folder


def refused(folder: Path, kind: type[VaezooError] = VaezooError) -> str:
    """Returns the error of a folder, which comes in less than a second."""
    start = time.process_time()
    with pytest.raises(kind) as caught:
        vaezoo.load(folder)
    assert time.process_time() - start < 1.0 and len(str(caught.value)) < 2000
    return str(caught.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_config_is_refused(good: Path, tmp_path: Path, name: str) -> None:
    changes, part = HOSTILE[name]
    assert part in refused(copied(good, tmp_path / "bad", changes))


@pytest.mark.parametrize("name", OTHERS)
def test_hostile_config_of_another_class_is_refused(good: Path, tmp_path: Path, name: str) -> None:
    kind, changes, part = OTHERS[name]
    folder = folder_of(make(kind), tmp_path / "bad")
    (folder / "config.json").write_text(json.dumps({**settings_of(folder), **changes}))
    assert part in refused(folder)


def test_notes_of_a_config_are_ignored(good: Path, tmp_path: Path) -> None:
    notes = {"_name_or_path": "/home/somebody", "_diffusers_version": "99", "_target_": "os.system"}
    assert vaezoo.load(copied(good, tmp_path / "notes", notes)).shape == (3, 16, 16)


def test_config_without_its_class_is_no_config_of_diffusers(good: Path, tmp_path: Path) -> None:
    folder = copied(good, tmp_path / "bad")
    settings = settings_of(good)
    del settings["_class_name"]
    (folder / "config.json").write_text(json.dumps(settings))
    refused(folder, CorruptWeightsError)


# Weights


def resaved(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    """Returns a function that changes the tensors of a folder."""

    def apply(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / WEIGHTS)

    return apply


def reheaded(change: Callable[[Settings], object]) -> Callable[[Path], None]:
    """Returns a function that changes the header of a file."""

    def apply(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        change(header)
        text = json.dumps(header).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[end:])

    return apply


def write(data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / WEIGHTS).write_bytes(data) and None


def cut(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 4)


def sparse(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 2**40)


FIRST = "encoder.conv_in.bias"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (resaved(lambda each: each.pop(FIRST)), f"Missing: ['{FIRST}']"),
    "extra": (resaved(lambda each: each.update(x=torch.ones(2))), "Not expected: ['x']"),
    "shape": (resaved(lambda each: each.update({FIRST: torch.ones(31)})), "got (31,), expected (32,)"),
    "whole numbers": (
        resaved(lambda each: each.update({FIRST: torch.ones(32, dtype=torch.int64)})),
        "one floating type",
    ),
    "two types": (resaved(lambda each: each.update({FIRST: torch.ones(32).half()})), "one floating type"),
    "nan": (resaved(lambda each: each[FIRST].fill_(torch.nan)), "NaN or infinite"),
    "both names": (
        resaved(lambda each: each.update({"encoder.mid_block.attentions.0.query.bias": torch.ones(64)})),
        "does not fit",
    ),
    "cut": (cut, "not whole"),
    "one tebibyte": (sparse, "claims a header"),
    "empty": (write(b""), "header"),
    "no header": (write(b"\xff" * 64), "claims a header"),
    "huge header": (write((2**62).to_bytes(8, "little") + b"{}"), "claims a header"),
    "no JSON": (write((4).to_bytes(8, "little") + b"{{{{"), "not valid JSON"),
    "a list": (write((2).to_bytes(8, "little") + b"[]"), "malformed header"),
    "overlap": (reheaded(lambda each: each[FIRST].update(data_offsets=[0, 128])), "malformed header"),
    "outside": (reheaded(lambda each: each[FIRST].update(data_offsets=[2**40, 2**40 + 128])), "malformed header"),
    "negative": (reheaded(lambda each: each[FIRST].update(data_offsets=[-128, 0])), "malformed header"),
    "texts": (reheaded(lambda each: each[FIRST].update(data_offsets=["0", "128"])), "malformed header"),
    "one offset": (reheaded(lambda each: each[FIRST].update(data_offsets=[0])), "malformed header"),
    "type": (reheaded(lambda each: each[FIRST].update(dtype="os.system")), "malformed header"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_weights_are_refused(good: Path, tmp_path: Path, name: str) -> None:
    change, part = DAMAGES[name]
    folder = copied(good, tmp_path / "bad")
    change(folder)
    assert part in refused(folder, CorruptWeightsError)


def test_pickles_are_not_read(good: Path, tmp_path: Path) -> None:
    folder = copied(good, tmp_path / "bad")
    (folder / WEIGHTS).unlink()
    assert "neither" in refused(folder, CorruptWeightsError)
    (folder / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(System("touch pwned")))
    text = refused(folder, ConfigError)
    assert "diffusion_pytorch_model.bin" in text and f"Expected {WEIGHTS}" in text and "safe_serialization" in text


@pytest.mark.parametrize(
    "table", [None, {}, {"a": 1}, {"a": "/etc/passwd"}, {str(n): f"{n}.safetensors" for n in range(9)}]
)
def test_malformed_index_is_refused(good: Path, tmp_path: Path, table: object) -> None:
    folder = copied(good, tmp_path / "bad")
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": table}))
    assert "names the files" in refused(folder, CorruptWeightsError)


def test_index_of_thousands_of_files_is_refused(good: Path, tmp_path: Path) -> None:
    folder = copied(good, tmp_path / "bad")
    (folder / WEIGHTS).unlink()
    table = {str(n): f"diffusion_pytorch_model-{n:05d}-of-05000.safetensors" for n in range(1, 5001)}
    (folder / INDEX).write_text(json.dumps({"weight_map": table}))
    assert "5,000 files" in refused(folder, CorruptWeightsError)


# Side effects


def test_reading_hostile_folders_has_no_side_effects(good: Path, tmp_path: Path) -> None:
    """No imports, no programs, no connections, no pickles, nothing written, after a first load."""
    bad = [copied(good, tmp_path / f"config {n}", changes) for n, (changes, _) in enumerate(HOSTILE.values())]
    for number, (change, _) in enumerate(DAMAGES.values()):
        folder = copied(good, tmp_path / f"weights {number}")
        change(folder)
        bad.append(folder)
    pickled = copied(good, tmp_path / "pickled")
    (pickled / WEIGHTS).rename(pickled / "diffusion_pytorch_model.bin")
    (pickled / "modeling.py").write_bytes(b"open('pwned', 'w').close()\n")
    answer = audited(
        tmp_path / "empty",
        read=[tmp_path, good, Path("/proc/self")],
        modules=[],
        write=[],
        warm=["vae-mnist", str(good)],
        load=[str(good), *map(str, bad), str(pickled)],
        canaries=True,
    )
    assert answer["events"] == [], answer["events"]
    results = answer["results"]
    assert results.pop(str(good)) == "done" and len(results) == len(bad) + 1
    assert all(result.startswith("refused: ") for result in results.values())
    assert all(answer["canaries"].values()) and len(answer["canaries"]) == 11
