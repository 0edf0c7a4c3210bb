"""Conversion of weights of other projects: equal outputs, or one error; hostile files run nothing (test_hostile.py)."""

import json
import os
import zipfile
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file
from support.foreign import Example, MnistVAE, Pythae, System, pythae_folder, saved, small
from support.mutations import config_of, write_config
from torch import Tensor, nn

import vaezoo
from vaezoo.cli import main
from vaezoo.core import VAE
from vaezoo.errors import ConversionError, CorruptWeightsError, UnknownNameError, VaezooError
from vaezoo.networks import Activation
from vaezoo.storage.conversion import state_dict
from vaezoo.storage.conversion.convert import convert
from vaezoo.storage.conversion.perceptron import Perceptron
from vaezoo.storage.conversion.state_dict import read_source

NAMED = {
    "shape": (12,), "encoder": ["fc1"], "mean": "fc21", "log_variance": "fc22", "decoder": ["fc3", "fc4"],
    "activation": "relu", "likelihood": "bernoulli",
}  # fmt: skip
WORDS = "--shape 12 --encoder fc1 --mean fc21 --log-variance fc22 --decoder fc3 fc4 --activation relu"


class Deep(nn.Module):
    """Sequential networks as tutorials have them: one head for both halves, tanh, real output, no last bias."""

    def __init__(self, variance: bool) -> None:
        super().__init__()
        self.variance = variance
        self.enc = nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 8))
        up = (nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 12, bias=False))
        self.dec = nn.Sequential(*up)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = self.enc(x.flatten(1)).chunk(2, dim=1)
        return mean, torch.exp(spread / 2 if self.variance else spread)

    def decode(self, z: Tensor) -> Tensor:
        return self.dec(z)


@torch.no_grad()
def assert_equal(ours: VAE, theirs: nn.Module, shape: tuple[int, ...]) -> None:
    """Both in float32, as they are used; weights large enough that nothing is equal by being small."""
    x, z = torch.rand(16, *shape), torch.randn(16, *(ours.latent or ()))
    mean, deviation = theirs.encode(x)
    assert deviation.std() > 1e-3
    posterior = ours.encode(x)
    torch.testing.assert_close(posterior.mean, mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(posterior.stddev, deviation, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.decode(z).mean, theirs.decode(z).reshape(-1, *shape), rtol=1e-6, atol=1e-6)


class TestKnownLayouts:
    def test_pytorch_example(self, tmp_path: Path) -> None:
        theirs = Example()
        done = convert(saved(tmp_path / "vae.pt", theirs.state_dict()), tmp_path / "mine")
        assert (done.layout, done.variant, done.shape, done.latent) == ("pytorch-example", "vae", (1, 28, 28), 20)
        assert done.difference < 1e-12
        ours = vaezoo.load(tmp_path / "mine")
        assert_equal(ours, theirs, (1, 28, 28))
        head = ours.state_dict()["encoder.network.head.weight"]
        assert torch.equal(head[:20], theirs.fc21.weight) and torch.equal(2 * head[20:], theirs.fc22.weight)
        other = small(tmp_path / "other.pt")  # of another size: a vector, unless a shape is given
        assert convert(other, tmp_path / "row").shape == (12,)
        assert convert(other, tmp_path / "image", shape=(3, 2, 2)).shape == (3, 2, 2)

    def test_two_hidden_layers(self, tmp_path: Path) -> None:
        theirs = MnistVAE()
        done = convert(saved(tmp_path / "vae.pth", theirs.state_dict()), tmp_path / "mine")
        assert (done.layout, done.shape, done.latent) == ("pytorch-mnist-vae", (1, 28, 28), 2)
        assert_equal(vaezoo.load(tmp_path / "mine"), theirs, (1, 28, 28))

    @pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", ""])
    @pytest.mark.parametrize(
        "prefix", ["module.", "_orig_mod.", "model._orig_mod.", "module.model.", "vae.", "ema_model.network."]
    )
    def test_prefixes_of_wrappers(self, tmp_path: Path, prefix: str, wrapper: str) -> None:
        """As DataParallel, torch.compile and Lightning write them, with the plain values of a Lightning checkpoint."""
        theirs = Example(12, 6, 3)
        content: object = {f"{prefix}{key}": tensor for key, tensor in theirs.state_dict().items()}
        if wrapper:
            beside = {"epoch": 3, "pytorch-lightning_version": "2.5", "hyper_parameters": {"lr": 1e-3}, "loops": {}}
            content = {wrapper: content, "optimizer_states": [], **beside}
        convert(saved(tmp_path / "last.ckpt", content), tmp_path / "mine")
        assert_equal(vaezoo.load(tmp_path / "mine"), theirs, (12,))

    @pytest.mark.parametrize(
        ("settings", "variant", "options"),
        [
            ({"name": "VAEConfig"}, "vae", {}),
            ({"name": "BetaVAEConfig", "beta": 2.5}, "beta-vae", {"beta-vae.beta": 2.5}),
            ({"name": "IWAEConfig", "number_samples": 7}, "iwae", {"iwae.samples": 7}),
            ({"name": "FactorVAEConfig", "gamma": 5.0}, "factor-vae", {"factor-vae.gamma": 5.0}),
        ],
    )
    def test_pythae(self, tmp_path: Path, settings: dict[str, object], variant: str, options: object) -> None:
        theirs = Pythae()
        if variant == "factor-vae":
            theirs.discriminator = nn.Sequential(nn.Linear(3, 2))
        convert(pythae_folder(tmp_path / "theirs", theirs, **settings), tmp_path / "mine")
        ours = vaezoo.load(tmp_path / "mine")
        assert_equal(ours, theirs, (1, 3, 4))
        assert ours.config is not None and ours.config["variant"] == variant
        assert dict(options).items() <= ours.config["options"].items()

    def test_pythae_with_squared_error_needs_a_likelihood(self, tmp_path: Path) -> None:
        theirs = Pythae()
        folder = pythae_folder(tmp_path / "theirs", theirs, reconstruction_loss="mse")
        for source, words in ((folder, "--likelihood bernoulli"), (folder / "model.pt", "name its folder")):
            with pytest.raises(ConversionError, match=words):
                convert(source, tmp_path / "mine")
        assert not (tmp_path / "mine").exists()
        convert(folder, tmp_path / "mine", likelihood="bernoulli")
        ours = vaezoo.load(tmp_path / "mine")
        assert_equal(ours, theirs, (1, 3, 4))
        assert ours.config is not None and ours.config["origin"]["loss"] == "mse"

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"name": "VAMPConfig"}, "VAMPConfig.*no exact counterpart"),
            ({"uses_default_encoder": False}, "never opened.*encoder.embedding.weight"),
            ({"latent_dim": 4}, "4 latents; its tensors have 3"),
            ({"input_dim": [1, 5, 5]}, r"12 numbers; shape \(1, 5, 5\) has 25"),
            ({"reconstruction_loss": "l1"}, "'bce' or 'mse'"),
            ({"name": "BetaVAEConfig"}, "lack beta"),
        ],
    )
    def test_other_pythae_models_are_refused(self, tmp_path: Path, settings: dict[str, object], words: str) -> None:
        with pytest.raises(VaezooError, match=words):
            convert(pythae_folder(tmp_path / "theirs", **settings), tmp_path / "mine")
        assert not (tmp_path / "mine").exists()


class TestNamedLayers:
    @pytest.mark.parametrize("variance", [True, False])
    def test_one_head_for_both(self, tmp_path: Path, variance: bool) -> None:
        theirs = Deep(variance)
        words = {("log_variance" if variance else "log_scale"): "enc.4"}
        convert(
            saved(tmp_path / "deep.pt", {"epoch": 3, "state_dict": theirs.state_dict()}), tmp_path / "mine", shape=12,
            encoder=["enc.0", "enc.2"], mean="enc.4", decoder=["dec.0", "dec.2", "dec.4"], activation="tanh",
            likelihood="gaussian", scale=0.5, **words,
        )  # fmt: skip
        ours = vaezoo.load(tmp_path / "mine")
        assert_equal(ours, theirs, (12,))
        assert bool((ours.decode(torch.zeros(1, 4)).stddev == torch.tensor(0.5)).all())

    def test_every_activation(self, tmp_path: Path) -> None:
        source = small(tmp_path / "vae.pt")
        for activation in get_args(Activation):
            done = convert(source, tmp_path / activation, **{**NAMED, "activation": activation})
            assert done.difference < 1e-12

    def test_without_hidden_layers(self, tmp_path: Path) -> None:
        tensors = {"m.weight": torch.randn(2, 5), "s.weight": torch.randn(2, 5), "d.weight": torch.randn(5, 2)}
        words = {"shape": 5, "mean": "m", "log_scale": "s", "decoder": "d", "likelihood": "gaussian"}
        convert(saved(tmp_path / "pca.pt", tensors), tmp_path / "mine", **words)
        x = torch.rand(3, 5)
        torch.testing.assert_close(vaezoo.load(tmp_path / "mine").encode(x).mean, x @ tensors["m.weight"].T)

    def test_safetensors_and_other_types_that_float32_holds(self, tmp_path: Path) -> None:
        state = {key: tensor.half() for key, tensor in Example(12, 8, 3).state_dict().items()}
        save_file(state, tmp_path / "half.safetensors")
        saved(tmp_path / "double.pt", {key: tensor.double() for key, tensor in state.items()})
        for name in ("half.safetensors", "double.pt"):
            convert(tmp_path / name, tmp_path / f"of {name}")
        first, second = (tmp_path / f"of {name}" / "model.safetensors" for name in ("half.safetensors", "double.pt"))
        assert first.read_bytes() == second.read_bytes()

    @pytest.mark.parametrize(
        ("words", "error", "message"),
        [
            ({"activation": "tanh"}, ConversionError, "known layouts have their own"),
            (NAMED | {"encoder": ["fc11"]}, UnknownNameError, r"Did you mean 'fc1'.*fc1.weight \(8, 12\)"),
            (NAMED | {"activation": "sigmoid"}, UnknownNameError, "leaky-relu"),
            (NAMED | {"activation": None}, ConversionError, "activation after each hidden layer"),
            (NAMED | {"likelihood": None}, ConversionError, "bernoulli .* or gaussian"),
            (NAMED | {"likelihood": "bernoulli", "scale": 2.0}, ConversionError, "only gaussian has one"),
            (NAMED | {"shape": None}, ConversionError, "shape of one x"),
            (NAMED | {"shape": (13,)}, ConversionError, r"fc1 takes 12 numbers; shape \(13,\) has 13"),
            (NAMED | {"log_scale": "fc22"}, ConversionError, "either log_variance or log_scale"),
            (NAMED | {"decoder": ()}, ConversionError, "Found: fc1.weight"),
            (NAMED | {"decoder": ["fc4", "fc3"]}, ConversionError, "fc3 takes 3 numbers, but fc4 before it gives 12"),
            (NAMED | {"mean": "fc21", "log_variance": "fc21"}, ConversionError, "fc21 gives 3 numbers; two halves"),
            (NAMED | {"mean": "fc3"}, ConversionError, r"would be lost: fc21.weight \(3, 8\)"),
        ],
    )
    def test_wrong_arguments_are_refused(
        self, tmp_path: Path, words: dict[str, object], error: type[VaezooError], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            convert(small(tmp_path / "vae.pt"), tmp_path / "mine", **words)
        assert not (tmp_path / "mine").exists()


class TestUnsupportedModels:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"fc1.weight": torch.zeros(8, 12, 1, 1)}, "Convolutions"),
            ({"fc1.weight": torch.zeros(8, 12, dtype=torch.long)}, "fully connected"),
            ({"fc1.bias": torch.zeros(7)}, r"shape \(7,\); expected \(8,\)"),
            ({"fc1.weight": torch.full((8, 12), torch.nan)}, "NaN"),
            ({"fc1.weight": torch.full((8, 12), 1 / 3, dtype=torch.float64)}, "float32 does not hold"),
            ({"fc1.weight": torch.zeros(8, 12).to_sparse()}, "state dict|sparse"),
            ({"bn.running_mean": torch.zeros(8), "bn.weight": torch.ones(8)}, r"would be lost.*bn.running_mean \(8,\)"),
            ({"fc3.weight": torch.zeros(6, 3), "fc3.bias": torch.zeros(6), "fc4.weight": torch.zeros(12, 6)}, "mirror"),
            ({"fc22.bias": torch.full((3,), 31.0)}, "standard deviation.*15"),
        ],
    )
    def test_unsupported_model_is_refused(self, tmp_path: Path, changes: dict[str, Tensor], message: str) -> None:
        source = small(tmp_path / "vae.pt", **changes)
        if message == "mirror":
            message = r"\[8\] wide.*\[6\].*cannot be converted"
        with pytest.raises(ConversionError, match=message):
            convert(source, tmp_path / "mine", **NAMED)
        assert not (tmp_path / "mine").exists()

    @pytest.mark.parametrize(
        ("key", "rows", "what"),
        [
            ("encoder.network.head.bias", slice(0, 1), "the posterior's mean"),
            ("encoder.network.head.weight", slice(3, 6), "the posterior's standard deviation"),  # log σ² not halved
            ("decoder.network.layers.0.weight", slice(7, 8), "the mean of x"),
        ],
    )
    def test_wrong_conversion_is_detected(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, rows: slice, what: str
    ) -> None:
        right = Perceptron.state

        def wrong(self: Perceptron) -> dict[str, Tensor]:
            state = right(self)
            state[key] = state[key].clone()
            state[key][rows] *= 2
            return state

        monkeypatch.setattr(Perceptron, "state", wrong)
        with pytest.raises(ConversionError, match=f"differs from the original in {what}"):
            convert(small(tmp_path / "vae.pt"), tmp_path / "mine")
        assert not (tmp_path / "mine").exists()

    def test_unknown_layout_or_existing_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"Name its layers.*Found: a.weight \(2, 3\)"):
            convert(saved(tmp_path / "a.pt", {"a.weight": torch.zeros(2, 3)}), tmp_path / "new")
        source = small(tmp_path / "mine" / "vae.pt")
        for place in (tmp_path / "mine", source):
            with pytest.raises(ConversionError, match="not empty"):
                convert(source, place)
        assert [path.name for path in (tmp_path / "mine").iterdir()] == ["vae.pt"]


class TestConvertedModel:
    def test_converted_model_is_evaluated_and_published_with_its_origin(self, tmp_path: Path) -> None:
        folder = tmp_path / "mine"
        source = saved(tmp_path / "vae.pt", Example(64, 8, 3).state_dict())
        convert(source, folder, shape=(1, 8, 8))
        words = ["evaluate", str(folder), "--data", "digits", "--binarize", "static", "--samples", "5", "--limit", "50"]
        assert main([*words, "--write"]) == 0
        assert json.loads((folder / "metrics.json").read_text())["bound"]["mean"] < 0
        assert main(["push", str(folder), "--owner", "someone", "--dry-run"]) == 0
        facts = {"layout": "pytorch-example", "sha256": read_source(source).sha256}
        model = vaezoo.load(folder)
        assert model.config is not None and model.config["origin"] == facts
        assert facts["sha256"] in (folder / "README.md").read_text()
        again = vaezoo.save(model, tmp_path / "again")
        assert (again / "config.json").read_bytes() == (folder / "config.json").read_bytes()

    def test_invalid_origin_is_refused(self, tmp_path: Path) -> None:
        folder = vaezoo.save(vaezoo.create("vae", shape=(3,), latent=2), tmp_path / "mine")
        many = {str(n): "x" for n in range(9)}
        for origin in ("x", {"a": 1}, {"a": "[x](http://y)"}, {"a": "x" * 65}, many):
            write_config(folder, config_of(folder) | {"origin": origin})
            with pytest.raises(CorruptWeightsError, match="origin"):
                vaezoo.load(folder)

    def test_convert_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = small(tmp_path / "vae.pt")
        words = [*WORDS.split(), "--likelihood", "bernoulli"]
        assert main(["convert", str(source), "--to", str(tmp_path / "named"), *words]) == 0
        assert "vae, shape (12,), 3 latents, read as named" in " ".join(capsys.readouterr().out.split())
        assert main(["convert", str(source), "--to", str(tmp_path / "known")]) == 0
        named, known = (tmp_path / name / "model.safetensors" for name in ("named", "known"))
        assert named.read_bytes() == known.read_bytes()
        assert main(["convert", str(source), "--to", str(tmp_path / "x"), *WORDS.replace("fc1 ", "fc9 ").split()]) == 1
        assert "error [unknown-name]: Unknown layer 'fc9'. Did you mean" in capsys.readouterr().err


# Hostile files


def test_oversized_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their size, by compression, and by tensors that are larger than their file."""
    source = small(tmp_path / "vae.pt")
    with monkeypatch.context() as patch:
        patch.setattr(state_dict, "LARGEST_FILE", source.stat().st_size - 1)
        with pytest.raises(ConversionError, match=r"more than .* bytes"):
            read_source(source)
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(ConversionError, match="compressed"):
        read_source(tmp_path / "bomb.pt")
    with pytest.raises(ConversionError, match="more than their file"):
        read_source(saved(tmp_path / "wide.pt", {"x.weight": torch.zeros(1).expand(2**20, 2**20)}))


def test_invalid_pythae_settings_are_refused(tmp_path: Path) -> None:
    folder = pythae_folder(tmp_path / "theirs")
    (folder / "model_config.json").write_text("[" * 100_000)
    with pytest.raises(CorruptWeightsError):
        read_source(folder)
    (folder / "model_config.json").write_text("[1]")
    with pytest.raises(ConversionError, match="no exact counterpart"):
        convert(folder, tmp_path / "mine")


def test_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    for content in (b"", b"PK\x03\x04", b"\x80\x02.", b"\x08" + bytes(7) + b"{}      ", bytes(64)):
        path.write_bytes(content)
        with pytest.raises(ConversionError):
            read_source(path)
    with pytest.raises(ConversionError, match=r"holds no plain state dict.*Nothing of it was run"):
        read_source(small(path, x=System(f"touch {tmp_path}/ran")))
    assert not (tmp_path / "ran").exists()
    for value in (3, [torch.zeros(2)], {"state_dict": {"a": 1}}, {1: torch.zeros(2)}, {}):
        with pytest.raises(ConversionError, match=r"state dict|expected a name"):
            read_source(saved(path, value))
    os.mkfifo(tmp_path / "pipe")
    for name in ("none.pt", "pipe", "", "a\0b"):
        with pytest.raises(ConversionError, match="cannot be read"):
            read_source(tmp_path / name)


def test_damaged_archive_raises_vaezoo_errors_only(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.pt", {"x.weight": torch.ones(2, 2)}).read_bytes()
    broken = [whole[:length] for length in range(0, len(whole), 31)]
    broken += [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(0, len(whole), 13)]
    for data in broken:
        (tmp_path / "broken.pt").write_bytes(data)
        try:
            read_source(tmp_path / "broken.pt")
        except VaezooError:
            continue
