"""Features of images from trained networks: for Fréchet distances, and for the perceptual distance of two images."""

from vaezoo.networks.features.image_features import TrainedFeatures
from vaezoo.networks.features.perceptual import SMALLEST_SIDE, PerceptualDistance, PerceptualNetwork

__all__ = ["SMALLEST_SIDE", "PerceptualDistance", "PerceptualNetwork", "TrainedFeatures"]
