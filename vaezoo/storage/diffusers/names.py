"""Names of tensors in files of diffusers, found by walking the networks of a model."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vaezoo.core import VAE
from vaezoo.networks.convolutional import Double
from vaezoo.networks.diffusers_dc import (
    AttentionBlock,
    ConvolutionBlock,
    DeepDown,
    DeepUp,
    DoubleGrid,
    HalveGrid,
    Shortcut,
)
from vaezoo.networks.diffusers_kl import DiffusersDown, DiffusersUp
from vaezoo.networks.diffusers_tiny import TinyBlock, TinyDown, TinyUp
from vaezoo.networks.resnet import Attention, Block, Halve, ResnetDown, ResnetUp

Inner = Mapping[str, str | tuple[str, ...]]  # name inside a layer -> names in files, stacked along the first axis

BLOCK: Inner = {
    "layers.0": "norm1", "layers.2": "conv1", "layers.3": "norm2", "layers.5": "conv2", "shortcut": "conv_shortcut",
}  # fmt: skip
ATTENTION: Inner = {"normalize": "group_norm", "inputs": ("to_q", "to_k", "to_v"), "output": "to_out.0"}
INNER: dict[type[nn.Module], Inner] = {
    Block: BLOCK,
    Attention: ATTENTION,
    Halve: {"layer": "conv"},
    Double: {"layer": "conv"},
    ConvolutionBlock: {"layers.0": "conv1", "layers.2": "conv2", "layers.3": "norm"},
    AttentionBlock: {
        "attention.inputs": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "attention.scales": "attn.to_qkv_multiscale",
        "attention.output": "attn.to_out",
        "attention.normalize": "attn.norm_out",
        "convolution.expand": "conv_out.conv_inverted",
        "convolution.depth": "conv_out.conv_depth",
        "convolution.reduce": "conv_out.conv_point",
        "convolution.normalize": "conv_out.norm",
    },
    HalveGrid: {"layer": "conv"},
    DoubleGrid: {"layer": "conv"},
    Shortcut: {"layer": ""},
    TinyBlock: {"layers.0": "conv.0", "layers.2": "conv.2", "layers.4": "conv.4"},
}
KINDS = {Block: "resnets", Attention: "attentions", Halve: "downsamplers", Double: "upsamplers"}
#: former names of the layers of an attention, whose weights may be those of 1 x 1 convolutions
FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
CODEBOOK = "encoder.codebook"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A tensor of a model and its place in files: `ours` is its name, `shape` that of all; `theirs` are the names.

    Several `theirs` are stacked along the first axis, in equal parts. `layer`: whether they are a linear layer's;
    `whole`: whether they are whole numbers.
    """

    ours: str
    theirs: tuple[str, ...]
    shape: tuple[int, ...]
    layer: bool = False
    whole: bool = False

    @property
    def part(self) -> tuple[int, ...]:
        """The shape of each of `theirs`."""
        return (self.shape[0] // len(self.theirs), *self.shape[1:]) if len(self.theirs) > 1 else self.shape


def places(model: VAE) -> list[Place]:
    """Returns the place of each tensor of a model of a backbone of diffusers; its codes are `quantize.embedding`."""
    parts = [(part, model.get_submodule(f"{part}.network")) for part in ("encoder", "decoder")]
    layers = [layer for part, network in parts for layer in layers_of(network, part)]
    found = [place for ours, theirs, module in layers for place in tensors_of(ours, theirs, module)]
    codebook = model.state_dict().get(CODEBOOK)
    if codebook is not None:
        found.append(Place(ours=CODEBOOK, theirs=("quantize.embedding.weight",), shape=tuple(codebook.shape)))
    return found


def tensors_of(ours: str, theirs: str, module: nn.Module) -> Iterator[Place]:
    """Yields the places of the tensors of a layer with these names."""
    inner = INNER.get(type(module), {"": ""})
    for mine, names in inner.items():
        layer = module.get_submodule(mine) if mine else module
        several = (names,) if isinstance(names, str) else names
        for key, tensor in layer.state_dict().items():
            yield Place(
                ours=".".join(filter(None, (ours, mine, key))),
                theirs=tuple(".".join(filter(None, (theirs, name, key))) for name in several),
                shape=tuple(tensor.shape),
                layer=isinstance(layer, nn.Linear),
                whole=not tensor.is_floating_point(),
            )


def layers_of(network: nn.Module, part: str) -> Iterator[tuple[str, str, nn.Module]]:
    """Yields name, name in files and layer for each layer with tensors of an encoder or a decoder."""
    prefix = f"{part}.network"
    if isinstance(network, TinyDown | TinyUp):
        yield from tiny_layers(network, prefix, part)
        return
    if isinstance(network, DeepDown | DeepUp):
        yield from deep_layers(network, prefix, part)
        return
    assert isinstance(network, DiffusersDown | DiffusersUp)
    inner = network.net
    for place, (layer, name) in enumerate(zip(inner.stages, resnet_names(inner), strict=True)):
        yield f"{prefix}.net.stages.{place}", f"{part}.{name}", layer
    yield f"{prefix}.net.head", f"{part}.conv_out", inner.head
    if isinstance(inner, ResnetUp):
        yield f"{prefix}.net.stem", f"{part}.conv_in", inner.stem
    yield f"{prefix}.convolution", "quant_conv" if part == "encoder" else "post_quant_conv", network.convolution
    if isinstance(network, DiffusersUp):
        yield f"{prefix}.mask_encoder", f"{part}.condition_encoder", network.mask_encoder


def resnet_names(network: ResnetDown | ResnetUp) -> list[str]:
    """Returns the names in files of the layers in `stages`."""
    first = ["conv_in"] if isinstance(network, ResnetDown) else []
    layers = list(network.stages)[len(first) : -2]
    if first:  # the layers on the last grid follow those on the others
        size = 3 if isinstance(layers[-2], Attention) else 2
        names = [*numbered(layers[:-size], "down_blocks.{}"), *numbered(layers[-size:], "mid_block")]
    else:
        size = 3 if isinstance(layers[1], Attention) else 2
        names = [*numbered(layers[:size], "mid_block"), *numbered(layers[size:], "up_blocks.{}")]
    return [*first, *names, "conv_norm_out", "conv_act"]


def numbered(layers: Sequence[nn.Module], prefix: str) -> Iterator[str]:
    """Yields the names of layers on several grids; `prefix` has the number of the grid."""
    grid, counts = 0, Counter[str]()
    for layer in layers:
        kind = KINDS[type(layer)]
        yield f"{prefix.format(grid)}.{kind}.{counts[kind]}"
        counts[kind] += 1
        if kind.endswith("samplers"):
            grid, counts = grid + 1, Counter()


def tiny_layers(network: TinyDown | TinyUp, prefix: str, part: str) -> Iterator[tuple[str, str, nn.Module]]:
    """Yields the same as `layers_of`; files count the layers, where doubling a grid is one of its own."""
    number = 0
    if isinstance(network, TinyUp):
        yield f"{prefix}.stem", f"{part}.layers.0", network.stem
        number = 1
    for place, layer in enumerate(network.stages):
        number += isinstance(layer, Double)
        convolution = layer.layer if isinstance(layer, Double) else layer
        inner = ".layer" if isinstance(layer, Double) else ""
        yield f"{prefix}.stages.{place}{inner}", f"{part}.layers.{number}", convolution
        number += 1
    yield f"{prefix}.head", f"{part}.layers.{number}", network.head


def deep_layers(network: DeepDown | DeepUp, prefix: str, part: str) -> Iterator[tuple[str, str, nn.Module]]:
    """Yields the same as `layers_of`."""
    yield f"{prefix}.stem", f"{part}.conv_in", network.stem
    blocks = "down_blocks" if isinstance(network, DeepDown) else "up_blocks"
    for grid, layers in enumerate(network.stages):
        for number, layer in enumerate(cast(nn.Sequential, layers)):
            yield f"{prefix}.stages.{grid}.{number}", f"{part}.{blocks}.{grid}.{number}", layer
    if isinstance(network, DeepUp):
        yield f"{prefix}.normalize", f"{part}.norm_out", network.normalize
    yield f"{prefix}.head", f"{part}.conv_out", network.head


def current_names(names: Iterable[str]) -> dict[str, str]:
    """Returns the present name of each name in a file: those of the layers of attentions were others once."""
    found = {}
    for name in names:
        path, _, layer = name.rpartition(".")[0].rpartition(".")
        new = FORMER.get(layer) if path.rpartition(".")[0].endswith("attentions") else None
        found[name] = f"{path}.{new}.{name.rpartition('.')[2]}" if new else name
    return found


def gathered(place: Place, theirs: Mapping[str, Tensor]) -> Tensor:
    """Returns the tensor of a model for tensors by their names in files."""
    parts = [theirs[name].reshape(place.part) for name in place.theirs]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def scattered(place: Place, ours: Tensor) -> dict[str, Tensor]:
    """Returns tensors by their names in files for the tensor of a model; the inverse of `gathered`."""
    parts = [ours] if len(place.theirs) == 1 else ours.chunk(len(place.theirs))
    return dict(zip(place.theirs, parts, strict=True))
