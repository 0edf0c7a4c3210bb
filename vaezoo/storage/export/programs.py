"""The programs that are exported: encoder, decoder and decoder of codes, as modules from tensors to tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import VAE, as_part, center
from vaezoo.distributions import CholeskyNormal, DiagonalNormal
from vaezoo.errors import ConfigError, ExportError, shorten

PARTS: Final = ("encoder", "decoder")

TRACED: Final = 5
"""Examples in the batch that is traced; the first one alone is a second batch of the comparison."""

TOLERANCE: Final = 1e-4
"""Largest difference of an output from the model's, relative to 1 + |output of the model|."""


class Encoder(nn.Module):
    """`x (B, *shape) -> latents (B, *latent)`, and standard deviations of a normal posterior or indices of codes."""

    def __init__(self, model: VAE, posterior: Distribution) -> None:
        super().__init__()
        self.part, self._model = model.encoder, (model,)  # a tuple: only the encoder's tensors are those of the module
        coded = has_codes(model)
        beside = ("indices",) if coded else ("stddev",) * isinstance(posterior, DiagonalNormal | CholeskyNormal)
        self.outputs = ("latents", *beside)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Returns the outputs, (B, …) each."""
        (model,) = self._model
        posterior = model.encode(x, context)
        found = [center(posterior)]
        if "stddev" in self.outputs:
            found.append(posterior.stddev)
        if "indices" in self.outputs:
            found.append(model.encode_indices(x, context))
        return tuple(found)


class Decoder(nn.Module):
    """`latents (B, *latent) -> image (B, *shape)`, or from indices: the mean of p(x|z)."""

    outputs = ("image",)

    def __init__(self, model: VAE, *, of_codes: bool = False) -> None:
        super().__init__()
        self.part, self._model, self.of_codes = model.decoder, (model,), of_codes

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor]:
        """Returns the image (B, *shape)."""
        (model,) = self._model
        return (model.decode_indices(z, context) if self.of_codes else model.decode(z, context).mean,)


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program: a module that returns a tuple of tensors, and the batch with which it is traced.

    `inputs` are the tensors (B, …) by name, in the order of the module's arguments.
    """

    name: str
    module: Encoder | Decoder
    inputs: Mapping[str, Tensor]

    def traced(self) -> torch.export.ExportedProgram:
        """Returns the program of `torch.export` for any B of at least 1."""
        batch = torch.export.Dim("batch", min=1)
        shapes = tuple({0: batch} for _ in self.inputs)
        return torch.export.export(self.module, tuple(self.inputs.values()), dynamic_shapes=shapes, strict=False)

    def batches(self) -> list[tuple[Tensor, ...]]:
        """Returns the batches of the comparison."""
        return [tuple(each[:rows] for each in self.inputs.values()) for rows in (TRACED, 1)]

    def difference(self, batch: Sequence[Tensor], found: Sequence[Tensor]) -> float:
        """Returns the largest difference of outputs from those of the model, relative to 1 + |output of the model|.

        Raises:
            ExportError: it is above `TOLERANCE`, or shapes differ.
        """
        worst = 0.0
        for name, own, wanted in zip(self.module.outputs, found, self.module(*batch), strict=True):
            if own.shape != wanted.shape:
                shapes = f"got {name} of shape {tuple(own.shape)}; expected {tuple(wanted.shape)}"
                raise ExportError(f"{self.name}: {shapes}. Nothing was written. Try another format.")
            gap = float(((own.double() - wanted.double()).abs() / (1.0 + wanted.double().abs())).max())
            if not gap <= TOLERANCE:  # also NaN
                raise ExportError(
                    f"{self.name}: {name} of the exported program differs from the model's by {gap:.1e}, relative to "
                    f"1 + |output|; expected at most {TOLERANCE:g}. Nothing was written. Try another format."
                )
            worst = max(worst, gap)
        return worst


def has_codes(model: VAE) -> bool:
    """Returns whether a model has codes or categories."""
    encoder = as_part(model.encoder)
    return encoder.index_shape is not None or bool(encoder.sections)


@torch.no_grad()
def programs_of(model: VAE, parts: Sequence[str] = PARTS) -> list[Program]:
    """Returns the programs of a model in eval mode, with batches of its own samples and their latents.

    A conditional model's programs have a second input `context`, (B, C): one-hot classes, or vectors.

    Raises:
        ConfigError: a part is neither "encoder" nor "decoder".
        ExportError: the model has no fixed shape, or an encoder that computes gradients.
    """
    if not parts or (unknown := [each for each in parts if each not in PARTS]):
        raise ConfigError(f"Got parts = {shorten(unknown if parts else parts)}; expected some of {', '.join(PARTS)}.")
    if model.shape is None or model.latent is None:
        raise ExportError("Got a model without shapes; expected VAE(…, shape=…, latent=…), as `create` makes it.")
    if "encoder" in parts and as_part(model.encoder).uses_likelihood:
        raise ExportError(
            f"Got a model whose encoder, {type(model.encoder).__name__}, computes gradients of the decoder's density "
            "within its pass, which no exported program can. Export its decoder alone: parts=['decoder'] "
            "(--part decoder)."
        )
    c = torch.eye(model.context)[torch.arange(TRACED) % model.context] if model.context else None
    context = {} if c is None else {"context": c}
    x = model.sample(TRACED, c, seed=0)
    found = []
    posterior = model.encode(x, c)
    z = center(posterior)
    if "encoder" in parts:
        found.append(Program(name="encoder", module=Encoder(model, posterior), inputs={"x": x, **context}))
    if "decoder" in parts:
        found.append(Program(name="decoder", module=Decoder(model), inputs={"latents": z, **context}))
    if "decoder" in parts and has_codes(model):
        indices = model.encode_indices(x, c)
        coded = Decoder(model, of_codes=True)
        found.append(Program(name="decoder-of-codes", module=coded, inputs={"indices": indices, **context}))
    return found
