"""`convert`: writes a model folder from a state dict of another project, after comparing the outputs of both."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from vaezoo.core import VAE, seeded
from vaezoo.distributions import DiagonalNormal
from vaezoo.errors import ConversionError
from vaezoo.registry import create
from vaezoo.storage.conversion.layouts import ModelDescription, recognize
from vaezoo.storage.conversion.perceptron import Perceptron
from vaezoo.storage.conversion.state_dict import read_source
from vaezoo.storage.model_folder import drop_critics, save

ROWS = 32  # random inputs of the comparison
ROUNDING = 1e-9  # largest relative difference in float64


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The converted model: its folder, the layout of the source, variant, event shape of x and number of latents.

    `difference` is the largest difference from the original in float64, over means and standard deviations of z and
    means of x, relative to 1 + |original|.
    """

    folder: Path
    layout: str
    variant: str
    shape: tuple[int, ...]
    latent: int
    difference: float

    def __str__(self) -> str:
        """Returns a sentence."""
        return (
            f"Wrote {self.folder}: {self.variant}, shape {self.shape}, {self.latent} latents, read as {self.layout}. "
            f"Over {ROWS} random inputs it differs from the original by at most {self.difference:.1e} (rounding)."
        )


def convert(
    source: str | Path,
    to: str | Path,
    *,
    shape: int | Sequence[int] | None = None,
    encoder: str | Sequence[str] = (),
    mean: str | None = None,
    log_variance: str | None = None,
    log_scale: str | None = None,
    decoder: str | Sequence[str] = (),
    activation: str | None = None,
    likelihood: str | None = None,
    scale: float | None = None,
) -> Conversion:
    """Writes a model folder from the state dict of a VAE of fully connected layers, exactly or not at all.

    A pythae folder with default networks and a state dict of PyTorch's examples/vae are recognized. For other layouts,
    name the layers after their keys: "fc1" for fc1.weight and fc1.bias.

    Args:
        source: a file of `torch.save` or safetensors, or a pythae folder, of which only `model_config.json` and
            `model.pt` are read. No code of it is run.
        to: the folder to write, new or empty.
        shape: event shape of x, such as (1, 28, 28).
        encoder: the hidden layers in order.
        mean: the layer of the posterior's mean.
        log_variance: the layer of log σ²; the same as `mean` if one layer computes both, the mean first.
        log_scale: the layer of log σ, in place of `log_variance`.
        decoder: the hidden layers in order, and the output layer last.
        activation: after each hidden layer: "relu", "tanh", "silu", "gelu", "elu" (α = 1) or "leaky-relu" (0.01).
        likelihood: "bernoulli" if the output goes through a sigmoid, "gaussian" if it is the mean.
        scale: σ of "gaussian".

    Raises:
        ConversionError: the source is not a plain state dict, or the model cannot be represented exactly.
        UnknownNameError: an unknown layer, activation or likelihood; with the closest names.
        CheckpointError: disk full, no permission.
    """
    folder = Path(to)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConversionError(f"{folder} exists and is not empty; name a new folder.")
    description = ModelDescription(
        shape=shape,
        encoder=(encoder,) if isinstance(encoder, str) else encoder,
        mean=mean,
        log_variance=log_variance,
        log_scale=log_scale,
        decoder=(decoder,) if isinstance(decoder, str) else decoder,
        activation=activation,
        likelihood=likelihood,
        scale=scale,
    )
    found = recognize(read_source(Path(source)), description)
    model = built(found)
    difference = compare(model, found)
    save(model, folder)
    return Conversion(
        folder=folder,
        layout=found.origin["layout"],
        variant=found.variant,
        shape=found.shape,
        latent=found.latent,
        difference=difference,
    )


def built(found: Perceptron) -> VAE:
    """Returns the vaezoo model of the same layers, in eval mode."""
    options = cast(dict[str, Any], found.options)  # Any: the variant checks each
    with seeded(0):
        model = create(
            found.variant,
            shape=found.shape,
            latent=found.latent,
            backbone={"name": "mlp", "hidden": found.hidden, "activation": found.activation},
            likelihood=found.likelihood,
            **options,
        )
    drop_critics(model)
    model.load_state_dict(found.state(), strict=True)
    model.config = {**(model.config or {}), "origin": dict(found.origin)}
    return model.eval()


@torch.no_grad()
def compare(model: VAE, found: Perceptron) -> float:
    """Returns the largest difference between the model's outputs and those of the original, both in float64.

    Raises:
        ConversionError: it is larger than rounding.
    """
    twin = deepcopy(model).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(ROWS, *found.shape, dtype=torch.float64, generator=generator)
    z = torch.randn(ROWS, found.latent, dtype=torch.float64, generator=generator)
    posterior = cast(DiagonalNormal, twin.encode(x))
    mean, deviation = found.encode(x)
    pairs = {
        "the posterior's mean": (posterior.mean, mean),
        "the posterior's standard deviation": (posterior.stddev, deviation),
        "the mean of x": (twin.decode(z).mean, found.decode(z)),
    }
    largest = 0.0
    for output, (ours, theirs) in pairs.items():
        difference = ((ours - theirs).abs() / (1.0 + theirs.abs())).max().item()
        largest = max(largest, difference)
        if not difference <= ROUNDING:
            raise ConversionError(
                f"The converted model differs from the original in {output} by {difference:.2g}: it cannot be "
                "represented exactly. One possible reason: log σ is clamped to ±15."
            )
    return largest
