"""Small image autoencoders of diffusers with random weights, as folders, and their outputs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

DOWN, UP, ATTENTIVE = "DownEncoderBlock2D", "UpDecoderBlock2D", ("AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D")
FACTORS = {"scaling_factor": 0.5, "latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 4.0, 8.0]}


def blocks(count: int) -> dict[str, Any]:
    """Returns the types of blocks on so many grids, without attention."""
    return {"down_block_types": [DOWN] * count, "up_block_types": [UP] * count}


#: class -> settings of three models: usual ones, and with every option in turn
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "AutoencoderKL": [
        {"block_out_channels": [32, 64], "sample_size": 16, **blocks(2)},
        {
            "block_out_channels": [16, 32, 48], "layers_per_block": 2, "norm_num_groups": 8, "latent_channels": 6,
            "down_block_types": [DOWN, ATTENTIVE[0], DOWN], "up_block_types": [ATTENTIVE[1], UP, UP],
            "use_quant_conv": False, "use_post_quant_conv": False, "mid_block_add_attention": False, "act_fn": "relu",
            "shift_factor": 0.25, "scaling_factor": 0.375, "sample_size": [16, 24], "force_upcast": False,
        },
        {
            "block_out_channels": [8], "norm_num_groups": 4, "in_channels": 1, "out_channels": 1, "sample_size": 9,
            "act_fn": "gelu", "use_post_quant_conv": False, **FACTORS,
        },
    ],
    "AsymmetricAutoencoderKL": [
        {"down_block_out_channels": [32, 64], "up_block_out_channels": [32, 64], "sample_size": 16, **blocks(2)},
        {
            "down_block_out_channels": [8, 16, 16], "up_block_out_channels": [12, 24, 24], "norm_num_groups": 4,
            "layers_per_down_block": 2, "layers_per_up_block": 3, "latent_channels": 3, "sample_size": 16, **blocks(3),
        },
        {
            "down_block_out_channels": [8, 8], "up_block_out_channels": [16, 8], "norm_num_groups": 2,
            "act_fn": "swish", "scaling_factor": 2.0, "down_block_types": [DOWN, ATTENTIVE[0]],
            "up_block_types": [ATTENTIVE[1], UP],
        },
    ],
    "AutoencoderTiny": [
        {"encoder_block_out_channels": [8] * 4, "decoder_block_out_channels": [8] * 4},
        {
            "encoder_block_out_channels": [6] * 3, "decoder_block_out_channels": [10] * 3, "latent_channels": 7,
            "num_encoder_blocks": [0, 2, 1], "num_decoder_blocks": [2, 1, 0], "act_fn": "gelu", "scaling_factor": 1.5,
        },
        {
            "encoder_block_out_channels": [6], "decoder_block_out_channels": [6], "num_encoder_blocks": [1],
            "num_decoder_blocks": [2], "in_channels": 1, "out_channels": 1, "shift_factor": 0.5, "latent_channels": 2,
        },
    ],
    "AutoencoderDC": [
        {
            "encoder_block_out_channels": [8, 16], "decoder_block_out_channels": [8, 16],
            "encoder_layers_per_block": [1, 1], "decoder_layers_per_block": [1, 2], "latent_channels": 4,
            "encoder_qkv_multiscales": [[], []], "decoder_qkv_multiscales": [[], []],
        },
        {
            "encoder_block_out_channels": [8, 16, 32], "decoder_block_out_channels": [16, 16, 32],
            "encoder_layers_per_block": [0, 2, 2], "decoder_layers_per_block": [0, 1, 2], "latent_channels": 8,
            "encoder_block_types": ["ResBlock", "ResBlock", "EfficientViTBlock"], "attention_head_dim": 12,
            "decoder_block_types": ["ResBlock", "EfficientViTBlock", "EfficientViTBlock"],
            "encoder_qkv_multiscales": [[], [], []], "decoder_qkv_multiscales": [[], [5], [3, 5]],
            "decoder_norm_types": ["batch_norm", "batch_norm", "rms_norm"], "decoder_act_fns": ["relu", "relu", "silu"],
            "scaling_factor": 0.41407,
        },
        {
            "encoder_block_out_channels": [8, 8, 16], "decoder_block_out_channels": [16, 8, 8],
            "encoder_layers_per_block": [1, 1, 1], "decoder_layers_per_block": [2, 1, 1], "latent_channels": 3,
            "encoder_block_types": "EfficientViTBlock", "decoder_block_types": "ResBlock", "attention_head_dim": 8,
            "encoder_qkv_multiscales": [[3], [], []], "decoder_qkv_multiscales": [[], [], []], "in_channels": 1,
            "downsample_block_type": "Conv", "upsample_block_type": "interpolate", "encoder_out_shortcut": False,
            "decoder_in_shortcut": False, "decoder_act_fns": "gelu", "decoder_conv_act_fn": "silu",
        },
    ],
    "VQModel": [
        {"block_out_channels": [32, 64], "sample_size": 16, **blocks(2)},
        {
            "block_out_channels": [8, 16, 16], "norm_num_groups": 4, "vq_embed_dim": 5, "num_vq_embeddings": 20,
            "down_block_types": [DOWN, DOWN, ATTENTIVE[0]], "up_block_types": [ATTENTIVE[1], UP, UP],
            "layers_per_block": 2, "latent_channels": 4, "mid_block_add_attention": False, "sample_size": 16,
        },
        {
            "block_out_channels": [8], "norm_num_groups": 8, "in_channels": 1, "out_channels": 1, "act_fn": "relu",
            "vq_embed_dim": 2, "scaling_factor": 0.75, "lookup_from_codebook": True, "sample_size": 6,
        },
    ],
}  # fmt: skip
CASES = [(name, number) for name, settings in SETTINGS.items() for number in range(len(settings))]


def make(name: str, number: int = 0, **settings: Any) -> Any:  # a module of a class that is chosen by its name
    """Returns a model with random weights and biases, and codes that are far apart."""
    torch.manual_seed(number)
    model = getattr(diffusers, name)(**SETTINGS[name][number] | settings).eval()
    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if "running" in key:  # of batch normalization
                buffer.add_(torch.rand_like(buffer))
        for key, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (1.0 if key.startswith("quantize") else 0.05))
    return model


def folder_of(model: Any, folder: Path, **options: Any) -> Path:
    """Writes a model by its own method, and returns the folder."""
    model.save_pretrained(folder, **options)
    return folder


def again(folder: Path) -> Any:
    """Returns the model that diffusers reads from a folder."""
    name = json.loads((folder / "config.json").read_text())["_class_name"]
    model, report = getattr(diffusers, name).from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return model.eval()


@dataclass
class Outputs:
    """For images in [0, 1]: latents before quantization, log variance and KL where there are any, and images."""

    latents: Tensor
    images: Tensor
    log_variance: Tensor | None = None
    kl: Tensor | None = None


@torch.no_grad()
def outputs(model: Any, x: Tensor) -> Outputs:
    """Returns what a model of diffusers gives for images in [0, 1]; it decodes its own latents."""
    encoded = model.encode(2.0 * x - 1.0)
    if not hasattr(encoded, "latent_dist"):
        latents = encoded.latent if hasattr(encoded, "latent") else encoded.latents
        return Outputs(latents, (model.decode(latents).sample + 1.0) / 2.0)
    found = encoded.latent_dist
    return Outputs(found.mean, (model.decode(found.mean).sample + 1.0) / 2.0, found.logvar, found.kl())
