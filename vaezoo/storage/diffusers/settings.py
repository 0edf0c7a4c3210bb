"""`config.json` of an image autoencoder of diffusers: strict reading, and the vaezoo model that it describes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from vaezoo.errors import ConfigError, UnknownNameError, shorten

CLASS = "_class_name"  # the key by which such a config is recognized
SCALE = 0.5  # of the likelihood for pixels in [0, 1]: 1 for those in [-1, 1] of the files
DOWN_BLOCKS = {"DownEncoderBlock2D": False, "AttnDownEncoderBlock2D": True}  # whether with attention
UP_BLOCKS = {"UpDecoderBlock2D": False, "AttnUpDecoderBlock2D": True}
NORMALIZATIONS = {"rms_norm": "rms", "batch_norm": "batch"}
DEEP_BLOCKS = {"ResBlock": False, "EfficientViTBlock": True}  # whether with attention
HALVING = {"pixel_unshuffle": True, "Conv": False, "conv": False}  # whether by arranging squares as channels
DOUBLING = {"pixel_shuffle": True, "interpolate": False}
ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu", "relu": "relu"}

Word = Annotated[str, Meta(max_length=64)]
Words = Annotated[list[Word], Meta(min_length=1, max_length=8)]
Width = Annotated[int, Meta(ge=1, le=8192)]
Widths = Annotated[list[Width], Meta(min_length=1, max_length=8)]
Channels = Annotated[int, Meta(ge=1, le=512)]
Blocks = Annotated[int, Meta(ge=1, le=16)]
Numbers = Annotated[list[Annotated[int, Meta(ge=0, le=16)]], Meta(min_length=1, max_length=8)]
Layers = Annotated[list[Annotated[int, Meta(ge=0, le=64)]], Meta(min_length=2, max_length=8)]
Kernels = Annotated[list[Annotated[int, Meta(ge=1, le=15)]], Meta(max_length=4)]
Scales = Annotated[list[Kernels], Meta(min_length=2, max_length=8)]
Side = Annotated[int, Meta(ge=1, le=8192)]
Sides = Annotated[list[Side], Meta(min_length=2, max_length=2)]  # a tuple in this union crashes msgspec 0.23
Factor = Annotated[float, Meta(ge=1e-12, le=1e12)]
Shift = Annotated[float, Meta(ge=-1e12, le=1e12)]


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The settings that all classes have. Defaults are those of diffusers."""

    in_channels: Channels = 3
    out_channels: Channels | None = 3
    latent_channels: Channels = 4
    act_fn: Word = "silu"
    scaling_factor: Factor = 0.18215
    force_upcast: bool = False
    sample_size: Side | Sides = 32


class Attentive(Settings, frozen=True):
    """The settings of classes with residual blocks and group normalization."""

    down_block_types: Words = msgspec.field(default_factory=lambda: ["DownEncoderBlock2D"])
    up_block_types: Words = msgspec.field(default_factory=lambda: ["UpDecoderBlock2D"])
    block_out_channels: Widths = msgspec.field(default_factory=lambda: [64])
    norm_num_groups: Annotated[int, Meta(ge=1, le=8192)] = 32


class AutoencoderKL(Attentive, frozen=True):
    """The settings of the class of this name."""

    layers_per_block: Blocks = 1
    force_upcast: bool = True
    shift_factor: Shift | None = None
    latents_mean: list[Shift] | None = None
    latents_std: list[Factor] | None = None
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True


class AsymmetricAutoencoderKL(Attentive, frozen=True):
    """The settings of the class of this name, which ignores `block_out_channels`."""

    down_block_out_channels: Widths = msgspec.field(default_factory=lambda: [64])
    layers_per_down_block: Blocks = 1
    up_block_out_channels: Widths = msgspec.field(default_factory=lambda: [64])
    layers_per_up_block: Blocks = 1


class VQModel(Attentive, frozen=True):
    """The settings of the class of this name; `lookup_from_codebook` is how its own method is called."""

    layers_per_block: Blocks = 1
    latent_channels: Channels = 3
    num_vq_embeddings: Annotated[int, Meta(ge=2, le=2**24)] = 256
    vq_embed_dim: Channels | None = None
    norm_type: Word = "group"
    mid_block_add_attention: bool = True
    lookup_from_codebook: bool = False


class AutoencoderTiny(Settings, frozen=True):
    """The settings of the class of this name.

    `block_out_channels` repeats another one; `latent_magnitude` and `latent_shift` are those of its images of latents.
    It has no `sample_size`; images are as large as the tiles of diffusers.
    """

    act_fn: Word = "relu"
    sample_size: Side | Sides = 512
    upsample_fn: Word = "nearest"
    scaling_factor: Factor = 1.0
    shift_factor: Shift | None = 0.0
    encoder_block_out_channels: Widths = msgspec.field(default_factory=lambda: [64] * 4)
    decoder_block_out_channels: Widths = msgspec.field(default_factory=lambda: [64] * 4)
    block_out_channels: Widths = msgspec.field(default_factory=lambda: [64])
    num_encoder_blocks: Numbers = msgspec.field(default_factory=lambda: [1, 3, 3, 3])
    num_decoder_blocks: Numbers = msgspec.field(default_factory=lambda: [3, 3, 3, 1])
    upsampling_scaling_factor: int = 2
    latent_magnitude: float = 3
    latent_shift: float = 0.5


class AutoencoderDC(Settings, frozen=True):
    """The settings of the class of this name.

    It has no `sample_size`; images are as large as the tiles of diffusers.
    """

    out_channels: Channels | None = None
    latent_channels: Channels = 32
    scaling_factor: Factor = 1.0
    sample_size: Side | Sides = 512
    attention_head_dim: Width = 32
    encoder_block_types: Word | Words = "ResBlock"
    decoder_block_types: Word | Words = "ResBlock"
    encoder_block_out_channels: Widths = msgspec.field(default_factory=lambda: [128, 256, 512, 512, 1024, 1024])
    decoder_block_out_channels: Widths = msgspec.field(default_factory=lambda: [128, 256, 512, 512, 1024, 1024])
    encoder_layers_per_block: Layers = msgspec.field(default_factory=lambda: [2, 2, 2, 3, 3, 3])
    decoder_layers_per_block: Layers = msgspec.field(default_factory=lambda: [3] * 6)
    encoder_qkv_multiscales: Scales = msgspec.field(default_factory=lambda: [[]] * 3 + [[5]] * 3)
    decoder_qkv_multiscales: Scales = msgspec.field(default_factory=lambda: [[]] * 3 + [[5]] * 3)
    upsample_block_type: Word = "pixel_shuffle"
    downsample_block_type: Word = "pixel_unshuffle"
    decoder_norm_types: Word | Words = "rms_norm"
    decoder_act_fns: Word | Words = "silu"
    encoder_out_shortcut: bool = True
    decoder_in_shortcut: bool = True
    decoder_conv_act_fn: Word = "relu"


CLASSES: dict[str, type[Settings]] = {
    each.__name__: each for each in (AutoencoderKL, AsymmetricAutoencoderKL, AutoencoderTiny, AutoencoderDC, VQModel)
}


@dataclass(frozen=True, kw_only=True)
class Description:
    """The vaezoo model of a config: arguments of `create`, its class, factors of latents, and `force_upcast`."""

    name: str
    arguments: Mapping[str, Any]  # Any: `create` checks each
    factors: Mapping[str, object]
    upcast: bool


def is_diffusers(config: object) -> bool:
    """Returns whether the value of a `config.json` is that of a model of diffusers."""
    return isinstance(config, Mapping) and CLASS in config and "variant" not in config


def described(config: Mapping[str, object], size: int | Sequence[int] | None = None) -> Description:
    """Returns the vaezoo model of the value of a `config.json`.

    Args:
        config: the table of settings. Keys that begin with an underscore are notes and ignored.
        size: side or sides (H, W) of the images; None for `sample_size`, rounded up to what the networks reduce.

    Raises:
        ConfigError: an unknown class or setting, a wrong type, a value out of range, or a form that has no counterpart.
        UnknownNameError: an unknown type of blocks, or activation.
    """
    name, facts = config.get(CLASS), {key: value for key, value in config.items() if not key.startswith("_")}
    if not isinstance(name, str) or name not in CLASSES:
        raise ConfigError(
            f"Got a config of diffusers of the class {shorten(name)}; expected one of {', '.join(CLASSES)}. Pass "
            "subfolder='vae' for the autoencoder of a pipeline."
        )
    try:
        found = msgspec.convert(facts, CLASSES[name], strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(f"The config of this {name} of diffusers is not known: {str(error)[:300]}.") from None
    if found.out_channels not in (None, found.in_channels):
        raise ConfigError(
            f"Got {found.in_channels} channels in and {found.out_channels} out; expected as many: an autoencoder "
            "returns its own input."
        )
    variant, backbone, width, options = FORMS[name](found)
    factor = reduction(backbone)
    shape = (found.in_channels, *(rounded(found.sample_size, factor) if size is None else sides(size, factor)))
    arguments = {
        "variant": variant,
        "shape": shape,
        "latent": (width, *(side // factor for side in shape[1:])),
        "backbone": backbone,
        "likelihood": {"name": "laplace", "scale": SCALE},
        **options,
    }
    return Description(name=name, arguments=arguments, factors=factors(found, width), upcast=found.force_upcast)


Form = tuple[str, dict[str, object], int, dict[str, object]]  # variant, backbone, channels of the latents, options


def of_kl(found: AutoencoderKL) -> Form:
    """Returns the form of an `AutoencoderKL`."""
    backbone = {
        **residual(found, found.block_out_channels, found.layers_per_block),
        "attention": found.mid_block_add_attention,
        "quant_convolution": found.use_quant_conv,
        "post_quant_convolution": found.use_post_quant_conv,
    }
    return "kl-autoencoder", backbone, found.latent_channels, {}


def of_asymmetric(found: AsymmetricAutoencoderKL) -> Form:
    """Returns the form of an `AsymmetricAutoencoderKL`."""
    backbone = {
        **residual(found, found.down_block_out_channels, found.layers_per_down_block),
        "up_channels": found.up_block_out_channels,
        "up_blocks": found.layers_per_up_block,
        "mask_encoder": True,
    }
    return "kl-autoencoder", backbone, found.latent_channels, {}


def of_vq(found: VQModel) -> Form:
    """Returns the form of a `VQModel`."""
    if found.norm_type != "group":
        raise UnknownNameError("norm_type of a VQModel", found.norm_type, ["group"])
    backbone = {
        **residual(found, found.block_out_channels, found.layers_per_block),
        "attention": found.mid_block_add_attention,
        "latent_channels": found.latent_channels,
    }
    return "vq-vae", backbone, found.vq_embed_dim or found.latent_channels, {"codes": found.num_vq_embeddings}


def of_tiny(found: AutoencoderTiny) -> Form:
    """Returns the form of an `AutoencoderTiny`."""
    if found.upsample_fn != "nearest":
        raise UnknownNameError("upsample_fn of an AutoencoderTiny", found.upsample_fn, ["nearest"])
    if found.upsampling_scaling_factor != 2:
        raise ConfigError(f"Got upsampling_scaling_factor = {found.upsampling_scaling_factor}; expected 2.")
    blocks = (found.num_encoder_blocks, found.num_decoder_blocks)
    widths = (found.encoder_block_out_channels, found.decoder_block_out_channels)
    if any(len(set(each)) != 1 for each in widths) or len({*map(len, (*blocks, *widths))}) != 1:
        raise ConfigError(
            f"Got channels {widths[0]} and {widths[1]} with blocks {blocks[0]} and {blocks[1]}; expected one width for "
            "all grids of the encoder, one for those of the decoder, and as many grids of both."
        )
    backbone = {
        "name": "diffusers-tiny",
        "width": widths[0][0],
        "up_width": widths[1][0],
        "blocks": blocks[0],
        "up_blocks": blocks[1][::-1],
        "activation": known("activation", found.act_fn.lower(), ACTIVATIONS),
    }
    return "ae", backbone, found.latent_channels, {}


def of_deep(found: AutoencoderDC) -> Form:
    """Returns the form of an `AutoencoderDC`."""
    count = len(found.encoder_block_out_channels)

    def on_grids(given: str | list[str], kind: str, table: Mapping[str, object]) -> list[object]:
        words = [given] * count if isinstance(given, str) else given
        return [known(f"{kind} of an AutoencoderDC", each, table) for each in words]

    backbone = {
        "name": "diffusers-dc",
        "channels": found.encoder_block_out_channels,
        "blocks": found.encoder_layers_per_block,
        "attention": on_grids(found.encoder_block_types, "type of blocks", DEEP_BLOCKS),
        "scales": found.encoder_qkv_multiscales,
        "up_channels": found.decoder_block_out_channels,
        "up_blocks": found.decoder_layers_per_block,
        "up_attention": on_grids(found.decoder_block_types, "type of blocks", DEEP_BLOCKS),
        "up_scales": found.decoder_qkv_multiscales,
        "head_width": found.attention_head_dim,
        "down_shuffle": known("downsample_block_type", found.downsample_block_type, HALVING),
        "up_shuffle": known("upsample_block_type", found.upsample_block_type, DOUBLING),
        "down_shortcut": found.encoder_out_shortcut,
        "up_shortcut": found.decoder_in_shortcut,
        "normalizations": on_grids(found.decoder_norm_types, "normalization", NORMALIZATIONS),
        "activations": on_grids(found.decoder_act_fns, "activation", ACTIVATIONS),
        "last_activation": known("activation", found.decoder_conv_act_fn, ACTIVATIONS),
    }
    return "ae", backbone, found.latent_channels, {}


#: class -> the function that returns the form of its settings
FORMS: dict[str, Callable[[Any], Form]] = {  # Any: each takes its own class
    "AutoencoderKL": of_kl,
    "AsymmetricAutoencoderKL": of_asymmetric,
    "VQModel": of_vq,
    "AutoencoderTiny": of_tiny,
    "AutoencoderDC": of_deep,
}


def residual(found: Attentive, channels: list[int], blocks: int) -> dict[str, object]:
    """Returns the options of the backbone that all classes with residual blocks have."""
    down = [known("type of down blocks", each, DOWN_BLOCKS) for each in found.down_block_types]
    up = [known("type of up blocks", each, UP_BLOCKS) for each in found.up_block_types][::-1]
    for what, flags in (("down_block_types", down), ("up_block_types", up)):
        if len(flags) != len(channels):
            raise ConfigError(f"Got {len(flags)} {what} for {len(channels)} widths; expected one for each.")
    return {
        "name": "diffusers-kl",
        "channels": channels,
        "blocks": blocks,
        "down_attention": down if any(down) else [],
        "up_attention": up if any(up) else [],
        "groups": found.norm_num_groups,
        "activation": known("activation", found.act_fn.lower(), ACTIVATIONS),
    }


def known(kind: str, name: str, table: Mapping[str, object]) -> object:
    """Returns the entry of a name; raises UnknownNameError for another name."""
    if name not in table:
        raise UnknownNameError(f"{kind} in a config of diffusers", name, table)
    return table[name]


def reduction(backbone: Mapping[str, object]) -> int:
    """Returns by what factor a backbone reduces the sides of images."""
    grids = cast("Sequence[object]", backbone["blocks" if backbone["name"] == "diffusers-tiny" else "channels"])
    return 1 << (len(grids) - 1)


def rounded(size: int | list[int], factor: int) -> tuple[int, int]:
    """Returns the sides (H, W) of images, rounded up to multiples of `factor`."""
    height, width = size if isinstance(size, list) else (size, size)
    return -(-height // factor) * factor, -(-width // factor) * factor


def sides(size: object, factor: int) -> tuple[int, int]:
    """Returns the sides (H, W) of images; raises ConfigError unless they are multiples of `factor`."""
    given = tuple(size) if isinstance(size, list | tuple) else (size, size)
    good = len(given) == 2 and all(type(each) is int and 1 <= each <= 8192 for each in given)
    if not good or any(cast(int, each) % factor for each in given):
        raise ConfigError(
            f"Got images of size {shorten(size)}; expected a side, or height and width, from {factor} to 8192 that are "
            f"multiples of {factor}, the factor by which this model reduces them."
        )
    return cast("tuple[int, int]", given)


def factors(found: Settings, channels: int) -> dict[str, object]:
    """Returns the factors of `VAE.latents(x, scaled=True)`: those by which pipelines of diffusers scale latents.

    Raises:
        ConfigError: means without deviations, not one for each channel, or beside a `shift_factor`.
    """
    scale, shift = found.scaling_factor, getattr(found, "shift_factor", None) or 0.0
    means, deviations = getattr(found, "latents_mean", None), getattr(found, "latents_std", None)
    if means is None and deviations is None:
        return {"scaling_factor": scale, "shift_factor": shift}
    if means is None or deviations is None or shift or not len(means) == len(deviations) == channels:
        raise ConfigError(
            f"Got latents_mean = {shorten(means)}, latents_std = {shorten(deviations)} and shift_factor = {shift}; "
            f"expected both lists with {channels} numbers, one for each channel, and no shift."
        )
    scales = [scale / each for each in deviations]
    if not all(math.isfinite(each) and 1e-12 <= each <= 1e12 for each in scales):
        raise ConfigError(f"Got latents_std = {shorten(deviations)}; expected deviations of a usual size.")
    return {"scaling_factor": scales, "shift_factor": means}
