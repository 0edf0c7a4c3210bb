"""Features of images from trained networks: for Fréchet distances, and for the perceptual distance of two images."""

from vaezoo.networks.features.image_features import TrainedFeatures
from vaezoo.networks.features.perceptual import PerceptualDistance, PerceptualNetwork

__all__ = ["PerceptualDistance", "PerceptualNetwork", "TrainedFeatures"]
