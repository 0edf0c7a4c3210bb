"""Networks: modules from tensors to tensors, which import nothing of autoencoders."""

from pathlib import Path

from vaezoo.networks.convolutional import ConvDown, ConvUp
from vaezoo.networks.flows import MADE, Couplings, InverseAutoregressive
from vaezoo.networks.perceptron import MLP
from vaezoo.networks.transformer import CausalTransformer

__all__ = ["MADE", "MLP", "CausalTransformer", "ConvDown", "ConvUp", "Couplings", "InverseAutoregressive"]

# `vaezoo.networks.mlp` and `.conv`, the former names of modules here, with a DeprecationWarning.
__path__.append(str(Path(__file__).parents[1] / "_deprecated" / "networks"))
