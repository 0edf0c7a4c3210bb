"""Weights of other projects: the same numbers come out, or an error; and nothing of a stranger's file is run."""

import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

import vaezoo
from vaezoo.checkpoint import canonical, sha256
from vaezoo.cli import main
from vaezoo.conversion import convert, reading, writing
from vaezoo.conversion.perceptron import Perceptron
from vaezoo.conversion.reading import read_source
from vaezoo.errors import ConfigError, ConversionError, CorruptWeightsError, UnknownNameError, VaezooError
from vaezoo.model import VAE

NAMED = {
    "shape": (12,), "encoder": ["fc1"], "mean": "fc21", "log_variance": "fc22", "decoder": ["fc3", "fc4"],
    "activation": "relu", "likelihood": "bernoulli",
}  # fmt: skip
WORDS = "--shape 12 --encoder fc1 --mean fc21 --log-variance fc22 --decoder fc3 fc4 --activation relu"


class Example(nn.Module):
    """Made as PyTorch's examples/vae makes it: one hidden layer, two heads, log σ²."""

    def __init__(self, size: int = 784, hidden: int = 40, latent: int = 20) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size, hidden)
        self.fc21, self.fc22 = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.fc3, self.fc4 = nn.Linear(latent, hidden), nn.Linear(hidden, size)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = functional.relu(self.fc1(x.flatten(1)))
        return self.fc21(features), torch.exp(0.5 * self.fc22(features))

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(functional.relu(self.fc3(z))))


class Pythae(nn.Module):
    """Two networks with the names of pythae's default ones, which are 512 wide."""

    class Encoder(nn.Module):
        def __init__(self, size: int, latent: int) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Sequential(nn.Linear(size, 512), nn.ReLU())])
            self.embedding, self.log_var = nn.Linear(512, latent), nn.Linear(512, latent)

    class Decoder(nn.Module):
        def __init__(self, size: int, latent: int) -> None:
            super().__init__()
            last = nn.Sequential(nn.Linear(512, size), nn.Sigmoid())
            self.layers = nn.ModuleList([nn.Sequential(nn.Linear(latent, 512), nn.ReLU()), last])

    def __init__(self, size: int = 12, latent: int = 3) -> None:
        super().__init__()
        self.encoder, self.decoder = self.Encoder(size, latent), self.Decoder(size, latent)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder.layers[0](x.flatten(1))
        return self.encoder.embedding(features), torch.exp(0.5 * self.encoder.log_var(features))

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder.layers[1](self.decoder.layers[0](z))


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


def saved(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def small(path: Path, **changes: object) -> Path:
    torch.manual_seed(0)
    return saved(path, {**Example(12, 8, 3).state_dict(), **changes})


def pythae_folder(path: Path, model: nn.Module | None = None, **settings: object) -> Path:
    given = {
        "name": "VAEConfig", "input_dim": [1, 3, 4], "latent_dim": 3, "reconstruction_loss": "bce",
        "uses_default_encoder": True, "uses_default_decoder": True, **settings,
    }  # fmt: skip
    saved(path / "model.pt", {"model_state_dict": (model or Pythae()).state_dict()})
    (path / "model_config.json").write_text(json.dumps(given))
    return path


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
    def test_pytorchs_example(self, tmp_path: Path) -> None:
        theirs = Example()
        done = convert(saved(tmp_path / "vae.pt", theirs.state_dict()), tmp_path / "mine")
        assert (done.layout, done.variant, done.shape, done.latent) == ("pytorch-example", "vae", (1, 28, 28), 20)
        assert done.difference < 1e-12
        ours = vaezoo.load(tmp_path / "mine")
        assert_equal(ours, theirs, (1, 28, 28))
        head = ours.state_dict()["encoder.network.head.weight"]
        assert torch.equal(head[:20], theirs.fc21.weight) and torch.equal(2 * head[20:], theirs.fc22.weight)

    def test_another_size_is_a_row_unless_a_shape_is_said(self, tmp_path: Path) -> None:
        assert convert(small(tmp_path / "vae.pt"), tmp_path / "row").shape == (12,)
        assert convert(small(tmp_path / "vae.pt"), tmp_path / "image", shape=(3, 2, 2)).shape == (3, 2, 2)

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

    def test_pythae_with_squared_error_only_where_the_user_says_so(self, tmp_path: Path) -> None:
        theirs = Pythae()
        folder = pythae_folder(tmp_path / "theirs", theirs, reconstruction_loss="mse")
        with pytest.raises(ConversionError, match="--likelihood bernoulli"):
            convert(folder, tmp_path / "mine")
        assert not (tmp_path / "mine").exists()
        convert(folder, tmp_path / "mine", likelihood="bernoulli")
        ours = vaezoo.load(tmp_path / "mine")
        assert_equal(ours, theirs, (1, 3, 4))
        assert ours.config is not None and ours.config["origin"]["loss"] == "mse"

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"name": "VAMPConfig"}, "VAMPConfig.*no exact counterpart"),
            ({"name": None}, "no exact counterpart"),
            ({"uses_default_encoder": False}, "never opened.*encoder.embedding.weight"),
            ({"uses_default_decoder": "yes"}, "never opened"),
            ({"latent_dim": 4}, "4 latents; its tensors have 3"),
            ({"input_dim": [1, 5, 5]}, r"12 numbers; shape \(1, 5, 5\) has 25"),
            ({"input_dim": "x"}, "input_dim"),
            ({"reconstruction_loss": "l1"}, "'bce' or 'mse'"),
            ({"name": "BetaVAEConfig"}, "lack beta"),
            ({"name": "BetaVAEConfig", "beta": -1.0}, "beta"),
        ],
    )
    def test_other_pythae_models_are_refused(self, tmp_path: Path, settings: dict[str, object], words: str) -> None:
        with pytest.raises(VaezooError, match=words):
            convert(pythae_folder(tmp_path / "theirs", **settings), tmp_path / "mine")
        assert not (tmp_path / "mine").exists()

    def test_pythaes_weights_alone_lead_to_the_folder(self, tmp_path: Path) -> None:
        folder = pythae_folder(tmp_path / "theirs")
        with pytest.raises(ConversionError, match="name its folder"):
            convert(folder / "model.pt", tmp_path / "mine")


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

    @pytest.mark.parametrize("activation", ["relu", "tanh", "silu", "gelu", "elu", "leaky-relu"])
    def test_every_activation(self, tmp_path: Path, activation: str) -> None:
        source = small(tmp_path / "vae.pt")
        assert convert(source, tmp_path / "mine", **{**NAMED, "activation": activation}).difference < 1e-12

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

    def test_parameters_instead_of_tensors(self, tmp_path: Path) -> None:
        convert(saved(tmp_path / "vae.pt", dict(Example(12, 8, 3).named_parameters())), tmp_path / "mine")

    @pytest.mark.parametrize(
        ("words", "error", "message"),
        [
            ({"encoder": ["fc11"]}, UnknownNameError, r"Did you mean 'fc1'.*fc1.weight \(8, 12\)"),
            ({"activation": "sigmoid"}, UnknownNameError, "leaky-relu"),
            ({"activation": None}, ConversionError, "activation after each hidden layer"),
            ({"likelihood": None}, ConversionError, "bernoulli .* or gaussian"),
            ({"likelihood": "continuous-bernoulli"}, UnknownNameError, "bernoulli, gaussian"),
            ({"likelihood": "bernoulli", "scale": 2.0}, ConversionError, "only gaussian has one"),
            ({"likelihood": "gaussian", "scale": -1.0}, ConfigError, "scale"),
            ({"shape": None}, ConversionError, "Say the shape"),
            ({"shape": (13,)}, ConversionError, r"fc1 takes 12 numbers; shape \(13,\) has 13"),
            ({"shape": (-12, -1)}, ConfigError, "positive sizes"),
            ({"log_scale": "fc22"}, ConversionError, "either log_variance or log_scale"),
            ({"mean": None}, ConversionError, "Name mean"),
            ({"decoder": ()}, ConversionError, "Found: fc1.weight"),
            ({"decoder": ["fc4", "fc3"]}, ConversionError, "fc3 takes 3 numbers, but fc4 before it gives 12"),
            ({"decoder": ["fc4"]}, ConversionError, r"would be lost: fc3.weight \(8, 3\)"),
            ({"encoder": ["fc1", "fc1"]}, ConversionError, "fc1 takes 12 numbers, but fc1 before it gives 8"),
            ({"mean": "fc21", "log_variance": "fc21"}, ConversionError, "fc21 gives 3 numbers; two halves"),
            ({"mean": "fc3"}, ConversionError, r"would be lost: fc21.weight \(3, 8\)"),
        ],
    )
    def test_words_that_do_not_fit(
        self, tmp_path: Path, words: dict[str, object], error: type[VaezooError], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            convert(small(tmp_path / "vae.pt"), tmp_path / "mine", **{**NAMED, **words})
        assert not (tmp_path / "mine").exists()

    def test_an_activation_alone_names_no_layer(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match="known layouts have their own"):
            convert(small(tmp_path / "vae.pt"), tmp_path / "mine", activation="tanh")


class TestWhatCannotBeRepresented:
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
    def test_is_refused(self, tmp_path: Path, changes: dict[str, Tensor], message: str) -> None:
        source = small(tmp_path / "vae.pt", **changes)
        if message == "mirror":
            message = r"\[8\] wide.*\[6\].*cannot be represented"
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
    def test_the_check_notices_a_wrong_conversion(
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

    def test_unknown_layouts_list_what_was_found(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"Name its layers.*Found: a.weight \(2, 3\)"):
            convert(saved(tmp_path / "a.pt", {"a.weight": torch.zeros(2, 3)}), tmp_path / "mine")

    def test_a_folder_that_is_in_use_is_left_alone(self, tmp_path: Path) -> None:
        source = small(tmp_path / "mine" / "vae.pt")
        for place in (tmp_path / "mine", source):
            with pytest.raises(ConversionError, match="not empty"):
                convert(source, place)
        assert [path.name for path in (tmp_path / "mine").iterdir()] == ["vae.pt"]


class System:
    """What a hostile pickle holds: a call of the shell."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


class Custom(nn.Linear):
    """A whole module pickled, as many people save their models."""


def archive(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED, **records: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in {"data.pkl": pickled, "version": b"3\n", **records}.items():
            file.writestr(f"archive/{name}", data)
    return path


def pickle_of(state: object, path: Path) -> bytes:
    torch.save(state, path)
    with zipfile.ZipFile(path) as file:
        return file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))


WATCHER = r"""
import sys, json
from pathlib import Path
import torch, vaezoo, vaezoo.conversion, vaezoo.variants.vae, vaezoo.networks.mlp, vaezoo.likelihoods.bernoulli
place = sys.argv[1]
seen = []
def watch(event, arguments):
    if event in ("os.system", "subprocess.Popen", "socket.connect", "pickle.find_class", "os.exec", "os.fork"):
        seen.append([event, repr(arguments)])
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(place + "/theirs"):
        seen.append(["open", str(Path(arguments[0]).relative_to(place + "/theirs"))])
sys.addaudithook(watch)
results = {}
for source in sys.argv[2:]:
    seen.clear()
    try:
        result = str(vaezoo.convert(f"{place}/theirs/{source}", f"{place}/mine/{source}"))
    except vaezoo.VaezooError as error:
        result = type(error).__name__
    results[source] = [result, list(seen)]
print(json.dumps(results))
"""

BESIDE = ("encoder.pkl", "decoder.pkl", "environment.json", "README.md", "training_config.json")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[list[str]]]]:
    """Converts in a process of its own; for each source, what came of it, and what was run or opened there."""
    place = tmp_path_factory.mktemp("watched")
    theirs, bomb = place / "theirs", System(f"touch {place}/ran")
    folder = pythae_folder(theirs / "pythae")
    for name in BESIDE:
        (folder / name).write_bytes(pickle.dumps(bomb))
    state = Example(12, 8, 3).state_dict()
    saved(theirs / "alone", bomb)
    saved(theirs / "wrapped", {"model_state_dict": bomb})
    saved(theirs / "beside tensors", {**state, "x": bomb})
    saved(theirs / "a module", {**state, "x": Custom(2, 2)})
    torch.save(bomb, theirs / "legacy", _use_new_zipfile_serialization=False)
    (theirs / "bare").write_bytes(pickle.dumps(bomb))
    names = sorted(path.name for path in theirs.iterdir())
    command = [sys.executable, "-c", WATCHER, str(place), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert not (place / "ran").exists()
    assert [path.name for path in (place / "mine").iterdir()] == ["pythae"]
    results: dict[str, tuple[str, list[list[str]]]] = json.loads(done.stdout)
    return results


class TestHostileFiles:
    def test_of_a_pythae_folder_two_files_are_opened_and_nothing_runs(self, watched: dict[str, object]) -> None:
        result, seen = watched["pythae"]
        assert result.startswith("Wrote")
        assert seen == [["open", "pythae/model_config.json"], ["open", "pythae/model.pt"]]

    @pytest.mark.parametrize("name", ["alone", "wrapped", "beside tensors", "a module", "legacy", "bare"])
    def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
        self, watched: dict[str, object], name: str
    ) -> None:
        assert watched[name] == ["ConversionError", [["open", name]]]

    def test_torch_refuses_it_too_should_our_own_reading_fail(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "check_pickle", lambda data, name: None)
        source = small(tmp_path / "vae.pt", x=System(f"touch {tmp_path}/ran"))
        with pytest.raises(ConversionError, match="torch says"):
            read_source(source)
        assert not (tmp_path / "ran").exists()

    def test_the_message_names_what_it_holds(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"holds '(posix|nt|os).system'.*Nothing of it was run"):
            read_source(small(tmp_path / "vae.pt", x=System("true")))

    def test_a_compressed_archive_is_refused_before_it_is_unpacked(self, tmp_path: Path) -> None:
        pickled = pickle_of({}, tmp_path / "empty.pt")
        zeros = bytes(2**26)
        path = archive(tmp_path / "bomb.pt", pickled, zipfile.ZIP_DEFLATED, **{"data/0": zeros})
        del zeros
        tracemalloc.start()
        with pytest.raises(ConversionError, match="compressed"):
            read_source(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()

    def test_more_numbers_than_there_are_bytes(self, tmp_path: Path) -> None:
        """One number stretched over a huge tensor, and a record that is shorter than the pickle says."""
        wide = torch.zeros(1).expand(2**20, 2**20)
        with pytest.raises(ConversionError, match="more than their file"):
            read_source(saved(tmp_path / "wide.pt", {"x.weight": wide}))
        pickled = pickle_of({"x.weight": torch.zeros(1000, 1000)}, tmp_path / "zeros.pt")
        for size in (0, 4, 4000):
            with pytest.raises(ConversionError):
                read_source(archive(tmp_path / "short.pt", pickled, **{"data/0": bytes(size)}))

    def test_dictionaries_made_of_dictionaries(self, tmp_path: Path) -> None:
        """A few bytes each, and each a copy of all that came before."""
        many = OrderedDict((str(number), number) for number in range(100))
        body = pickle.dumps(list(many.items()), protocol=2)[2:-1] + b"q\xfe0"
        copies = b"ccollections\nOrderedDict\nq\xff(h\xfetR0" + b"h\xff(h\xfetR0" * 100
        for pickled in (
            b"\x80\x02" + body + copies + b"}.",
            b"\x80\x02" + body.replace(b"q\xfe0", b"") + copies + b".",
        ):
            with pytest.raises(ConversionError, match="plain state dict"):
                read_source(archive(tmp_path / "copies.pt", pickled))

    def test_limits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = small(tmp_path / "vae.pt")
        with monkeypatch.context() as patch:
            patch.setattr(reading, "LARGEST_FILE", source.stat().st_size - 1)
            with pytest.raises(ConversionError, match="too many to be"):
                read_source(source)
        many = {f"x{number}": torch.zeros(1) for number in range(3000)}
        with pytest.raises(ConversionError, match=r"records|describes its tensors"):
            read_source(saved(tmp_path / "many.pt", many))
        folder = pythae_folder(tmp_path / "theirs")
        (folder / "model_config.json").write_text("[" * 100_000)
        with pytest.raises(CorruptWeightsError):
            read_source(folder)
        (folder / "model_config.json").write_text("[1]")
        with pytest.raises(ConversionError, match="no exact counterpart"):
            convert(folder, tmp_path / "mine")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"\x08" + bytes(7) + b"{}      ", bytes(64)])
    def test_no_state_dict_at_all(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(ConversionError):
            convert(tmp_path / "x.pt", tmp_path / "mine")

    @pytest.mark.parametrize("content", [3, [torch.zeros(2)], {"state_dict": {"a": 1}}, {1: torch.zeros(2)}, {}])
    def test_no_table_of_tensors(self, tmp_path: Path, content: object) -> None:
        with pytest.raises(ConversionError, match=r"state dict|no name"):
            read_source(saved(tmp_path / "x.pt", content))

    def test_no_such_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for name, words in (("none.pt", "cannot be read"), ("pipe", "is no file"), ("", "model_config.json")):
            with pytest.raises(ConversionError, match=words):
                read_source(tmp_path / name)
        with pytest.raises(ConversionError, match="cannot be read"):
            read_source(Path("a\0b"))

    def test_every_cut_and_many_changed_bytes_give_our_errors_alone(self, tmp_path: Path) -> None:
        tensors = {"x.weight": torch.ones(2, 2)}
        whole = saved(tmp_path / "whole.pt", tensors).read_bytes()
        broken = [whole[:length] for length in range(0, len(whole), 7)]
        broken += [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(0, len(whole), 5)]
        read = 0
        for data in broken:
            (tmp_path / "broken.pt").write_bytes(data)
            try:
                found = read_source(tmp_path / "broken.pt").tensors
            except VaezooError:
                continue
            read += 1
            assert all(torch.equal(tensor, torch.ones(2, 2)) for tensor in found.values())
        assert 0 < read < len(broken) / 2  # what lies between the records says nothing


class TestWhatBecomesOfIt:
    def test_it_is_measured_and_published_and_says_where_it_is_from(self, tmp_path: Path) -> None:
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

    @pytest.mark.parametrize(
        "origin", ["x", {"a": 1}, {"a": "[x](http://y)"}, {"a": "x" * 65}, {str(n): "x" for n in range(9)}]
    )
    def test_a_config_says_only_a_few_words_of_its_origin(self, tmp_path: Path, origin: object) -> None:
        folder = vaezoo.save(vaezoo.create("vae", shape=(3,), latent=2), tmp_path / "mine")
        config = {**json.loads((folder / "config.json").read_text()), "origin": origin}
        del config["digest"]
        config["digest"] = sha256(canonical(config).encode())
        (folder / "config.json").write_text(canonical(config))
        with pytest.raises(CorruptWeightsError, match="few short words"):
            vaezoo.load(folder)

    def test_the_callers_random_state_stays(self, tmp_path: Path) -> None:
        source = small(tmp_path / "vae.pt")
        before = torch.get_rng_state()
        convert(source, tmp_path / "mine")
        assert torch.equal(torch.get_rng_state(), before)
        assert writing.ROWS >= 16

    def test_the_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = small(tmp_path / "vae.pt")
        words = [*WORDS.split(), "--likelihood", "bernoulli"]
        assert main(["convert", str(source), "--to", str(tmp_path / "named"), *words]) == 0
        assert "vae, shape (12,), 3 latents, read as named" in " ".join(capsys.readouterr().out.split())
        assert main(["convert", str(source), "--to", str(tmp_path / "known")]) == 0
        named, known = (tmp_path / name / "model.safetensors" for name in ("named", "known"))
        assert named.read_bytes() == known.read_bytes()
        assert main(["convert", str(source), "--to", str(tmp_path / "x"), *WORDS.replace("fc1 ", "fc9 ").split()]) == 1
        assert "error [unknown-name]: Unknown layer 'fc9'. Did you mean" in capsys.readouterr().err
