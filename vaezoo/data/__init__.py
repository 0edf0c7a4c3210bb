"""Data sets by name, one record type, verified sources."""

from vaezoo.data.bundled import bundled_images
from vaezoo.data.dataset import Dataset
from vaezoo.data.factors import Factors
from vaezoo.data.from_tensors import from_tensors
from vaezoo.data.load import datasets, get, load_dataset
from vaezoo.data.procedural.dataset import DrawnDataset
from vaezoo.data.streaming.dataset import StreamedDataset
from vaezoo.data.streaming.limits import MEMORY_LIMIT
from vaezoo.data.transforms.binarize import BINARIZATIONS, STATIC_SEED, TEST_SEED, binarize_fixed, draw, prepare
from vaezoo.data.transforms.padding import pad

__all__ = [
    "BINARIZATIONS",
    "MEMORY_LIMIT",
    "STATIC_SEED",
    "TEST_SEED",
    "Dataset",
    "DrawnDataset",
    "Factors",
    "StreamedDataset",
    "binarize_fixed",
    "bundled_images",
    "datasets",
    "draw",
    "from_tensors",
    "get",
    "load_dataset",
    "pad",
    "prepare",
]
