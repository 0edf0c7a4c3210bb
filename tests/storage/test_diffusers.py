"""Image autoencoders of diffusers: read, used, written again, with equal outputs in both directions."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.diffusers_models import CASES, Outputs, again, folder_of, make, outputs
from torch import Tensor
from torch.testing import assert_close

import vaezoo
from vaezoo.cli import main
from vaezoo.core import VAE, closed_form_rate
from vaezoo.distributions import DiagonalNormal
from vaezoo.errors import ConfigError, CorruptWeightsError
from vaezoo.evaluation import fit_scale, latent_report
from vaezoo.evaluation.fit_scale import with_scale
from vaezoo.quantization import CodePoint
from vaezoo.storage.diffusers.reading import INDEX, WEIGHTS
from vaezoo.storage.model_folder import CARD
from vaezoo.workflows.load import pull

SIZES = {"AutoencoderTiny": 16, "AutoencoderDC": 16}  # they have no sample_size


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    place = tmp_path_factory.mktemp("diffusers")
    return {(name, number): folder_of(make(name, number), place / f"{name}-{number}") for name, number in CASES}


@pytest.fixture
def plain(folders: dict[tuple[str, int], Path]) -> Path:
    return folders["AutoencoderKL", 0]


def images(model: VAE, count: int = 3) -> Tensor:
    return torch.rand(count, *cast("tuple[int, ...]", model.shape))


@torch.no_grad()
def outputs_here(model: VAE, x: Tensor) -> Outputs:
    posterior = model.encode(x)
    if isinstance(posterior, DiagonalNormal):
        rate = closed_form_rate(posterior, model.prior(None))
        return Outputs(posterior.mean, model.decode(posterior.mean).mean, 2.0 * posterior.log_scale, rate)
    latents = posterior.encoded if isinstance(posterior, CodePoint) else posterior.mean
    return Outputs(latents, model.reconstruct(x))


def assert_equal(ours: Outputs, theirs: Outputs) -> None:
    assert_close(ours.latents, theirs.latents, rtol=1e-5, atol=1e-5)
    assert_close(ours.images, theirs.images, rtol=1e-5, atol=1e-5)
    assert (ours.kl is None) == (theirs.kl is None)
    if ours.kl is not None:
        assert_close(ours.log_variance, theirs.log_variance, rtol=1e-5, atol=1e-5)
        assert_close(ours.kl, theirs.kl, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_outputs_are_equal_in_both_directions(
    folders: dict[tuple[str, int], Path], name: str, number: int, tmp_path: Path
) -> None:
    source, theirs = folders[name, number], make(name, number)
    model = vaezoo.load(source, size=SIZES.get(name))
    x = images(model)
    expected = outputs(theirs, x)
    assert_equal(outputs_here(model, x), expected)
    vaezoo.export_diffusers(model, tmp_path / "out")
    back = again(tmp_path / "out")
    assert type(back) is type(theirs)
    assert_equal(outputs(back, x), expected)
    one, other = load_file(source / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    twice = vaezoo.load(tmp_path / "out", size=SIZES.get(name))
    assert all(map(torch.equal, model.state_dict().values(), twice.state_dict().values()))
    assert {**(twice.config or {}), "origin": 0} == {**(model.config or {}), "origin": 0}


@pytest.mark.parametrize(("name", "number"), CASES)
def test_scaled_latents_are_those_of_pipelines(folders: dict[tuple[str, int], Path], name: str, number: int) -> None:
    model, config = vaezoo.load(folders[name, number], size=SIZES.get(name)), make(name, number).config
    x = images(model)
    z = model.latents(x)
    mean = torch.tensor(config.get("latents_mean") or config.get("shift_factor") or 0.0).reshape(-1, 1, 1)
    deviation = torch.tensor(config.get("latents_std") or 1.0).reshape(-1, 1, 1)
    scaled = model.latents(x, scaled=True)
    assert_close(scaled, (z - mean) * config.scaling_factor / deviation)
    assert_close(model.decode_latents(scaled, scaled=True), model.decode(z).mean)


def test_log_variance_is_clamped_as_there(tmp_path: Path) -> None:
    theirs = make("AutoencoderKL")
    with torch.no_grad():
        theirs.quant_conv.bias[4:] = torch.tensor([-100.0, -29.0, 19.0, 100.0])
        theirs.quant_conv.weight[4:] = 0.0
    posterior = vaezoo.load(folder_of(theirs, tmp_path)).encode(torch.rand(1, 3, 16, 16))
    log_variance = 2.0 * cast(DiagonalNormal, posterior).log_scale
    assert log_variance[0, :, 0, 0].tolist() == [-30.0, -29.0, 19.0, 20.0]


@pytest.mark.parametrize("name", ["AutoencoderKL", "VQModel"])
def test_former_names_of_attentions_and_weights_of_convolutions(name: str, tmp_path: Path) -> None:
    number, former = 1, {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    theirs = make(name, number)
    folder_of(theirs, tmp_path)
    model, changed = vaezoo.load(tmp_path), {}
    for key, tensor in load_file(tmp_path / WEIGHTS).items():
        (new,) = {f".{old}." for old in former if f".{old}." in key} or {""}
        name = key.replace(new, f".{former[new[1:-1]]}.") if new else key
        changed[name] = tensor[..., None, None] if new and key.endswith("weight") else tensor
    assert len(changed.keys() - theirs.state_dict().keys()) >= 16
    save_file(changed, tmp_path / WEIGHTS)
    old = vaezoo.load(tmp_path)
    assert all(map(torch.equal, old.state_dict().values(), model.state_dict().values()))


def test_several_files_are_one_model(plain: Path, tmp_path: Path) -> None:
    folder = folder_of(make("AutoencoderKL"), tmp_path / "parts", max_shard_size="200KB")
    assert not (folder / WEIGHTS).exists() and len(list(folder.glob("*.safetensors"))) > 2
    model, whole = vaezoo.load(folder), vaezoo.load(plain)
    assert all(map(torch.equal, model.state_dict().values(), whole.state_dict().values()))
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["encoder.conv_in.weight"] = "../../x.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(CorruptWeightsError, match="names the files"):
        vaezoo.load(folder)


@pytest.mark.parametrize(
    ("kind", "upcast", "expected"),
    [
        (torch.float16, True, torch.float32),
        (torch.float16, False, torch.float16),
        (torch.bfloat16, True, torch.bfloat16),
    ],
)
def test_half_precision_is_loaded_as_float32_where_the_config_asks_for_it(
    kind: torch.dtype, upcast: bool, expected: torch.dtype, tmp_path: Path
) -> None:
    theirs = make("AutoencoderKL", force_upcast=upcast).to(kind)
    model = vaezoo.load(folder_of(theirs, tmp_path))
    assert {each.dtype for each in model.parameters()} == {expected}
    assert vaezoo.load(tmp_path, dtype=torch.float64).encoder.network.convolution.weight.dtype == torch.float64
    x = images(model)
    if expected == torch.float32:
        assert_equal(outputs_here(model, x), outputs(theirs.float(), x))
    vaezoo.export_diffusers(model, tmp_path / "out")
    assert again(tmp_path / "out").config.force_upcast == (expected == torch.float32)


def test_images_of_another_size(plain: Path) -> None:
    theirs = make("AutoencoderKL")
    for size, shape in ((32, (3, 32, 32)), ([24, 40], (3, 24, 40))):
        model = vaezoo.load(plain, size=size)
        assert model.shape == shape
        x = images(model, 1)
        assert_equal(outputs_here(model, x), outputs(theirs, x))
    for wrong in (15, 0, "16", [16], [16, 16, 16], 16.0, True, 2**20):
        with pytest.raises(ConfigError, match="multiples of 2"):
            vaezoo.load(plain, size=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="only an autoencoder of diffusers"):
        vaezoo.load("vae-mnist", size=28)


@pytest.mark.parametrize("name", ["AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "VQModel"])
def test_loaded_model_is_one_like_any_other(folders: dict[tuple[str, int], Path], name: str, tmp_path: Path) -> None:
    """Evaluated, measured, saved, loaded, tuned by a recipe and exported."""
    model = vaezoo.load(folders[name, 0], size=16)
    data = torch.rand(24, 3, 16, 16)
    report = vaezoo.evaluate(model, data, samples=2).as_dict()
    assert report["examples"] == 24 and cast("dict[str, float]", report["distortion"])["mean"] > 0
    vaezoo.save(model, tmp_path / "mine", metrics=report)
    card = (tmp_path / "mine" / CARD).read_text()
    assert "was added by vaezoo" in card and "laplace(scale=0.5" in card and name.lower() in card
    assert "with the factors of the weights' source" in card
    saved = vaezoo.load(tmp_path / "mine")
    assert torch.equal(saved.reconstruct(data), model.reconstruct(data)) and saved.config == model.config
    architecture = cast("dict[str, Any]", model.config)["architecture"]
    recipe = {
        "variant": cast("dict[str, Any]", model.config)["variant"],
        "init": f"{tmp_path}/mine",
        "architecture": {key: architecture[key] for key in ("latent", "backbone", "likelihood")},
        "options": {"codes": 256} if name == "VQModel" else {},
        "data": {"name": "mine", "binarize": "none"},
        "train": {"steps": 2, "batch_size": 4, "learning_rate": 1e-4},
    }
    tuned = vaezoo.train(recipe, data=data, out=tmp_path / "run", trackers=()).model
    assert not torch.equal(tuned.reconstruct(data), model.reconstruct(data))
    vaezoo.export_diffusers(tmp_path / "run", tmp_path / "out")
    assert_equal(outputs(again(tmp_path / "out"), data[:2]), outputs_here(vaezoo.load(tmp_path / "run"), data[:2]))


def test_latents_are_measured(plain: Path) -> None:
    model = vaezoo.load(plain)
    report = latent_report(model, torch.rand(8, 3, 16, 16), write=True)
    assert report.latent == (4, 8, 8) and report.rate is not None
    assert cast("dict[str, Any]", model.config)["latents"]["scaling_factor"] == report.scaling_factor


@pytest.mark.parametrize(("likelihood", "power"), [("laplace", 1), ("gaussian", 2)])
def test_scale_of_the_likelihood_is_fitted(plain: Path, likelihood: str, power: int, tmp_path: Path) -> None:
    model, x = vaezoo.load(plain), torch.rand(12, 3, 16, 16)
    if likelihood == "gaussian":
        model = created(likelihood="gaussian", shape=(3, 16, 16)).eval()
    fitted = fit_scale(model, x, batch_size=5)
    expected = float((model.reconstruct(x) - x).abs().pow(power).mean()) ** (1 / power)
    architecture = cast("dict[str, Any]", fitted.config)["architecture"]
    assert architecture["likelihood"] == {
        "name": likelihood, "scale": pytest.approx(expected, rel=1e-6), "scale_kind": "fixed",
        "gaps": False,
    }  # fmt: skip
    assert torch.equal(fitted.reconstruct(x), model.reconstruct(x))

    def density(one: VAE) -> float:
        return float(one.decode(one.latents(x)).log_prob(x).sum())

    scales = (0.9 * expected, 1.1 * expected)
    assert density(fitted) > max(density(with_scale(model, scale)) for scale in scales)
    saved = vaezoo.load(vaezoo.save(fitted, tmp_path / "fitted"))
    assert density(saved) == density(fitted) and saved.config == {**(saved.config or {}), "architecture": architecture}
    with pytest.raises(ConfigError, match="fixed scale"):
        fit_scale(created(likelihood="bernoulli"), x)


def test_subfolder_of_a_pipeline(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").symlink_to(plain)
    (tmp_path / "model_index.json").write_text("{}")
    assert vaezoo.load(tmp_path, subfolder="vae").shape == (3, 16, 16)
    with pytest.raises(vaezoo.VaezooError, match="pass subfolder='vae'"):
        vaezoo.load(tmp_path)
    for wrong in ("../vae", "/vae", "vae/", "a//b", "x" * 1000, "a\nb"):
        with pytest.raises(ConfigError, match="subfolder"):
            vaezoo.load(tmp_path, subfolder=wrong)


def test_functions_for_folders_of_vaezoo_name_the_remedy(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"vaezoo\.save"):
        pull(str(plain), to=tmp_path / "copy")
    with pytest.raises(ConfigError, match=r"vaezoo\.save"):
        vaezoo.push(plain, "them/vae", dry_run=True)


# Export


def created(variant: str = "kl-autoencoder", name: str = "diffusers-kl", **options: Any) -> VAE:
    backbone = {"name": name, "channels": [4, 8], "groups": 2, **options.pop("backbone", {})}
    backbone = {"name": name, "width": 4} if name == "diffusers-tiny" else backbone
    return vaezoo.create(variant, shape=options.pop("shape", (3, 8, 8)), backbone=backbone, **options)


def test_model_of_this_package_is_exported(tmp_path: Path) -> None:
    for variant, name in (("kl-autoencoder", "diffusers-kl"), ("vq-vae", "diffusers-kl"), ("ae", "diffusers-tiny")):
        torch.manual_seed(0)
        latent = {"latent": (4, 1, 1)} if variant == "ae" else {}
        model = created(variant, name, likelihood="gaussian", **latent).eval()
        x = images(model)
        vaezoo.export_diffusers(model, tmp_path / variant)
        assert_equal(outputs(again(tmp_path / variant), x), outputs_here(model, x))


def test_command_exports(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", str(plain), "--format", "diffusers", "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out and (out / WEIGHTS).read_bytes() == (plain / WEIGHTS).read_bytes()
    assert main(["export", str(plain), "--format", "diffusers", "--part", "encoder", "--out", str(out)]) == 1
    assert "holds both parts" in capsys.readouterr().err


REFUSED = {
    "the backbone resnet": lambda: vaezoo.create("kl-autoencoder", shape=(3, 8, 8)),
    "a context of width 3": lambda: created(context=3),
    "a grid with sides smaller by exactly 2": lambda: created(latent=7),
    "images [3, 7, 7]": lambda: created(shape=(3, 7, 7)),
    "the encoder PointEncoder": lambda: created("ae", latent=(4, 4, 4)),
    "the prior VampPrior": lambda: created("kl-autoencoder+vamp-vae"),
    "the likelihood Bernoulli": lambda: created(likelihood="bernoulli"),
    "the likelihood Laplace": lambda: created(likelihood={"name": "laplace", "scale_kind": "learned"}),
    "the activation tanh": lambda: created(backbone={"activation": "tanh"}),
    "by the cosine": lambda: created("vq-vae", distance="cosine"),
    "mask_encoder without attention": lambda: created(backbone={"mask_encoder": True, "attention": False}),
    "other widths or blocks": lambda: created(backbone={"up_channels": [8, 8]}),
    "latent_channels = 3": lambda: created(backbone={"latent_channels": 3}),
    "quant_convolution = False": lambda: created("vq-vae", backbone={"quant_convolution": False}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_model_without_a_counterpart_is_refused_with_the_part(reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no counterpart") as caught:
        vaezoo.export_diffusers(REFUSED[reason](), tmp_path / "out")
    assert reason in str(caught.value) and not (tmp_path / "out").exists()


def test_factors_without_a_counterpart_are_refused(tmp_path: Path) -> None:
    model = created("vq-vae")
    model.config = {**(model.config or {}), "latents": {"scaling_factor": 1.0, "shift_factor": 2.0}}
    with pytest.raises(ConfigError, match=r"shift_factor = 2\.0"):
        vaezoo.export_diffusers(model, tmp_path / "out")
    model.config = {**(model.config or {}), "latents": {"scaling_factor": [1.0] * 64, "shift_factor": 2.0}}
    with pytest.raises(ConfigError, match="factors of each channel"):
        vaezoo.export_diffusers(model, tmp_path / "out")


def test_export_leaves_other_files_alone(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match="is not empty"):
            vaezoo.export_diffusers(plain, folder)
    model = vaezoo.load(plain)
    model.prior = model.prior  # unchanged
    model.config = None
    with pytest.raises(ConfigError, match="changed by hand"):
        vaezoo.export_diffusers(model, tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
