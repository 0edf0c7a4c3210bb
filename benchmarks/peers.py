"""The same models in other libraries' trainers, with their default settings; see `requirements.txt`."""

import contextlib
import importlib.util
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator

import straight
import torch
from clock import Clock
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vaezoo.data import Dataset

BATCH = 128


def installed(name: str) -> bool:
    """Returns whether a library can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


@contextlib.contextmanager
def quiet() -> Iterator[str]:
    """Yields a temporary folder for a library's files, and hides its output; bars and logs are made but not shown."""
    sink = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield folder
        finally:
            logging.disable(logging.NOTSET)


def lightning(clock: Clock, data: Dataset, steps: int, build: Callable[[], nn.Module]) -> None:
    """Lightning's Trainer over a DataLoader of tensors in memory; its bar, its logger, one `self.log` in each step."""
    from lightning import Callback, LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = build()

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            loss: Tensor = self.model(batch[0])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    class Ticks(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            if not clock.at:
                clock.begin()

        def on_train_batch_end(self, *_: object) -> None:
            clock.tick()

    with quiet() as folder:
        images = TensorDataset(data.batch(torch.arange(len(data))))
        loader = DataLoader(images, batch_size=BATCH, shuffle=True, drop_last=True)
        trainer = Trainer(max_steps=steps, accelerator="cpu", default_root_dir=folder, callbacks=[Ticks()])
        trainer.fit(Module(), loader)


def pythae_model(build: Callable[[], straight.VAE], latent: int) -> nn.Module:
    """Returns pythae's VAE around our layers, cross-entropy of a sigmoid, as it computes it."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    layers = build()

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers.encoder

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = self.layers(x).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers.decoder

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(z).sigmoid().view(-1, 1, 28, 28))

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=latent, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(), decoder=Decoder())


class EnoughSteps(Exception):
    """Ends pythae's run, whose length can only be set in epochs."""


def pythae(clock: Clock, data: Dataset, steps: int, build: Callable[[], straight.VAE], latent: int) -> None:
    """pythae's BaseTrainer, with its bar and its averages of the loss."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class Ticks(TrainingCallback):
        def on_train_step_begin(self, *_: object, **__: object) -> None:  # an epoch's
            if not clock.at:
                clock.begin()

        def on_train_step_end(self, *_: object, **__: object) -> None:
            clock.tick()
            if clock.done == steps:
                raise EnoughSteps

    with quiet() as folder, contextlib.suppress(EnoughSteps):
        images = data.batch(torch.arange(len(data)))
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=math.ceil(steps * BATCH / len(data)) + 1,
            learning_rate=1e-3,
            per_device_train_batch_size=BATCH,
            no_cuda=True,
        )
        model = pythae_model(build, latent)
        dataset = BaseDataset(images, torch.zeros(len(images)))
        BaseTrainer(model, dataset, training_config=config, callbacks=[Ticks()]).train()


@torch.no_grad()
def pythae_evidence(model: straight.IWAE, x: Tensor, samples: int) -> Tensor:
    """pythae's `get_nll`, which averages over the images: one image at a time, 100 copies of it."""
    own = pythae_model(lambda: model, 50)
    return torch.as_tensor(own.get_nll(x, n_samples=samples, batch_size=100)).expand(len(x))
