"""Models and files of other projects, and a malicious pickle."""

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


class Example(nn.Module):
    """The model of PyTorch's examples/vae: one hidden layer, two heads, log σ²."""

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


class MnistVAE(nn.Module):
    """The model of lyeoni/pytorch-mnist-VAE: two hidden layers, two heads, log σ²."""

    def __init__(self, size: int = 784, widths: tuple[int, int] = (40, 30), latent: int = 2) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(size, widths[0]), nn.Linear(*widths)
        self.fc31, self.fc32 = nn.Linear(widths[1], latent), nn.Linear(widths[1], latent)
        self.fc4, self.fc5, self.fc6 = (
            nn.Linear(latent, widths[1]),
            nn.Linear(*widths[::-1]),
            nn.Linear(widths[0], size),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = functional.relu(self.fc2(functional.relu(self.fc1(x.flatten(1)))))
        return self.fc31(features), torch.exp(0.5 * self.fc32(features))

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc6(functional.relu(self.fc5(functional.relu(self.fc4(z))))))


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


class System:
    """The content of a malicious pickle: a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


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
