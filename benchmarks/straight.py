"""Training loops by hand: no logging, no `.item()`, images as one float tensor in memory.

Each has the layers and the loss of the vaezoo model that it is compared with; tests check that they are equal.
"""

import math

import torch
from clock import Clock
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from vaezoo.data import Dataset


class VAE(nn.Module):
    """A Gaussian posterior from one head, a standard normal prior, Bernoulli pixels."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        """Returns the loss, nats per example."""
        mean, log_scale = self.encoder(x).chunk(2, -1)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        logits = self.decoder(z)
        distortion = functional.binary_cross_entropy_with_logits(logits, x.view_as(logits), reduction="sum")
        rate = (0.5 * (mean.square() + (2.0 * log_scale).exp() - 1.0) - log_scale).sum()
        return (distortion + rate) / len(x)


class IWAE(VAE):
    """The same parts; K samples and the importance-weighted bound."""

    def forward(self, x: Tensor, samples: int = 50) -> Tensor:
        return -(self.log_weights(x, samples).logsumexp(0) - math.log(samples)).mean()

    def log_weights(self, x: Tensor, samples: int) -> Tensor:
        """Returns log p(x|z) + log p(z) - log q(z|x), (K, B); the constants of the two normals cancel."""
        mean, log_scale = self.encoder(x).chunk(2, -1)
        noise = torch.randn(samples, *mean.shape)
        z = mean + log_scale.exp() * noise
        logits = self.decoder(z)
        pixels = functional.binary_cross_entropy_with_logits(logits, x.flatten(1).expand_as(logits), reduction="none")
        return (0.5 * (noise.square() - z.square()) + log_scale).sum(-1) - pixels.sum(-1)


class Introduction(nn.Module):
    """784-400-20 as in introductions to the VAE: two heads, a sigmoid, and cross-entropy of probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(784, 400)
        self.mean, self.log_variance = nn.Linear(400, 20), nn.Linear(400, 20)
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Returns the loss, nats per example."""
        features = functional.relu(self.hidden(x.flatten(1)))
        mean, log_variance = self.mean(features), self.log_variance(features)
        output = self.decoder(mean + torch.randn_like(mean) * (0.5 * log_variance).exp())
        distortion = functional.binary_cross_entropy(output, x.flatten(1), reduction="sum")
        rate = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        return (distortion + rate) / len(x)


def mlp() -> VAE:
    """784-400-20."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
    return VAE(encoder, nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784)))


def conv() -> VAE:
    """Channels 32-64-128, 16 latents, SiLU."""
    down = [nn.Conv2d(1, 32, 3, 2, 1), nn.SiLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.SiLU(), nn.Conv2d(64, 128, 3, 2, 1)]
    up = [nn.ConvTranspose2d(128, 64, 3, 2, 1), nn.SiLU(), nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), nn.SiLU()]
    return VAE(
        nn.Sequential(*down, nn.SiLU(), nn.Flatten(), nn.Linear(2048, 32)),
        nn.Sequential(
            nn.Linear(16, 2048), nn.Unflatten(1, (128, 4, 4)), nn.SiLU(), *up, nn.ConvTranspose2d(32, 1, 3, 2, 1, 1)
        ),
    )


def iwae() -> IWAE:
    """Two layers of 200, tanh, 50 latents."""
    encoder = [nn.Flatten(), nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 100)]
    decoder = [nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784)]
    return IWAE(nn.Sequential(*encoder), nn.Sequential(*decoder))


class VQ(nn.Module):
    """512 codes of 64 on a 7 x 7 grid, moving averages; a Gaussian whose scale is the running error.

    `one_hot` uses (rows, codes) matrices of zeros and ones, as common implementations do; without it codes are selected
    and summed by index.
    """

    def __init__(self, one_hot: bool, codes: int = 512, width: int = 64, decay: float = 0.99) -> None:
        super().__init__()
        self.one_hot, self.decay = one_hot, decay
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, 2, 1), nn.SiLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.SiLU(), nn.Conv2d(64, width, 1)
        )
        up = [nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), nn.SiLU(), nn.ConvTranspose2d(32, 1, 3, 2, 1, 1)]
        self.decoder = nn.Sequential(nn.Conv2d(width, 64, 1), nn.SiLU(), *up)
        codebook = torch.randn(codes, width) / math.sqrt(width)
        self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", codebook.clone())
        self.register_buffer("variance", torch.tensor(0.01))

    def quantise(self, rows: Tensor) -> Tensor:
        """Returns the nearest codes of `rows` (R, D), and updates the moving averages."""
        distances = rows.square().sum(1, keepdim=True) + self.codebook.square().sum(1) - 2.0 * rows @ self.codebook.T
        indices = distances.argmin(1)
        if self.one_hot:
            chosen = functional.one_hot(indices, len(self.codebook)).to(rows.dtype)
            codes, counts, sums = chosen @ self.codebook, chosen.sum(0), chosen.T @ rows
        else:
            codes, counts = self.codebook[indices], indices.bincount(minlength=len(self.codebook)).to(rows.dtype)
            sums = torch.zeros_like(self.sums).index_add_(0, indices, rows)
        self.counts.mul_(self.decay).add_(counts, alpha=1.0 - self.decay)
        self.sums.mul_(self.decay).add_(sums, alpha=1.0 - self.decay)
        self.codebook.copy_(self.sums / (self.counts[:, None] + 1e-5))
        return codes

    def forward(self, x: Tensor) -> Tensor:
        """Returns the loss, nats per example."""
        encoded = self.encoder(x).movedim(1, -1)
        with torch.no_grad():
            codes = self.quantise(encoded.reshape(-1, encoded.shape[-1])).view_as(encoded)
        error = (self.decoder((encoded + (codes - encoded).detach()).movedim(-1, 1)) - x).square()
        variance = self.variance.clone()
        pixels = 0.5 * (error / variance + (2.0 * math.pi * variance).log())
        self.variance.lerp_(error.detach().mean(), 0.01)
        return (pixels.sum() + 0.25 * (encoded - codes).square().sum()) / len(x)


def train(clock: Clock, data: Dataset, steps: int, model: nn.Module, batch: int, fused: bool | None) -> list[Tensor]:
    """Trains with shuffled batches by index; `fused=None` is the default Adam. Returns the losses, unread."""
    images, losses = data.batch(torch.arange(len(data))), list[Tensor]()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
    clock.begin()
    while clock.done < steps:
        for indices in torch.randperm(len(images)).split(batch)[: min(len(images) // batch, steps - clock.done)]:
            loss = model(images.index_select(0, indices))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            clock.tick()
    return losses


class Pictures(torch.utils.data.Dataset[Tensor]):
    """Converts one image at a time from array to PIL image to tensor, as torchvision's MNIST does."""

    def __init__(self, data: Dataset) -> None:
        from torchvision.transforms import ToTensor  # takes two seconds to import

        self.images, self.convert = data.images[:, 0], ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        converted: Tensor = self.convert(Image.fromarray(self.images[index].numpy(), mode="L"))
        return converted


def data_loader(clock: Clock, data: Dataset, steps: int) -> None:
    """Trains the MLP with a DataLoader, per-image conversion in the main process, and the default Adam."""
    loader = DataLoader(Pictures(data), batch_size=128, shuffle=True, drop_last=True)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    clock.begin()
    while clock.done < steps:
        for x in loader:
            loss = model(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clock.tick()
            if clock.done == steps:
                break


@torch.no_grad()
def evidence_in_chunks(model: IWAE, x: Tensor, samples: int) -> Tensor:
    """Returns the bound of each of `x`, ten images together, in chunks of 1,000 decodings."""
    bounds = []
    for part in x.split(10):
        chunks = [model.log_weights(part, 100).logsumexp(0) for _ in range(samples // 100)]
        bounds.append(torch.stack(chunks).logsumexp(0) - math.log(samples))
    return torch.cat(bounds)


@torch.no_grad()
def evidence_one_by_one(model: IWAE, x: Tensor, samples: int) -> Tensor:
    """Returns the bound of each of `x`, one after the other, 100 copies of it at a time, as pythae's `get_nll`."""
    bounds = []
    for image in x:
        copies = image.expand(100, *image.shape)
        weights = [model.log_weights(copies, 1) for _ in range(samples // 100)]
        bounds.append(torch.cat(weights).flatten().logsumexp(0) - math.log(samples))
    return torch.stack(bounds)
