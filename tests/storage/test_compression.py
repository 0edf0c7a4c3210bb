"""Compression: exact round trips of each kind of model, rates beside the bound, and damaged files."""

import hashlib
import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.cases import Case

import vaezoo
from vaezoo.cli import main
from vaezoo.core import VAE
from vaezoo.data import bundled_images
from vaezoo.errors import (
    CompositionError,
    CompressionError,
    ConfigError,
    DataError,
    NoDensityError,
    ShapeError,
    SupportError,
)
from vaezoo.evaluation import evaluate
from vaezoo.storage.compression import Compressed, compress, decompress
from vaezoo.storage.compression.container import MAGIC
from vaezoo.workflows.compress import decompress_files, write_images

CASES = (
    Case("vae"),
    Case("vae", likelihood="discretized-logistic"),
    Case("vae", backbone="conv", likelihood="logistic-mixture"),
    Case("vae", likelihood="categorical"),
    Case("vae", backbone="conv", likelihood="autoregressive-bernoulli"),
    Case("cvae", context=3),
    Case("vamp-vae"),
    Case("vade"),
    Case("joint-vae"),
    Case("categorical-vae"),
    Case("two-layer-vae"),
    Case("ladder-vae"),
    Case("top-down-vae"),
    Case("vq-vae", backbone="conv"),
    Case("fsq-vae", backbone="conv"),
    Case("vq-vae-2", backbone="conv"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_round_trip_is_exact_and_the_same_every_time(case: Case) -> None:
    model, (x, c) = case.build().eval(), case.inputs(6)
    data = x if c is None else (x, c)
    found = compress(model, data)
    assert found.data == compress(model, data).data and found.images == 6
    restored = decompress(found.data, model)
    assert torch.equal(restored.values, x)
    assert c is None if restored.context is None else torch.equal(restored.context, c)
    if case.backbone == "conv" and case.variant != "vae":  # codes: no bits are taken
        bound = -model(x).bound.sum().item() / math.log(2)
        assert found.direct == 0 and found.bits == pytest.approx(bound, rel=0.01, abs=64)


def digits() -> torch.Tensor:
    return (bundled_images().batch(slice(None)) > 0.5).float()


@pytest.fixture(scope="module")
def trained() -> tuple[VAE, Compressed]:
    model = vaezoo.load("vae-mnist")
    return model, compress(model, digits(), name="vae-mnist")


def test_the_rate_is_that_of_the_bound(trained: tuple[VAE, Compressed]) -> None:
    """Of 64 images, with the bits that the first one does not take: those of its posterior on the grid."""
    model, found = trained
    x = digits()
    with torch.no_grad():
        first = model.encode(x[:1]).entropy().item() / math.log(2) + 50 * 7  # of steps of 1/128
    bound = evaluate(model, x, samples=0, binarize="none").bound
    expected = -64 * bound.mean / math.log(2) + first
    assert found.direct == 1 and found.bits == pytest.approx(expected, rel=0.02)
    assert torch.equal(decompress(found.data, model).values, x)


def test_vectors_as_contexts() -> None:
    case = Case("cvae", context=3)
    model, x, c = case.build(), case.inputs(4)[0], torch.rand(4, 3)
    restored = decompress(compress(model, (x, c)).data, model)
    assert restored.context is not None and torch.equal(restored.context, c) and torch.equal(restored.values, x)


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        (Case("vae", likelihood="gaussian"), NoDensityError, "gives x no probability"),
        (Case("iaf-vae"), CompositionError, "posterior of type"),
        (Case("flow-prior-vae"), CompositionError, "prior of type"),
        (Case("ae"), CompositionError, "posterior of type"),
        (Case("hamiltonian-vae"), CompositionError, "posterior of type"),
        (Case("vq-vae+code-prior", backbone="conv"), CompositionError, "transformers"),
    ],
    ids=str,
)
def test_models_without_masses_are_refused(case: Case, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compress(case.build(), case.inputs(2)[0])


def test_data_that_would_lose_information_are_refused() -> None:
    model = Case("vae").build()
    with pytest.raises(SupportError, match="does not round"):
        compress(model, torch.rand(2, 1, 8, 8))
    with pytest.raises(ShapeError, match="does not resize"):
        compress(model, torch.ones(2, 1, 9, 9))


def damaged(data: bytes, kind: str) -> bytes:
    size = struct.unpack("<I", data[8:12])[0]
    header, rest = json.loads(data[12 : 12 + size]), data[12 + size : -32]

    def sealed(text: bytes, rest: bytes = rest) -> bytes:
        body = MAGIC + struct.pack("<I", len(text)) + text + rest
        return body + hashlib.sha256(body).digest()

    return {
        "magic": b"PNG" + data,
        "truncated": data[:-10],
        "short": data[:9],
        "flipped": data[:200] + bytes([data[200] ^ 1]) + data[201:],
        "format": sealed(json.dumps(header | {"format": 9}).encode()),
        "field": sealed(json.dumps(header | {"more": 1}).encode()),
        "text": sealed(b"{"),
        "count": sealed(json.dumps(header | {"count": 2**40}).encode()),
        "empty": sealed(json.dumps(header).encode(), b""),
        "digest": sealed(json.dumps(header | {"images": "0" * 64}).encode()),
        "contexts": sealed(json.dumps(header | {"context": ["labels", 9_999_999, 0]}).encode()),
        "weights": sealed(json.dumps(header | {"weights": "0" * 64}).encode()),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("magic", "expected one that"),
        ("truncated", "truncated or damaged"),
        ("short", "truncated or damaged"),
        ("flipped", "truncated or damaged"),
        ("format", "format 9"),
        ("field", "malformed"),
        ("text", "malformed"),
        ("count", "claims 1,099,511,627,776 examples"),
        ("empty", "differ from those that were compressed"),
        ("digest", "Probabilities must be equal in every digit"),
        ("contexts", "does not fit the size"),
        ("weights", "got another one"),
    ],
)
def test_damaged_files_have_clear_errors(trained: tuple[VAE, Compressed], kind: str, message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        decompress(damaged(trained[1].data, kind), trained[0])


def test_commands_write_what_they_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = digits()[:5].to(torch.uint8) * 255
    (tmp_path / "digits").mkdir()
    for place, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(tmp_path / "digits" / f"{place}.png")
    file, folder, arrays = tmp_path / "digits.vz", tmp_path / "back", tmp_path / "back.npz"
    assert main(["compress", str(tmp_path / "digits"), "--model", "vae-mnist", "--out", str(file)]) == 0
    assert f"5 examples in {file.stat().st_size:,} bytes" in capsys.readouterr().out
    assert main(["decompress", str(file), "--out", str(folder)]) == 0
    assert main(["decompress", str(file), "--out", str(arrays), "--model", "vae-mnist"]) == 0
    found = np.load(arrays, allow_pickle=False)["images"]
    pictures = [np.asarray(Image.open(each)) for each in sorted(folder.iterdir())]
    assert found.dtype == np.uint8 and np.array_equal(np.stack(pictures), found[:, 0])
    assert sorted(each.tobytes() for each in found) == sorted(image.numpy().tobytes() for image in images)
    assert main(["decompress", str(file), "--out", str(folder)]) == 1 and "exists" in capsys.readouterr().err
    assert main(["decompress", str(file), "--out", str(tmp_path / "x"), "--model", "iwae-mnist"]) == 1
    assert "got another one" in capsys.readouterr().err
    assert main(["decompress", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 1
    assert "Could not read" in capsys.readouterr().err


def test_files_of_own_models_need_their_name(tmp_path: Path) -> None:
    case = Case("vae")
    model, x = case.build(), case.inputs(3)[0]
    file = tmp_path / "own.vz"
    file.write_bytes(compress(model, x, name="runs/mine").data)
    with pytest.raises(ConfigError, match="no pretrained model"):
        decompress_files(file, out=tmp_path / "back")
    folder = str(vaezoo.save(model, tmp_path / "mine"))
    assert decompress_files(file, out=tmp_path / "back.npz", model=folder) == 3
    assert torch.equal(torch.from_numpy(np.load(tmp_path / "back.npz")["images"]).float() / 255, x)
    rows = Case("vae", shape=(30,))
    restored = decompress(compress(rows.build(), rows.inputs(2)[0]).data, rows.build())
    with pytest.raises(DataError, match="npz"):
        write_images(restored, tmp_path / "rows")
