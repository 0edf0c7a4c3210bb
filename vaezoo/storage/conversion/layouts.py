"""Which tensor is which layer: two layouts that are known, and one that the user names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast, get_args

from torch import Tensor

from vaezoo.errors import ConversionError, UnknownNameError, shorten
from vaezoo.networks.network import Activation
from vaezoo.registry.architecture import sizes
from vaezoo.storage.conversion.perceptron import Layer, Perceptron, inventory, layer
from vaezoo.storage.conversion.state_dict import Source

__all__ = ["Words", "recognise"]

#: of the class in pythae's settings: our variant, and its options by the names they have there
PYTHAE: dict[str, tuple[str, dict[str, str]]] = {
    "VAEConfig": ("vae", {}),
    "BetaVAEConfig": ("beta-vae", {"beta": "beta"}),
    "IWAEConfig": ("iwae", {"samples": "number_samples"}),
    "FactorVAEConfig": ("factor-vae", {"gamma": "gamma"}),
}
CRITIC = "discriminator."  # of pythae's FactorVAE; no critic is part of a model folder
EXAMPLE = ("fc1", "fc21", "fc22", "fc3", "fc4")  # https://github.com/pytorch/examples/tree/main/vae
LIKELIHOODS = ("bernoulli", "gaussian")  # whose means are a sigmoid of the output, and the output


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the user says of a model; see `convert`."""

    shape: int | Sequence[int] | None = None
    encoder: Sequence[str] = ()
    mean: str | None = None
    log_variance: str | None = None
    log_scale: str | None = None
    decoder: Sequence[str] = ()
    activation: str | None = None
    likelihood: str | None = None
    scale: float | None = None

    @property
    def names_layers(self) -> bool:
        """Says whether any layer is named."""
        return bool(self.encoder or self.mean or self.log_variance or self.log_scale or self.decoder)

    def head(self, default: str | None = None) -> dict[str, object]:
        """Returns the likelihood, one whose mean is known to be what plain networks give."""
        name = default if self.likelihood is None else self.likelihood
        if name not in LIKELIHOODS:
            if name is not None:
                raise UnknownNameError("likelihood of a converted model", name, LIKELIHOODS)
            raise ConversionError(
                "Say which likelihood the decoder has: bernoulli (its output goes through a sigmoid) or gaussian (its "
                "output is the mean; scale is σ: 1 for half the squared error, 0.7071 for the whole)."
            )
        if self.scale is not None and name != "gaussian":
            raise ConversionError(f"Got scale {self.scale}; only gaussian has one, not {name}.")
        return {"name": name} | ({"scale": self.scale} if self.scale is not None else {})


@dataclass
class Shelf:
    """The tensors of a source, and which of them have been used."""

    tensors: Mapping[str, Tensor]
    used: set[str] = field(default_factory=set)

    def take(self, name: str) -> Layer:
        """Returns a layer by name."""
        found = layer(self.tensors, name)
        self.used |= {f"{name}.weight", f"{name}.bias"}
        return found

    def close(self, but: str | None = None) -> None:
        """Raises ConversionError if tensors are left, other than those whose keys start with `but`."""
        left = {
            key: tensor
            for key, tensor in self.tensors.items()
            if key not in self.used and not (but and key.startswith(but))
        }
        if left:
            raise ConversionError(
                f"Tensors that no named layer uses would be lost: {inventory(left)}. A model with other parts than "
                "fully connected layers (normalisation, convolutions, embeddings) cannot be represented here."
            )


def recognise(source: Source, words: Words) -> Perceptron:
    """Returns the model in a source: as its layers are named, else in a layout that is known.

    Raises:
        ConversionError, UnknownNameError: what was found, and what to say or why it cannot be converted.
    """
    if words.names_layers:
        found = as_named(source, words)
    elif words.activation is not None:
        raise ConversionError("An activation goes with named layers (mean, decoder …); known layouts have their own.")
    elif source.settings is not None:
        found = pythae(source, source.settings, words)
    elif {f"{name}.{end}" for name in EXAMPLE for end in ("weight", "bias")} == set(source.tensors):
        found = example(source, words)
    else:
        hint = " It looks like pythae's: name its folder." if "encoder.embedding.weight" in source.tensors else ""
        raise ConversionError(
            f"{source.name} has no layout that is known.{hint} Name its layers: encoder (hidden layers in order), "
            "mean, log_variance or log_scale, decoder (in order, the output layer last), with activation, likelihood "
            f"and shape. Found: {inventory(source.tensors)}."
        )
    found.check()
    return found


def as_named(source: Source, words: Words) -> Perceptron:
    """Returns the model whose layers the user named."""
    spread = words.log_variance or words.log_scale
    if not words.mean or not spread or not words.decoder or (words.log_variance and words.log_scale):
        raise ConversionError(
            "Name mean, either log_variance or log_scale, and decoder (in order, the output layer last), and encoder "
            f"where there are hidden layers. Found: {inventory(source.tensors)}."
        )
    if words.shape is None:
        raise ConversionError("Say the shape of one x: 1 28 28 for grey images of 28 x 28, 30 for rows of 30 numbers.")
    shelf = Shelf(source.tensors)
    encoder, decoder = [shelf.take(name) for name in words.encoder], [shelf.take(name) for name in words.decoder]
    if words.mean == spread:
        mean, second = shelf.take(spread).halves()
    else:
        mean, second = shelf.take(words.mean), shelf.take(spread)
    shelf.close()
    return Perceptron(
        encoder=encoder,
        mean=mean,
        spread=second,
        variance=words.log_variance is not None,
        decoder=decoder,
        activation=activation_of(words, needed=bool(encoder) or len(decoder) > 1),
        shape=sizes(words.shape, "shape"),
        likelihood=words.head(),
        origin={"layout": "named", "sha256": source.sha256},
    )


def activation_of(words: Words, needed: bool) -> Activation:
    """Returns the activation that the user named; any, where there is nothing to activate."""
    known = get_args(Activation)
    if words.activation is None:
        if needed:
            raise ConversionError(f"Say the activation after each hidden layer: {', '.join(known)}.")
        return "relu"
    if words.activation not in known:
        raise UnknownNameError("activation", words.activation, known)
    return cast(Activation, words.activation)


def example(source: Source, words: Words) -> Perceptron:
    """Returns the model of PyTorch's examples/vae: two heads, log σ², one hidden layer of ReLUs, sigmoid pixels."""
    shelf = Shelf(source.tensors)
    hidden, mean, spread, *decoder = (shelf.take(name) for name in EXAMPLE)
    usual = (1, 28, 28) if hidden.inputs == 784 else hidden.inputs
    return Perceptron(
        encoder=[hidden],
        mean=mean,
        spread=spread,
        variance=True,
        decoder=decoder,
        activation="relu",
        shape=sizes(usual if words.shape is None else words.shape, "shape"),
        likelihood=words.head("bernoulli"),
        origin={"layout": "pytorch-example", "sha256": source.sha256},
    )


def pythae(source: Source, settings: Mapping[str, object], words: Words) -> Perceptron:
    """Returns a pythae model with its default networks, as its settings and shapes say."""
    name = settings.get("name")
    if not isinstance(name, str) or name not in PYTHAE:
        raise ConversionError(
            f"pythae's {shorten(name)} has no exact counterpart that can be converted; those that have one: "
            f"{', '.join(each.removesuffix('Config') for each in PYTHAE)}."
        )
    if settings.get("uses_default_encoder") is not True or settings.get("uses_default_decoder") is not True:
        raise ConversionError(
            "This pythae model has networks of its own, which it keeps as pickles (encoder.pkl, decoder.pkl): they "
            "would run code, and are never opened. If they are fully connected, give model.pt itself and name its "
            f"layers. Found: {inventory(source.tensors)}."
        )
    variant, options = PYTHAE[name]
    missing = [key for key in options.values() if key not in settings]
    if missing:
        raise ConversionError(f"pythae's settings lack {', '.join(missing)}.")
    shelf = Shelf(source.tensors)
    found = Perceptron(
        encoder=[shelf.take("encoder.layers.0.0")],
        mean=shelf.take("encoder.embedding"),
        spread=shelf.take("encoder.log_var"),
        variance=True,
        decoder=[shelf.take("decoder.layers.0.0"), shelf.take("decoder.layers.1.0")],
        activation="relu",
        shape=shape_of(settings, words),
        likelihood=pythae_head(settings, words),
        variant=variant,
        options={key: settings[other] for key, other in options.items()},
        origin={"layout": "pythae", "loss": str(settings.get("reconstruction_loss")), "sha256": source.sha256},
    )
    shelf.close(but=CRITIC if variant == "factor-vae" else None)
    if settings.get("latent_dim") != found.latent:
        raise ConversionError(
            f"pythae's settings say {shorten(settings.get('latent_dim'))} latents; its tensors have {found.latent}."
        )
    return found


def shape_of(settings: Mapping[str, object], words: Words) -> tuple[int, ...]:
    """Returns the event shape in pythae's settings, unless the user says another of the same size."""
    given = sizes(settings.get("input_dim"), "pythae's input_dim")
    shape = given if words.shape is None else sizes(words.shape, "shape")
    if math.prod(shape) != math.prod(given):
        raise ConversionError(f"Got shape {shape}; pythae's settings say {given}.")
    return shape


def pythae_head(settings: Mapping[str, object], words: Words) -> dict[str, object]:
    """Returns the likelihood of pythae's default decoder, which ends in a sigmoid."""
    loss = settings.get("reconstruction_loss")
    if loss not in ("bce", "mse"):
        raise ConversionError(f"pythae's settings say reconstruction_loss = {shorten(loss)}; expected 'bce' or 'mse'.")
    if words.likelihood not in (None, "bernoulli"):
        raise ConversionError(
            f"Got likelihood {shorten(words.likelihood)}; pythae's default decoder ends in a sigmoid: bernoulli."
        )
    if loss == "mse" and words.likelihood is None:
        raise ConversionError(
            "This model was trained with the squared error around a sigmoid, a Gaussian that no likelihood here is. "
            "Say likelihood bernoulli (--likelihood bernoulli) to keep its networks, whose means stay exactly the "
            "same, with Bernoulli pixels around them; its figures are then those of that likelihood."
        )
    return words.head("bernoulli")
