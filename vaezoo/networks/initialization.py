"""Initial values of weights, from random numbers or from data."""

import torch
from torch import Tensor, nn

from vaezoo.networks.network import Network


def normal_init(*size: int, scale: float = 1.0) -> Tensor:
    """Returns a tensor of normal noise with standard deviation `scale`.

    On the meta device nothing is drawn: torch would spend seconds importing its compiler to infer the shape of a draw.
    """
    values = torch.empty(size)
    return values if values.is_meta else values.normal_(0.0, scale)


@torch.no_grad()
def scale_last_layer_to_data(network: nn.Module, outputs: Tensor, scale: float) -> None:
    """Rescales the last layer of a network so that its outputs over data have mean 0 and standard deviation `scale`.

    Outputs that vary much less than the noise of a latent, as those of many layers of small weights, are not learned
    before the rate has pushed them to the prior. After Mishkin & Matas (2016, https://arxiv.org/abs/1511.06422),
    without iterations.

    Args:
        network: a linear or convolutional layer, or a `Network` whose `last_layer` is one. Any other module stays
            unchanged, and so does an output that does not vary, such as every output over a single example.
        outputs: the network's outputs over data, (N, channels, ...); only its first `channels` channels are rescaled.
        scale: the standard deviation of each channel.
    """
    layer = network.last_layer() if isinstance(network, Network) else network
    values = outputs.transpose(0, 1).flatten(1).float()
    if not isinstance(layer, nn.Linear | nn.Conv2d) or values.shape[1] < 2:
        return
    deviation, mean = torch.std_mean(values, 1)
    varies = deviation > 1e-6 * mean.abs()
    factor = torch.where(varies, scale / deviation, 1.0).to(layer.weight)
    count = len(factor)
    layer.weight[:count].mul_(factor.reshape(-1, *[1] * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias[:count].sub_(torch.where(varies, mean, 0.0).to(layer.weight)).mul_(factor)
