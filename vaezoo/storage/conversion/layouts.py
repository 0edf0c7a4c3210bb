"""Layouts of state dicts: known ones, and one whose layers the user names."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast, get_args

from vaezoo.errors import ConversionError, UnknownNameError, shorten
from vaezoo.networks import Activation
from vaezoo.registry.architecture import sizes
from vaezoo.storage.conversion.perceptron import Perceptron, inventory, layer
from vaezoo.storage.conversion.state_dict import Source

#: class name in pythae's settings -> variant, and option -> name in the settings
PYTHAE: dict[str, tuple[str, dict[str, str]]] = {
    "VAEConfig": ("vae", {}),
    "BetaVAEConfig": ("beta-vae", {"beta": "beta"}),
    "IWAEConfig": ("iwae", {"samples": "number_samples"}),
    "FactorVAEConfig": ("factor-vae", {"gamma": "gamma"}),
}
CRITIC = "discriminator."  # of pythae's FactorVAE; model folders have no critics
#: layout -> hidden layers of the encoder, mean, log σ², layers of the decoder; ReLUs between them, sigmoid pixels
EXAMPLES: dict[str, tuple[tuple[str, ...], str, str, tuple[str, ...]]] = {
    "pytorch-example": (("fc1",), "fc21", "fc22", ("fc3", "fc4")),  # https://github.com/pytorch/examples/tree/main/vae
    "pytorch-mnist-vae": (("fc1", "fc2"), "fc31", "fc32", ("fc4", "fc5", "fc6")),  # lyeoni/pytorch-mnist-VAE
}
LIKELIHOODS = ("bernoulli", "gaussian")  # the mean is the sigmoid of the output, or the output


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """The user's description of a model; see `convert`."""

    shape: int | Sequence[int] | None = None
    encoder: Sequence[str] = ()
    mean: str | None = None
    log_variance: str | None = None
    log_scale: str | None = None
    decoder: Sequence[str] = ()
    activation: str | None = None
    likelihood: str | None = None
    scale: float | None = None

    def head(self, default: str | None = None) -> dict[str, object]:
        """Returns the likelihood, one whose mean plain networks compute."""
        name = default if self.likelihood is None else self.likelihood
        if name not in LIKELIHOODS:
            if name is not None:
                raise UnknownNameError("likelihood of a converted model", name, LIKELIHOODS)
            raise ConversionError(
                "Name the decoder's likelihood: bernoulli (its output goes through a sigmoid) or gaussian (its "
                "output is the mean; scale is σ: 1 for half the squared error, 0.7071 for the whole)."
            )
        if self.scale is not None and name != "gaussian":
            raise ConversionError(f"Got scale {self.scale}; only gaussian has one, not {name}.")
        return {"name": name} | ({"scale": self.scale} if self.scale is not None else {})


def recognize(source: Source, given: ModelDescription) -> Perceptron:
    """Returns the model in a source, by the named layers, or by a known layout.

    Raises:
        ConversionError, UnknownNameError: with the tensors found, and the missing argument or the reason.
    """
    if given.encoder or given.mean or given.log_variance or given.log_scale or given.decoder:
        found = as_named(source, given)
    elif given.activation is not None:
        raise ConversionError("An activation goes with named layers (mean, decoder …); known layouts have their own.")
    elif source.settings is not None:
        found = pythae(source, source.settings, given)
    elif layout := example_of(source):
        found = example(source, given, layout)
    else:
        hint = " It looks like pythae's: name its folder." if "encoder.embedding.weight" in source.tensors else ""
        raise ConversionError(
            f"{source.name} has no known layout.{hint} Name its layers: encoder (hidden layers in order), "
            "mean, log_variance or log_scale, decoder (in order, the output layer last), with activation, likelihood "
            f"and shape. Found: {inventory(source.tensors)}."
        )
    used = {f"{each.name}.{key}" for each in found.layers for key in ("weight", "bias")}
    ignored = CRITIC if found.variant == "factor-vae" else ()
    left = {key: each for key, each in source.tensors.items() if key not in used and not key.startswith(ignored)}
    if left:
        raise ConversionError(
            f"Tensors that no named layer uses would be lost: {inventory(left)}. A model with other parts than "
            "fully connected layers (normalization, convolutions, embeddings) cannot be converted."
        )
    found.check()
    return found


def as_named(source: Source, given: ModelDescription) -> Perceptron:
    """Returns the model whose layers the user named."""
    spread = given.log_variance or given.log_scale
    if not given.mean or not spread or not given.decoder or (given.log_variance and given.log_scale):
        raise ConversionError(
            "Name mean, either log_variance or log_scale, and decoder (in order, the output layer last), and encoder "
            f"where there are hidden layers. Found: {inventory(source.tensors)}."
        )
    if given.shape is None:
        raise ConversionError("Give the shape of one x: 1 28 28 for images of 28 x 28, 30 for vectors of 30 numbers.")
    take = partial(layer, source.tensors)
    encoder, decoder = list(map(take, given.encoder)), list(map(take, given.decoder))
    mean, second = take(spread).halves() if given.mean == spread else (take(given.mean), take(spread))
    return Perceptron(
        encoder=encoder,
        mean=mean,
        spread=second,
        variance=given.log_variance is not None,
        decoder=decoder,
        activation=activation_of(given, needed=bool(encoder) or len(decoder) > 1),
        shape=sizes(given.shape, "shape"),
        likelihood=given.head(),
        origin={"layout": "named", "sha256": source.sha256},
    )


def activation_of(given: ModelDescription, needed: bool) -> Activation:
    """Returns the named activation; an arbitrary one without hidden layers."""
    known = get_args(Activation)
    if given.activation is None:
        if needed:
            raise ConversionError(f"Name the activation after each hidden layer: {', '.join(known)}.")
        return "relu"
    if given.activation not in known:
        raise UnknownNameError("activation", given.activation, known)
    return cast(Activation, given.activation)


def example_of(source: Source) -> str:
    """Returns the layout in `EXAMPLES` with exactly the keys of a source, or an empty string."""
    for layout, (hidden, mean, spread, decoder) in EXAMPLES.items():
        if {f"{name}.{end}" for name in (*hidden, mean, spread, *decoder) for end in ("weight", "bias")} == set(
            source.tensors
        ):
            return layout
    return ""


def example(source: Source, given: ModelDescription, layout: str) -> Perceptron:
    """Returns the model of a layout in `EXAMPLES`."""
    take = partial(layer, source.tensors)
    hidden, mean, spread, decoder = EXAMPLES[layout]
    encoder = [*map(take, hidden)]
    usual = (1, 28, 28) if encoder[0].inputs == 784 else encoder[0].inputs
    return Perceptron(
        encoder=encoder,
        mean=take(mean),
        spread=take(spread),
        variance=True,
        decoder=[*map(take, decoder)],
        activation="relu",
        shape=sizes(usual if given.shape is None else given.shape, "shape"),
        likelihood=given.head("bernoulli"),
        origin={"layout": layout, "sha256": source.sha256},
    )


def pythae(source: Source, settings: Mapping[str, object], given: ModelDescription) -> Perceptron:
    """Returns a pythae model with its default networks, by its settings and shapes."""
    name = str(settings.get("name"))
    if name not in PYTHAE:
        raise ConversionError(
            f"pythae's {shorten(name)} has no exact counterpart that can be converted; those that have one: "
            f"{', '.join(each.removesuffix('Config') for each in PYTHAE)}."
        )
    if settings.get("uses_default_encoder") is not True or settings.get("uses_default_decoder") is not True:
        raise ConversionError(
            "This pythae model has custom networks in pickles (encoder.pkl, decoder.pkl), which would run code and are "
            "never opened. If they are fully connected, pass model.pt itself and name its layers. "
            f"Found: {inventory(source.tensors)}."
        )
    variant, options = PYTHAE[name]
    missing = [key for key in options.values() if key not in settings]
    if missing:
        raise ConversionError(f"pythae's settings lack {', '.join(missing)}.")
    take = partial(layer, source.tensors)
    found = Perceptron(
        encoder=[take("encoder.layers.0.0")],
        mean=take("encoder.embedding"),
        spread=take("encoder.log_var"),
        variance=True,
        decoder=[take("decoder.layers.0.0"), take("decoder.layers.1.0")],
        activation="relu",
        shape=shape_of(settings, given),
        likelihood=pythae_head(settings, given),
        variant=variant,
        options={key: settings[other] for key, other in options.items()},
        origin={"layout": "pythae", "loss": str(settings.get("reconstruction_loss")), "sha256": source.sha256},
    )
    if settings.get("latent_dim") != found.latent:
        raise ConversionError(
            f"pythae's settings say {shorten(settings.get('latent_dim'))} latents; its tensors have {found.latent}."
        )
    return found


def shape_of(settings: Mapping[str, object], given: ModelDescription) -> tuple[int, ...]:
    """Returns the event shape in pythae's settings, or the user's of the same size."""
    recorded = sizes(settings.get("input_dim"), "pythae's input_dim")
    shape = recorded if given.shape is None else sizes(given.shape, "shape")
    if math.prod(shape) != math.prod(recorded):
        raise ConversionError(f"Got shape {shape}; pythae's settings say {recorded}.")
    return shape


def pythae_head(settings: Mapping[str, object], given: ModelDescription) -> dict[str, object]:
    """Returns the likelihood of pythae's default decoder, which ends in a sigmoid."""
    loss = settings.get("reconstruction_loss")
    if loss not in ("bce", "mse"):
        raise ConversionError(f"pythae's settings say reconstruction_loss = {shorten(loss)}; expected 'bce' or 'mse'.")
    if given.likelihood not in (None, "bernoulli"):
        raise ConversionError(
            f"Got likelihood {shorten(given.likelihood)}; pythae's default decoder ends in a sigmoid: bernoulli."
        )
    if loss == "mse" and given.likelihood is None:
        raise ConversionError(
            "This model was trained with the squared error around a sigmoid, which is no likelihood of vaezoo. "
            "Pass likelihood bernoulli (--likelihood bernoulli) to keep its networks, whose means stay the same, with "
            "Bernoulli pixels; the metrics are then those of that likelihood."
        )
    return given.head("bernoulli")
