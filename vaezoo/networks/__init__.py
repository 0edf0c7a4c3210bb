"""Networks: modules from tensors to tensors, which import nothing of autoencoders."""

from vaezoo.errors import deprecated_module
from vaezoo.networks.convolutional import ConvDown, ConvUp
from vaezoo.networks.flows import MADE, Couplings, InverseAutoregressive
from vaezoo.networks.gaps import GapNetwork, fill_gaps, with_mask
from vaezoo.networks.network import Activation, Network, check_weights, normal_init, scale_last_layer_to_data
from vaezoo.networks.perceptron import MLP
from vaezoo.networks.transformer import CausalTransformer

__all__ = [
    "MADE",
    "MLP",
    "Activation",
    "CausalTransformer",
    "ConvDown",
    "ConvUp",
    "Couplings",
    "GapNetwork",
    "InverseAutoregressive",
    "Network",
    "check_weights",
    "fill_gaps",
    "normal_init",
    "scale_last_layer_to_data",
    "with_mask",
]

__getattr__ = deprecated_module(__name__, "vaezoo.backbones", "vaezoo.networks.network", join="append_context")
