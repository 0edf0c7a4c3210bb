"""A VAE of fully connected layers, with the arithmetic of its original project."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from vaezoo.errors import ConversionError, UnknownNameError, shorten
from vaezoo.networks import Activation

SHOWN = 24  # tensors in a message


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An affine map with its original name: `weight` (outputs, inputs) and `bias` (outputs,)."""

    name: str
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Returns (rows, outputs) for x (rows, inputs), in the type of x."""
        return functional.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.weight.shape[1]

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.weight.shape[0]

    def halves(self) -> "tuple[Layer, Layer]":
        """Returns the layers of the first and of the second half of the outputs."""
        if self.outputs % 2:
            raise ConversionError(f"{self.name} gives {self.outputs} numbers; two halves need an even number.")
        parts = zip(self.weight.chunk(2), self.bias.chunk(2), strict=True)
        first, second = (Layer(name=self.name, weight=weight, bias=bias) for weight, bias in parts)
        return first, second


@dataclass(frozen=True, kw_only=True)
class Perceptron:
    """A VAE of fully connected layers with one activation between them.

    Attributes:
        encoder: the hidden layers.
        mean: the head of the posterior mean.
        spread: the head of log σ² if `variance`, else of log σ.
        variance: see `spread`.
        decoder: the hidden layers, and the output layer last.
        activation: after each hidden layer.
        shape: event shape of x.
        likelihood: its name and options.
        variant: of the converted model.
        options: of the variant.
        origin: the source, for the config.
    """

    encoder: Sequence[Layer]
    mean: Layer
    spread: Layer
    variance: bool
    decoder: Sequence[Layer]
    activation: Activation
    shape: tuple[int, ...]
    likelihood: Mapping[str, object]
    variant: str = "vae"
    options: Mapping[str, object] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> list[Layer]:
        """All layers."""
        return [*self.encoder, self.mean, self.spread, *self.decoder]

    @property
    def latent(self) -> int:
        """Number of latents."""
        return self.mean.outputs

    @property
    def hidden(self) -> list[int]:
        """Widths of the encoder's hidden layers."""
        return [each.outputs for each in self.encoder]

    def check(self) -> None:
        """Raises ConversionError unless the layers fit each other, x, and the backbone `mlp`."""
        if len(self.decoder) == 0:
            raise ConversionError("The decoder has no layers; name them in order, the output layer last.")
        for chain in ([*self.encoder, self.mean], [*self.encoder, self.spread], self.decoder):
            for before, after in pairwise(chain):
                if before.outputs != after.inputs:
                    raise ConversionError(
                        f"{after.name} takes {after.inputs} numbers, but {before.name} before it gives "
                        f"{before.outputs}. Name the layers in the order in which they are called."
                    )
        first, last, size = self.layers[0], self.decoder[-1], math.prod(self.shape)
        for text, number in ((f"{first.name} takes", first.inputs), (f"{last.name} gives", last.outputs)):
            if number != size:
                raise ConversionError(
                    f"{text} {number} numbers; shape {self.shape} has {size}. Give the shape of one x, such as 1 28 28."
                )
        if not self.spread.outputs == self.latent == self.decoder[0].inputs:
            raise ConversionError(
                f"{self.mean.name} gives {self.latent} numbers, {self.spread.name} {self.spread.outputs}, and "
                f"{self.decoder[0].name} takes {self.decoder[0].inputs}; expected the number of latents three times."
            )
        mirrored = [each.outputs for each in self.decoder[:-1]][::-1]
        if mirrored != self.hidden:
            raise ConversionError(
                f"The encoder's hidden layers are {self.hidden} wide, the decoder's, from the end, {mirrored}. The mlp "
                "backbone has the same widths in both, so this model cannot be converted."
            )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation of z, (rows, latents) each, for x (rows, ...), as in the original."""
        features = self._features(self.encoder, x.flatten(1))
        spread = self.spread(features)
        return self.mean(features), torch.exp(0.5 * spread if self.variance else spread)

    def decode(self, z: Tensor) -> Tensor:
        """Returns the mean of x, (rows, *shape), for z (rows, latents), as in the original."""
        out = self.decoder[-1](self._features(self.decoder[:-1], z))
        mean = torch.sigmoid(out) if self.likelihood["name"] == "bernoulli" else out
        return mean.reshape(-1, *self.shape)

    def _features(self, layers: Sequence[Layer], x: Tensor) -> Tensor:
        for each in layers:
            # torch's own function, since vaezoo's networks are compared with this one
            x = getattr(functional, self.activation.replace("-", "_"))(each(x))
        return x

    def state(self) -> dict[str, Tensor]:
        """Returns the tensors under the names of the variant `vae` with the backbone `mlp`.

        Its one head computes μ and log σ: rows of log σ² are halved, which is exact.
        """
        share = 0.5 if self.variance else 1.0
        head = Layer(
            name="head",
            weight=torch.cat([self.mean.weight, share * self.spread.weight]),
            bias=torch.cat([self.mean.bias, share * self.spread.bias]),
        )
        named = {}
        for part, layers in (("encoder", [*self.encoder, head]), ("decoder", self.decoder)):
            for position, each in enumerate(layers):  # linear layers have even numbers, activations odd ones
                place = "head" if each is layers[-1] else f"layers.{2 * position}"
                named[f"{part}.network.{place}.weight"] = each.weight.contiguous()
                named[f"{part}.network.{place}.bias"] = each.bias.contiguous()
        return named


def layer(tensors: Mapping[str, Tensor], name: str) -> Layer:
    """Returns the fully connected layer NAME.weight, NAME.bias of a state dict; without a bias, it is 0.

    Raises:
        UnknownNameError: there is none of that name; the closest ones, and all keys with their shapes, are listed.
        ConversionError: it is another kind of layer.
    """
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if weight is None:
        known = [key.removesuffix(".weight") for key in tensors if key.endswith(".weight")]
        raise UnknownNameError("layer", name, known, f"Found: {inventory(tensors)}.")
    if weight.dim() != 2 or not weight.is_floating_point() or 0 in weight.shape:
        raise ConversionError(
            f"{shorten(name)}.weight is {weight.dtype} of shape {tuple(weight.shape)}; expected a fully connected "
            "layer, (outputs, inputs). Convolutions and normalization cannot be converted."
        )
    if bias is not None and (bias.shape != weight.shape[:1] or not bias.is_floating_point()):
        raise ConversionError(
            f"{shorten(name)}.bias has shape {tuple(bias.shape)}; expected {tuple(weight.shape[:1])}."
        )
    return Layer(name=name, weight=weight, bias=weight.new_zeros(len(weight)) if bias is None else bias)


def inventory(tensors: Mapping[str, Tensor]) -> str:
    """Returns the keys and shapes of a state dict, for messages."""
    lines = [f"{shorten(key)[1:-1]} {tuple(tensor.shape)}" for key, tensor in tensors.items()]
    more = f", … ({len(lines)} in all)" if len(lines) > SHOWN else ""
    return ", ".join(lines[:SHOWN]) + more
