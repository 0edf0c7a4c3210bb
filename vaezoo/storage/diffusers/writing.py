"""The files that diffusers loads for a model: its settings and tensors, or the reason why there are none."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from safetensors.torch import save as pack_tensors

from vaezoo.core import LATENTS, VAE, published_state
from vaezoo.encoders import GaussianEncoder, PointEncoder
from vaezoo.errors import ConfigError, shorten
from vaezoo.likelihoods import ScaledLikelihood
from vaezoo.priors import StandardNormalPrior
from vaezoo.quantization import CodebookEncoder, UniformCodePrior
from vaezoo.storage.config import CONFIG
from vaezoo.storage.diffusers.names import CODEBOOK, places, scattered
from vaezoo.storage.diffusers.reading import WEIGHTS
from vaezoo.storage.diffusers.settings import (
    ACTIVATIONS,
    CLASS,
    DEEP_BLOCKS,
    DOWN_BLOCKS,
    NORMALIZATIONS,
    UP_BLOCKS,
    reduction,
)
from vaezoo.storage.json_files import canonical

Table = dict[str, Any]  # Any: values of a backbone's options and of settings
FOR_TRAINING = ("objective.", "decoder.likelihood.", "encoder.counts", "encoder.sums")  # tensors that are not exported
BACKBONES = ("diffusers-kl", "diffusers-tiny", "diffusers-dc")


def diffusers_files(model: VAE) -> dict[str, bytes]:
    """Returns the names and bytes of the files that diffusers loads for a model.

    Raises:
        ConfigError: the model has a part that has no counterpart there.
    """
    settings = diffusers_settings(model)
    state = published_state(model)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for place in places(model)
        for name, tensor in scattered(place, state[place.ours]).items()
    }
    known = {place.ours for place in places(model)}
    left = [key for key in state if key not in known and not key.startswith(FOR_TRAINING)]
    if left:
        raise no_counterpart(f"the tensors {shorten(left[:5], 200)}")
    return {CONFIG: canonical(settings).encode(), WEIGHTS: pack_tensors(tensors, metadata={"format": "pt"})}


def diffusers_settings(model: VAE) -> Table:
    """Returns the settings of a model; see `diffusers_files`."""
    if model.config is None:
        raise ConfigError(
            "This model was changed by hand, and no config can describe it. Register the change as a variant "
            "(docs/guides/adding-a-variant.md) and create the model by that name."
        )
    architecture = cast("Mapping[str, Any]", model.config["architecture"])  # Any: as in `Table`
    backbone: Table = dict(architecture["backbone"])
    if backbone["name"] not in BACKBONES:
        raise no_counterpart(
            f"the backbone {backbone['name']}: networks of diffusers take pixels in [-1, 1], with zeros around them "
            f"(train with {' or '.join(BACKBONES)} to export)"
        )
    check_parts(model)
    point = deep_settings if backbone["name"] == "diffusers-dc" else tiny_settings
    forms = {GaussianEncoder: kl_settings, CodebookEncoder: vq_settings, PointEncoder: point}
    found = forms[type(model.encoder)](model, backbone)
    shape = cast("tuple[int, ...]", model.shape)
    if "encoder_block_out_channels" not in found:
        found["sample_size"] = shape[1] if shape[1] == shape[2] else list(shape[1:])
    half = any(tensor.dtype.itemsize == 2 for tensor in model.parameters())
    found["in_channels"] = shape[0]
    if found[CLASS] != "AutoencoderDC":  # which has no setting for them
        found |= {"out_channels": shape[0], "force_upcast": not half}
    return found | written_factors(model.config.get(LATENTS), found)


def check_parts(model: VAE) -> None:
    """Raises ConfigError for a part that no model of diffusers has; the backbone is one of `BACKBONES`."""
    backbone = cast("Mapping[str, Any]", cast("Mapping[str, Any]", model.config)["architecture"])["backbone"]
    point = backbone["name"] in ("diffusers-tiny", "diffusers-dc")
    activations = activations_of(backbone)
    shape, latent, factor = model.shape or (), model.latent or (), reduction(backbone)
    likelihood, encoder = model.decoder.likelihood, type(model.encoder)
    prior = UniformCodePrior if encoder is CodebookEncoder else StandardNormalPrior
    reasons = {
        f"a context of width {model.context}": bool(model.context),
        f"latents {list(latent)} of images {list(shape)}: a grid with sides smaller by exactly {factor} has one": (
            len(latent) != 3 or tuple(factor * side for side in latent[1:]) != tuple(shape[1:])
        ),
        f"the encoder {encoder.__name__} with {backbone['name']}": (
            encoder not in ((PointEncoder,) if point else (GaussianEncoder, CodebookEncoder))
        ),
        f"the prior {type(model.prior).__name__}": type(model.prior) is not prior,
        f"the likelihood {type(likelihood).__name__}: decoders of diffusers return its mean alone, unchanged": (
            not isinstance(likelihood, ScaledLikelihood) or likelihood.learned
        ),
        f"the activation {', '.join(activations)}": not {*activations} <= {*ACTIVATIONS.values()},
        "codes that are compared by the cosine": getattr(model.encoder, "distance", "euclidean") != "euclidean",
    }
    for reason, applies in reasons.items():
        if applies:
            raise no_counterpart(reason)


def activations_of(backbone: Mapping[str, Any]) -> list[str]:  # Any: as in `Table`
    """Returns the names of the non-linearities that are options of a backbone."""
    if "activation" in backbone:
        return [backbone["activation"]]
    return sorted({*backbone["activations"], backbone["last_activation"]})


def no_counterpart(what: str) -> ConfigError:
    """Returns the error of a model with a part that no model of diffusers has."""
    return ConfigError(f"The model has no counterpart in diffusers: {what}. vaezoo.save keeps all of it.")


def residual_settings(backbone: Mapping[str, Any], up_channels: Sequence[int]) -> Table:  # Any: as in `Table`
    """Returns the settings that all classes with residual blocks have."""
    count = len(up_channels)
    named = (
        {attends: name for name, attends in DOWN_BLOCKS.items()},
        {attends: name for name, attends in UP_BLOCKS.items()},
    )
    down, up = (list(backbone[key]) or [False] * count for key in ("down_attention", "up_attention"))
    return {
        "act_fn": backbone["activation"],
        "down_block_types": [named[0][attends] for attends in down],
        "up_block_types": [named[1][attends] for attends in up[::-1]],
        "norm_num_groups": backbone["groups"],
    }


def kl_settings(model: VAE, backbone: Mapping[str, Any]) -> Table:  # Any: as in `Table`
    """Returns the settings of an `AutoencoderKL` or an `AsymmetricAutoencoderKL`."""
    channels, latents = list(backbone["channels"]), cast("tuple[int, ...]", model.latent)[0]
    up = list(backbone["up_channels"] or channels)
    up_blocks = backbone["up_blocks"] or backbone["blocks"]
    found = {**residual_settings(backbone, up), "latent_channels": latents}
    if backbone["latent_channels"] not in (0, latents):
        raise no_counterpart(f"latent_channels = {backbone['latent_channels']} with {latents} channels of latents")
    if backbone["mask_encoder"]:
        needed = ("attention", "quant_convolution", "post_quant_convolution")
        if missing := [key for key in needed if not backbone[key]]:
            raise no_counterpart(f"mask_encoder without {missing[0]}")
        return found | {
            CLASS: "AsymmetricAutoencoderKL",
            "down_block_out_channels": channels,
            "layers_per_down_block": backbone["blocks"],
            "up_block_out_channels": up,
            "layers_per_up_block": up_blocks,
        }
    check_mirrored(backbone)
    return found | {
        CLASS: "AutoencoderKL",
        "block_out_channels": channels,
        "layers_per_block": backbone["blocks"],
        "mid_block_add_attention": backbone["attention"],
        "use_quant_conv": backbone["quant_convolution"],
        "use_post_quant_conv": backbone["post_quant_convolution"],
    }


def check_mirrored(backbone: Mapping[str, Any]) -> None:  # Any: as in `Table`
    """Raises ConfigError if the decoder is not the mirror of the encoder."""
    widths = list(backbone["up_channels"]) in ([], list(backbone["channels"]))
    if not widths or backbone["up_blocks"] not in (None, backbone["blocks"]):
        raise no_counterpart("a decoder with other widths or blocks than the encoder, without mask_encoder")


def vq_settings(model: VAE, backbone: Mapping[str, Any]) -> Table:  # Any: as in `Table`
    """Returns the settings of a `VQModel`."""
    check_mirrored(backbone)
    needed = {"quant_convolution": True, "post_quant_convolution": True, "mask_encoder": False}
    if wrong := [key for key, value in needed.items() if backbone[key] != value]:
        raise no_counterpart(f"{wrong[0]} = {backbone[wrong[0]]} of a model with codes")
    codes, width = model.state_dict()[CODEBOOK].shape
    return {
        CLASS: "VQModel",
        **residual_settings(backbone, backbone["channels"]),
        "block_out_channels": list(backbone["channels"]),
        "layers_per_block": backbone["blocks"],
        "mid_block_add_attention": backbone["attention"],
        "latent_channels": backbone["latent_channels"] or width,
        "vq_embed_dim": width,
        "num_vq_embeddings": codes,
    }


def tiny_settings(model: VAE, backbone: Mapping[str, Any]) -> Table:  # Any: as in `Table`
    """Returns the settings of an `AutoencoderTiny`."""
    down, up = list(backbone["blocks"]), list(backbone["up_blocks"])[::-1]
    return {
        CLASS: "AutoencoderTiny",
        "act_fn": backbone["activation"],
        "latent_channels": cast("tuple[int, ...]", model.latent)[0],
        "encoder_block_out_channels": [backbone["width"]] * len(down),
        "decoder_block_out_channels": [backbone["up_width"] or backbone["width"]] * len(up),
        "num_encoder_blocks": down,
        "num_decoder_blocks": up,
    }


def deep_settings(model: VAE, backbone: Mapping[str, Any]) -> Table:  # Any: as in `Table`
    """Returns the settings of an `AutoencoderDC`."""
    count = len(backbone["channels"])
    up = {key: backbone[f"up_{key}"] for key in ("channels", "blocks", "attention", "scales")}
    up = {key: backbone[key] if value is None else value for key, value in up.items()}
    blocks = {attends: name for name, attends in DEEP_BLOCKS.items()}
    norms = {ours: name for name, ours in NORMALIZATIONS.items()}

    def on_grids(given: Sequence[object], default: object) -> list[Any]:  # Any: values of settings
        return list(given) or [default] * count

    return {
        CLASS: "AutoencoderDC",
        "latent_channels": cast("tuple[int, ...]", model.latent)[0],
        "attention_head_dim": backbone["head_width"],
        "encoder_block_out_channels": list(backbone["channels"]),
        "decoder_block_out_channels": list(up["channels"] or backbone["channels"]),
        "encoder_layers_per_block": list(backbone["blocks"]),
        "decoder_layers_per_block": list(up["blocks"]),
        "encoder_block_types": [blocks[each] for each in on_grids(backbone["attention"], False)],
        "decoder_block_types": [blocks[each] for each in on_grids(up["attention"], False)],
        "encoder_qkv_multiscales": [list(each) for each in on_grids(backbone["scales"], ())],
        "decoder_qkv_multiscales": [list(each) for each in on_grids(up["scales"], ())],
        "downsample_block_type": "pixel_unshuffle" if backbone["down_shuffle"] else "Conv",
        "upsample_block_type": "pixel_shuffle" if backbone["up_shuffle"] else "interpolate",
        "encoder_out_shortcut": backbone["down_shortcut"],
        "decoder_in_shortcut": backbone["up_shortcut"],
        "decoder_norm_types": [norms[each] for each in on_grids(backbone["normalizations"], "rms")],
        "decoder_act_fns": on_grids(backbone["activations"], "silu"),
        "decoder_conv_act_fn": backbone["last_activation"],
    }


def written_factors(facts: object, settings: Mapping[str, object]) -> Table:
    """Returns the settings of `VAE.latents(x, scaled=True)`; without factors the latents are not scaled.

    Raises:
        ConfigError: the class has no setting for them.
    """
    if facts is None:
        return {"scaling_factor": 1.0}
    given = cast("Mapping[str, Any]", facts)  # Any: a number, or a list of numbers
    scale, shift, kind = given["scaling_factor"], given["shift_factor"], settings[CLASS]
    if not isinstance(scale, list) and not isinstance(shift, list):
        if shift and kind not in ("AutoencoderKL", "AutoencoderTiny"):
            raise no_counterpart(f"shift_factor = {shift} of an {kind}")
        return {"scaling_factor": scale} | ({"shift_factor": shift} if shift else {})
    if kind != "AutoencoderKL":
        raise no_counterpart(f"factors of each channel of an {kind}")
    count = cast(int, settings["latent_channels"])
    scales = scale if isinstance(scale, list) else [scale] * count
    shifts = shift if isinstance(shift, list) else [shift] * count
    return {"scaling_factor": 1.0, "latents_mean": shifts, "latents_std": [1.0 / each for each in scales]}
