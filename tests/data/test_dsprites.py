"""Procedural sets: pixels against an independent rasterization, symmetries, areas; behavior as a `Dataset`."""

import colorsys
import hashlib
import itertools
import math
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

import vaezoo
from vaezoo.data import DrawnDataset, Factors, binarize, binarize_fixed, from_tensors, load_dataset
from vaezoo.data.procedural.sprites import ORIENTATIONS, POSITIONS, SCALES, SHAPES, Sprites
from vaezoo.errors import DataError, ShapeError

SIZES = (3, 6, 40, 32, 32)
# Hash of 1,000 images spread over the grid; a change of pixels needs a new `Sprites.name` and a new hash.
PIXELS = "09edda5de0185947fe835946432f55459265574d817b89275e79656a4ff692cf"


@pytest.fixture(scope="module")
def whole() -> DrawnDataset:
    return cast(DrawnDataset, load_dataset("dsprites", "all"))


def pixels(data: DrawnDataset, *values: int) -> np.ndarray:
    return data.batch(torch.tensor([np.ravel_multi_index(values, SIZES)]))[0, 0].numpy().astype(bool)


def outline(shape: int) -> np.ndarray:
    """Returns a fine polygon of a shape at scale 1, x to the right and y up, (M, 2), from the published geometry."""
    t = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    if SHAPES[shape] == "square":
        return 9.5997 * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    if SHAPES[shape] == "ellipse":
        return np.stack([12.772 * np.cos(t), 7.212 * np.sin(t)], 1)
    y = 0.6625 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) + 1.44
    return np.stack([0.5995 * 16 * np.sin(t) ** 3, y], 1)


def rasterized(shape: int, scale: int, orientation: int, x: int, y: int) -> np.ndarray:
    """Returns which pixel centres are inside the turned, moved polygon: an odd number of edges to their right."""
    angle = np.linspace(0, 2 * np.pi, ORIENTATIONS)[orientation]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.linspace(0.5, 1, SCALES)[scale] * outline(shape) @ turn.T
    across = 16 + 32 * np.linspace(0, 1, POSITIONS)[x] + points[:, 0]
    down = 16 + 32 * np.linspace(0, 1, POSITIONS)[y] - points[:, 1]
    before, after = (across, down), (np.roll(across, -1), np.roll(down, -1))
    inside = np.zeros((64, 64), dtype=bool)
    for row in range(64):
        cut = (before[1] > row + 0.5) != (after[1] > row + 0.5)
        share = (row + 0.5 - before[1][cut]) / (after[1][cut] - before[1][cut])
        edges = before[0][cut] + share * (after[0][cut] - before[0][cut])
        inside[row] = (edges[None, :] > (np.arange(64) + 0.5)[:, None]).sum(1) % 2 == 1
    return inside


class TestGeometry:
    @pytest.mark.parametrize("shape", range(3))
    def test_pixels_equal_an_independent_rasterization(self, shape: int, whole: DrawnDataset) -> None:
        for values in np.random.default_rng(shape).integers(SIZES[1:], size=(30, 4)).tolist():
            assert np.array_equal(pixels(whole, shape, *values), rasterized(shape, *values)), values

    @pytest.mark.parametrize("shape", range(3))
    def test_areas_and_equal_orientations(self, shape: int, whole: DrawnDataset) -> None:
        x, y = outline(shape).T
        area = 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
        places = torch.arange(len(whole)).view(SIZES)
        for scale in range(6):
            first, last = (whole.batch(places[shape, scale, turn, ::3].flatten()) for turn in (0, 39))
            assert torch.equal(first, last)
            counts = whole.batch(places[shape, scale, 7, ::2].flatten()).sum((1, 2, 3))
            assert float(counts.mean()) == pytest.approx(area * (0.5 + 0.1 * scale) ** 2, rel=2e-3)

    def test_positions_are_symmetric(self, whole: DrawnDataset) -> None:
        for x, y, scale in itertools.product((0, 5, 18, 31), (2, 16, 29), (0, 4)):
            for shape, turn in ((0, 4), (1, 11), (1, 0)):  # symmetric under half a turn
                here, there = pixels(whole, shape, scale, turn, x, y), pixels(whole, shape, scale, turn, 31 - x, 31 - y)
                assert np.array_equal(here, there[::-1, ::-1])
            for shape in range(3):  # mirror symmetry of upright shapes
                here, there = pixels(whole, shape, scale, 0, x, y), pixels(whole, shape, scale, 0, 31 - x, y)
                assert np.array_equal(here, there[:, ::-1])


class TestSet:
    def test_factors_count_with_y_the_fastest(self, whole: DrawnDataset) -> None:
        assert len(whole) == 737_280 and whole.shape == (1, 64, 64)
        assert whole.factors.names == ("shape", "scale", "orientation", "x", "y")
        assert whole.factors.sizes == SIZES and len(whole.factors) == len(whole)
        indices = torch.tensor([0, 1, 32, 1024, 40_960, 245_760, 737_279])
        expected = np.stack(np.unravel_index(indices.numpy(), SIZES), 1)
        assert torch.equal(whole.factors.values(indices), torch.from_numpy(expected))
        assert torch.equal(whole.labels, whole.factors.values()[:, 0]) and whole.classes == 3

    def test_train_and_test_share_no_image_and_are_all(self, whole: DrawnDataset) -> None:
        train, test = load_dataset("dsprites"), load_dataset("dsprites", "test")
        assert (len(train), len(test)) == (663_552, 73_728)
        both = torch.cat([train.factors.places, test.factors.places])
        assert torch.equal(both.sort().values, torch.arange(737_280))
        few = test.subset(range(2000))  # in random order: the first ones are representative
        assert all(len(few.factors.values()[:, k].unique()) == size for k, size in enumerate(SIZES))
        assert few.labels.bincount().min() > 600
        with pytest.raises(DataError, match="'train', 'test' or 'all'"):
            load_dataset("dsprites", "validation")

    def test_a_subset_keeps_images_labels_and_factors_together(self, whole: DrawnDataset) -> None:
        index = torch.tensor([700_000, 3, 250_000, 3])
        part = whole.subset(index)
        assert torch.equal(part.batch(torch.arange(4)), whole.batch(index))
        assert torch.equal(part.factors.values(), whole.factors.values(index))
        assert torch.equal(part.labels, whole.labels[index])
        held_out = whole.split_off(1000, seed=1)[1]
        assert torch.equal(whole.batch(held_out.factors.places[:50]), held_out.batch(torch.arange(50)))
        one_by_one = torch.cat([part.batch(torch.tensor([k])) for k in range(4)])
        assert torch.equal(one_by_one, part.batch(torch.arange(4)))

    def test_it_gives_the_same_values_as_in_memory(self, whole: DrawnDataset) -> None:
        few = whole.subset(range(0, 737_280, 7000))
        images = few.batch(torch.arange(len(few)))
        assert set(images.unique().tolist()) == set(few.levels().tolist()) == {0.0, 1.0}
        assert few.images.device.type == "meta" and few.images.shape == images.shape
        parts = torch.arange(len(few)).split(17)
        assert torch.equal(torch.cat(list(few.batches(parts))), images)
        assert torch.equal(torch.cat(list(replace(few, workers=1).batches(parts))), images)
        for how in ("none", "static", "dynamic"):
            for each in (few, replace(few, split="test")):
                assert torch.equal(binarize(each, how).batch(torch.arange(len(few))), images)

    def test_digests_identify_sets_and_pixels_match_the_version(self, whole: DrawnDataset) -> None:
        drawing = Sprites()
        images = drawing.read(torch.arange(0, len(drawing), 738))
        assert (drawing.name, hashlib.sha256(images.numpy().tobytes()).hexdigest()) == ("dsprites-1", PIXELS)
        few = [whole.subset(range(9)), whole.subset(range(1, 10)), whole.subset(range(9))]
        sets = [*few, load_dataset("color-dsprites", "all"), load_dataset("dsprites")]
        assert len({whole.digest, *(each.digest for each in sets)}) == 5 and few[0].digest == few[2].digest
        assert whole.digest == load_dataset("dsprites", "all").digest

    @pytest.mark.full
    @pytest.mark.filterwarnings("ignore:.*latents are active")
    def test_a_model_trains_on_it(self) -> None:
        recipe = {
            "variant": "vae",
            "architecture": {"latent": 4, "backbone": {"name": "mlp", "hidden": [16]}},
            "data": {"name": "dsprites", "validation": 64},
            "train": {"steps": 3, "batch_size": 32, "learning_rate": 1e-2},
        }
        runs = [vaezoo.train(recipe, out=None, trackers=(), device="cpu") for _ in range(2)]
        bounds = [line["bound"] for line in runs[0].history if "bound" in line]
        assert math.isfinite(bounds[-1]) and runs[0].history == runs[1].history
        assert vaezoo.evaluate(runs[0].model, "dsprites", samples=2, limit=20).log_evidence.mean is not None


class TestColors:
    def test_the_hue_is_the_first_factor_and_changes_nothing_else(self, whole: DrawnDataset) -> None:
        data = load_dataset("color-dsprites", "all")
        assert len(data) == 8 * 737_280 and data.shape == (3, 64, 64)
        assert data.factors.names == ("hue", *whole.factors.names) and data.factors.sizes == (8, *SIZES)
        index = torch.arange(5, 737_280, 90_001)
        plain = whole.batch(index)
        for hue in range(8):
            expected = torch.tensor([round(255 * part) / 255 for part in colorsys.hsv_to_rgb(hue / 8, 1, 1)])
            assert torch.equal(data.batch(index + hue * 737_280), plain * expected[:, None, None])
        assert torch.equal(data.labels[index], whole.labels[index])

    def test_levels_are_all_that_occur(self) -> None:
        few = load_dataset("color-dsprites", "all").subset(range(0, 8 * 737_280, 20_011))
        assert torch.equal(few.levels(), few.batch(torch.arange(len(few))).unique())
        fixed, every = binarize_fixed(few, 7), torch.arange(len(few))
        assert fixed.levels().tolist() == fixed.batch(every).unique().tolist() == [0, 1]
        again = from_tensors((few.batch(every) * 255).round().to(torch.uint8))
        assert torch.equal(fixed.batch(every), binarize_fixed(again, 7).batch(every))


class TestFactors:
    def test_a_table_of_values_round_trips(self) -> None:
        values = torch.tensor([[0, 2, 1], [1, 0, 3], [1, 2, 0]])
        factors = Factors.of(values, ["a", "b", "c"])
        assert factors.sizes == (2, 3, 4)
        assert torch.equal(factors.values(), values)
        assert torch.equal(factors.values(torch.tensor([2, 0])), values[[2, 0]])
        assert torch.equal(factors.subset(torch.tensor([1])).values(), values[1:2])
        assert Factors.of(values, "abc", (5, 6, 7)).sizes == (5, 6, 7)
        data = from_tensors(torch.rand(3, 4), factors=factors)
        assert torch.equal(data.subset([2]).factors.values(), values[2:])

    @pytest.mark.parametrize(
        ("values", "names", "sizes", "error", "words"),
        [
            ([[0, 1]], ["a"], None, ShapeError, "column for each name"),
            ([[0.0, 1.0]], ["a", "b"], None, ShapeError, "whole numbers"),
            ([[0, -1]], ["a", "b"], None, DataError, "from 0"),
            ([[0, 3]], ["a", "b"], [1, 3], DataError, "from 0"),
            ([[0, 1]], ["a", "a"], None, DataError, "different names"),
            ([[0, 1]], ["a", "b"], [2**40, 2**40], DataError, "sizes"),
        ],
    )
    def test_invalid_factors_are_refused(self, values, names, sizes, error, words) -> None:
        with pytest.raises(error, match=words):
            Factors.of(torch.tensor(values), names, sizes)

    def test_invalid_places_are_refused(self) -> None:
        for places, error, words in ((torch.zeros(3), ShapeError, "int64"), (torch.tensor([2]), DataError, "0 to 1")):
            with pytest.raises(error, match=words):
                Factors(names=("a",), sizes=(2,), places=places)
        with pytest.raises(ShapeError, match="factors of 2 examples"):
            from_tensors(torch.rand(3, 4), factors=Factors.of(torch.zeros(2, 1, dtype=torch.int64), ["a"]))
