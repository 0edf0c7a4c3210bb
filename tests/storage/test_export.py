"""Exported programs: their outputs are those of the model, in onnxruntime and in `torch.export`."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cases import ONE_EACH, Case, over
from torch import Tensor

import vaezoo
from vaezoo.cli import main
from vaezoo.core import VAE, center
from vaezoo.errors import ConfigError, ExportError, MissingExtraError, UnknownNameError
from vaezoo.storage.export.export import formats
from vaezoo.storage.export.programs import programs_of

DAILY = ("cvae-mnist", "vq-vae-mnist")
MODELS = [pytest.param(name, marks=() if name in DAILY else pytest.mark.full) for name in vaezoo.list_models()]
#: variants whose encoder differentiates within its pass
REFUSED = {"hamiltonian-vae"}


def inputs(model: VAE, count: int) -> tuple[Tensor, list[Tensor]]:
    """Returns binary noise, which no test of the command has seen, and a context in a list if the model takes one."""
    generator = torch.Generator().manual_seed(7)
    x = torch.rand(count, *(model.shape or ()), generator=generator).round()
    return x, [torch.eye(model.context)[torch.arange(count) % model.context]] if model.context else []


@torch.no_grad()
def wanted(model: VAE, x: Tensor, context: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """Returns the outputs of each program, by the public methods of the model."""
    z = center(model.encode(x, *context))
    found = {"encoder": [z], "decoder": [model.decode(z, *context).mean]}
    if "vq" in model.config["variant"] or "categorical" in model.config["variant"]:  # type: ignore[index,operator]
        indices = model.encode_indices(x, *context)
        found["encoder"].append(indices)
        found["decoder-of-codes"] = [model.decode_indices(indices, *context)]
    return found


def sources(found: dict[str, list[Tensor]], x: Tensor) -> dict[str, Tensor]:
    return {"encoder": x, "decoder": found["encoder"][0], "decoder-of-codes": found["encoder"][-1]}


@pytest.mark.parametrize("name", MODELS)
def test_onnx_graphs_of_published_models_have_the_outputs_of_the_model(name: str, tmp_path: Path):
    import onnxruntime

    model = vaezoo.load(name)
    done = vaezoo.export(name, tmp_path / "out")
    assert max(each.difference for each in done.files) <= 1e-4
    sessions = {Path(each.file).stem: onnxruntime.InferenceSession(tmp_path / "out" / each.file) for each in done.files}
    for count in (1, 2, 33):
        x, context = inputs(model, count)
        expected = wanted(model, x, context)
        assert set(expected) <= set(sessions)
        for program, own in expected.items():
            given = dict(zip(("first", "context"), [sources(expected, x)[program], *context], strict=False))
            session = sessions[program]
            names = [each.name for each in session.get_inputs()]
            outputs = session.run(None, {key: each.numpy() for key, each in zip(names, given.values(), strict=True)})
            for found, right in zip(outputs, own, strict=False):  # beside them standard deviations, below
                np.testing.assert_allclose(found, right.numpy(), atol=1e-4, rtol=1e-4)


def check_torch_export(model: VAE, folder: Path) -> None:
    done = vaezoo.export(model, folder, format="torch-export")  # with gradients on, as in a user's program
    x, context = inputs(model, 3)
    expected = wanted(model, x, context)
    for each in done.files:
        program = torch.export.load(folder / each.file).module()
        name = Path(each.file).stem
        if name in expected:
            outputs = program(sources(expected, x)[name], *context)
            for found, right in zip(outputs, expected[name], strict=False):
                torch.testing.assert_close(found, right, atol=1e-4, rtol=1e-4)


@over(ONE_EACH, [case for case in ONE_EACH if case.variant in ("vq-vae", "two-layer-vae")])
def test_torch_programs_of_every_variant_have_its_outputs_or_are_refused(case: Case, tmp_path: Path):
    model = case.build().eval()
    if case.variant in REFUSED:
        with pytest.raises(ExportError, match=r"computes gradients .*--part decoder"):
            vaezoo.export(model, tmp_path / "out", format="torch-export")
        assert not list(tmp_path.iterdir())
        done = vaezoo.export(model, tmp_path / "out", format="torch-export", parts="decoder")
        assert [each.file for each in done.files] == ["decoder.pt2"]
    else:
        check_torch_export(model, tmp_path / "out")


def test_refusals_are_those_on_the_page():
    page = Path(__file__).parents[2] / "docs" / "guides" / "export.md"
    section = page.read_text(encoding="utf-8").partition("## Refused")[2]
    assert {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")} == REFUSED


@pytest.mark.full
@torch.no_grad()
def test_a_graph_of_a_model_of_tables_takes_gaps(tmp_path: Path):
    import onnxruntime

    columns = ["gaussian", "log-normal", "categorical-3", "bernoulli", "negative-binomial", "student-t"]
    torch.manual_seed(0)
    model = vaezoo.create("vae", shape=8, latent=2, likelihood={"name": "mixed", "columns": columns}).eval()
    done = vaezoo.export(model, tmp_path / "out")
    assert max(each.difference for each in done.files) <= 1e-4
    x = torch.tensor([[0.3, 2.5, 0.0, 1.0, 0.0, 1.0, 3.0, -1.0]] * 3)
    x[1, [0, 1, 6]], x[1, 2:5], x[2] = torch.nan, torch.nan, torch.nan
    encoder, decoder = (onnxruntime.InferenceSession(tmp_path / "out" / each.file) for each in done.files)
    latents, stddev = encoder.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(latents, model.encode(x).mean.numpy(), atol=1e-4)
    np.testing.assert_allclose(stddev, model.encode(x).stddev.numpy(), atol=1e-4)
    (means,) = decoder.run(None, {"latents": latents})
    np.testing.assert_allclose(means, model.reconstruct(x).numpy(), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_standard_deviations_of_a_normal_posterior_are_exported():
    model = vaezoo.load("beta-vae-mnist")
    (encoder, _) = programs_of(model)
    x, _ = inputs(model, 2)
    latents, stddev = encoder.module(x)
    assert encoder.module.outputs == ("latents", "stddev")
    torch.testing.assert_close(stddev, model.encode(x).stddev)
    torch.testing.assert_close(latents, model.encode(x).mean)


def test_the_description_names_inputs_and_outputs_and_the_model_is_unchanged(tmp_path: Path):
    model = Case("cvae", context=3).build().train().double()
    state = torch.get_rng_state()
    vaezoo.export(model, tmp_path / "a" / "out", format="torch-export")
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert next(model.parameters()).dtype == torch.float64
    found = json.loads((tmp_path / "a" / "out" / "export.json").read_text())
    encoder, decoder = found["files"]
    assert found["format"] == "torch-export" and found["variant"] == "cvae"
    assert encoder["inputs"] == {"x": [1, 8, 8], "context": [3]} and decoder["outputs"] == {"image": [1, 8, 8]}
    assert sorted(each.name for each in (tmp_path / "a").rglob("*")) == [
        "decoder.pt2", "encoder.pt2", "export.json", "out",
    ]  # fmt: skip


def test_a_program_with_other_outputs_is_refused_and_nothing_is_written(tmp_path: Path):
    model = Case("vae").build().eval()
    program = programs_of(model)[1]
    batch, _ = program.batches()
    (image,) = program.module(*batch)
    assert program.difference(batch, [image]) == 0.0
    assert 4e-5 < program.difference(batch, [image + 1e-4 * image.new_tensor(0.9)]) < 1e-4
    for wrong in (image + 1e-3, image * torch.nan, image[:1]):
        with pytest.raises(ExportError, match="expected"):
            program.difference(batch, [wrong])

    def broken(model: VAE, folder: Path, parts: Sequence[str]) -> list[object]:
        (folder / "half").write_bytes(b"half")
        raise RuntimeError("no such operator\nmore")

    formats.register("broken", broken, override=True)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="cannot be expressed in this format: RuntimeError: no such operator Try"):
        vaezoo.export(model, tmp_path / "out", format="broken")
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    model = Case("vae").build()
    with pytest.raises(UnknownNameError, match="Did you mean 'onnx'"):
        vaezoo.export(model, tmp_path / "out", format="onx")
    with pytest.raises(ConfigError, match="new or empty folder"):
        vaezoo.export(model, tmp_path / "full", format="torch-export")
    with pytest.raises(ConfigError, match="expected some of encoder, decoder"):
        vaezoo.export(model, tmp_path / "out", format="torch-export", parts=["prior"])
    with pytest.raises(ConfigError, match="expected a vaezoo"):
        vaezoo.export(torch.ones(3), tmp_path / "out")  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "onnxruntime", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'vaezoo\[onnx\]'"):
            vaezoo.export(model, tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["full"]


def test_the_command_prints_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    assert main(["export", "beta-vae-mnist", "--format", "torch-export", "--part", "decoder", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "decoder.pt2: latents [10] -> image [1, 28, 28]; differs from the model by at most" in printed
    assert sorted(each.name for each in out.iterdir()) == ["decoder.pt2", "export.json"]
