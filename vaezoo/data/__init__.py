"""Data sets by name, one record type, verified sources."""

from vaezoo.data.binarize import BINARIZATIONS, STATIC_SEED, TEST_SEED, binarize_fixed, draw, prepare
from vaezoo.data.bundled import bundled_images
from vaezoo.data.drawn import DrawnDataset
from vaezoo.data.factors import Factors
from vaezoo.data.limits import MEMORY_LIMIT
from vaezoo.data.load import datasets, get, load_dataset
from vaezoo.data.padding import pad
from vaezoo.data.record import Dataset
from vaezoo.data.streaming import StreamedDataset
from vaezoo.data.tensors import from_tensors

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
