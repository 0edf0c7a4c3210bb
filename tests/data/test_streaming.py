"""Streamed data sets equal those in memory, bit for bit."""

import multiprocessing
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from support.runs import equal, fit

from vaezoo import evaluate, train
from vaezoo.data import Dataset, StreamedDataset, binarize, binarize_fixed, load_dataset
from vaezoo.data.streaming.limits import MEMORY_LIMIT, memory_limit, worker_count
from vaezoo.data.streaming.prefetch import read_ahead
from vaezoo.data.transforms.fixed_noise import stretches
from vaezoo.errors import ConfigError, DataError, ShapeError
from vaezoo.recipe import Recipe, read_recipe
from vaezoo.trainer import Trainer, build_model
from vaezoo.trainer.batches import BatchStream
from vaezoo.trainer.stage_run import StageRun

CPU, FULL = torch.device("cpu"), pytest.mark.full

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*latents are active"),
    pytest.mark.filterwarnings("ignore:.*worker processes in total"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 gray images of 5 x 6 in two classes, 40 of which are for training."""
    root = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for name, count, bright in (("cat", 22, 0), ("dog", 23, 90)):
        (root / name).mkdir()
        for i in range(count):
            pixels = noise.integers(bright, bright + 160, (6, 5), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


def pair(folder: Path, split: str = "train", workers: int = 0) -> tuple[Dataset, StreamedDataset]:
    """Returns the same set in memory and streamed."""
    streamed = load_dataset(f"folder:{folder}", split, memory_limit=1, workers=workers)
    return load_dataset(f"folder:{folder}", split), cast(StreamedDataset, streamed)


def same(a: Dataset, b: Dataset) -> bool:
    """Returns whether two sets have the same content; their digests cover labels."""
    everything = torch.arange(len(a))
    facts = ("name", "split", "shape", "classes", "binarization", "scale", "digest")
    alike = len(a) == len(b) and all(getattr(a, fact) == getattr(b, fact) for fact in facts)
    return alike and torch.equal(a.batch(everything), b.batch(everything))


def recipe_for(folder: Path, binarize: str = "dynamic", **train: object) -> Recipe:
    return read_recipe(
        {
            "variant": "vae",
            "architecture": {"latent": 3, "backbone": {"name": "mlp", "hidden": [6]}},
            "data": {"name": f"folder:{folder}", "binarize": binarize, "context": True, "validation": 8},
            "train": {"steps": 18, "batch_size": 6, **train},
        }
    )


class TestContent:
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_it_equals_the_set_in_memory(self, folder: Path, split: str) -> None:
        whole, streamed = pair(folder, split)
        assert same(whole, streamed) and streamed.labels is not None and streamed.classes == 2
        assert torch.equal(whole.levels(), streamed.levels())
        assert streamed.images.is_meta and streamed.images.dtype == torch.uint8

    def test_parts_of_it_are_equal_and_copies_share_one_pass_over_the_images(self, folder: Path) -> None:
        whole, streamed = pair(folder)
        for a, b in zip(whole.split_off(7, 3), streamed.split_off(7, 3), strict=True):
            assert same(a, b) and same(a.subset([3, 1, -1]), b.subset([3, 1, -1]))
        digest = streamed.digest
        streamed.reader.source.read = None  # type: ignore[method-assign, assignment]  # no further image can be read
        assert streamed.to("cpu").digest == replace(streamed, split="validation").digest == digest
        assert binarize(streamed, "dynamic").digest == digest
        assert replace(streamed, labels=None, classes=None).digest != digest
        with pytest.raises(TypeError):
            _ = streamed.subset([0]).digest

    @pytest.mark.parametrize("how", ["none", "dynamic", "static"])
    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_binarizations_are_equal(self, folder: Path, how: str, split: str) -> None:
        a, b = (binarize(replace(each, split=split), how) for each in pair(folder))
        assert b.images.is_meta and same(a, b)
        assert same(a.subset([5, 30]), b.subset([5, 30]))  # the images keep their noise
        assert same(binarize_fixed(a.subset([5, 30]), 7), binarize_fixed(b.subset([5, 30]), 7))  # numbered from 0 again

    @pytest.mark.parametrize("width", [1, 4, 30])
    def test_noise_of_any_places_equals_the_whole_stream(self, width: int) -> None:
        words, places = -(-width // 4), [7, 0, 8, 2, 2]
        raw = np.random.PCG64(5).random_raw(9 * words).reshape(9, words)
        assert np.array_equal(stretches(5, places, width).reshape(5, words), raw[places])

    @pytest.mark.parametrize("workers", [0, 1, 3])
    def test_batches_are_in_order_for_any_number_of_workers(self, folder: Path, workers: int) -> None:
        whole, streamed = pair(folder, workers=workers)
        parts = torch.arange(40).flip(0).split(7)
        state = torch.get_rng_state()
        got = list(streamed.batches(parts))
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(a, b) for a, b in zip(whole.batches(parts), got, strict=True))


class TestLimits:
    def test_keyword_then_environment_then_default(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        size = 40 * 30
        for limit, streamed in ((size, False), (size - 1, True)):
            loaded = load_dataset(f"folder:{folder}", memory_limit=limit)
            assert isinstance(loaded, StreamedDataset) is streamed
            monkeypatch.setenv("VAEZOO_MEMORY_LIMIT", str(limit))
            assert isinstance(load_dataset(f"folder:{folder}"), StreamedDataset) is streamed
        monkeypatch.delenv("VAEZOO_MEMORY_LIMIT")
        monkeypatch.delenv("VAEZOO_WORKERS", raising=False)
        assert memory_limit() == MEMORY_LIMIT == 2 * 1024**3 and 0 <= worker_count() <= 8
        monkeypatch.setenv("VAEZOO_WORKERS", "3")
        assert worker_count() == 3 and worker_count(0) == 0
        for wrong in ("-1", "two", "1.5"):
            monkeypatch.setenv("VAEZOO_WORKERS", wrong)
            with pytest.raises(ConfigError, match=r"VAEZOO_WORKERS = .*0 or more"):
                worker_count()
        with pytest.raises(ConfigError, match="memory_limit = -1"):
            memory_limit(-1)


class TestBrokenFiles:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_pixels_are_validated(self, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
        for i in range(20):
            Image.new("L", (4, 3), i).save(tmp_path / f"{i:02}.png")
        last = tmp_path / "19.png"
        last.write_bytes(last.read_bytes()[:44])
        recipe = {
            "variant": "vae",
            "data": {"name": f"folder:{tmp_path}", "binarize": "dynamic"},
            "train": {"steps": 1},
        }
        with pytest.raises(DataError, match=r"19\.png"), monkeypatch.context() as patch:
            patch.setenv("VAEZOO_MEMORY_LIMIT", "1")
            patch.setattr(Trainer, "fit", None)  # training does not start
            train(recipe, out=None, trackers=(), workers=workers)
        streamed = load_dataset(f"folder:{tmp_path}", memory_limit=1, workers=workers)
        with pytest.raises(DataError, match=r"^\S*19\.png: got a file that cannot be read"):
            list(streamed.batches(torch.arange(18).split(3)))
        Image.new("L", (9, 9)).save(last)
        with pytest.raises(DataError, match=r"^\S*19\.png: got an image of 9 x 9"):
            streamed.batch(torch.tensor([17]))
        last.unlink()
        with pytest.raises(DataError, match=r"19\.png"):
            _ = streamed.digest

    def test_a_worker_that_dies_is_reported(self) -> None:
        with pytest.raises(DataError, match=r"a worker process.*VAEZOO_WORKERS=0"):
            list(read_ahead(lambda _: os._exit(3), [torch.tensor([0])], workers=1))


SCRIPT = """
import multiprocessing, torch
from vaezoo.data.streaming.prefetch import read_ahead

def run():
    print(list(read_ahead(torch.tensor, [torch.tensor([3])], workers=1)))

if __name__ in {names}:
    multiprocessing.set_start_method("spawn", force=True)
    run()
"""
GUARD = r'put what it does under if __name__ == "__main__":, or set VAEZOO_WORKERS=0'


class TestSpawnedWorkers:
    @FULL
    @pytest.mark.parametrize("guarded", [True, False])
    def test_a_script_without_a_main_guard_gets_an_error_that_states_it(self, guarded: bool, tmp_path: Path) -> None:
        names = ["__main__"] if guarded else ["__main__", "__mp_main__"]
        script = tmp_path / "script.py"
        script.write_text(SCRIPT.format(names=names))
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
        if guarded:
            assert done.stdout == "[tensor([3])]\n", done.stderr
        else:
            in_worker, error = done.stderr.rsplit("Traceback", 1)
            assert done.returncode and GUARD in in_worker and GUARD in error

    @pytest.mark.parametrize(
        ("error", "wanted"),
        [
            (RuntimeError("An attempt has been made … bootstrapping phase."), GUARD),
            (BrokenPipeError("Broken pipe"), GUARD),
            (AttributeError("Can't pickle local object 'make.<locals>.Set'"), "can be pickled. Define its class"),
        ],
    )
    def test_workers_that_do_not_start(self, error: Exception, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: object) -> None:
            raise error

        monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", fail)
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
        with pytest.raises(DataError, match=wanted):
            list(read_ahead(torch.tensor, [torch.tensor([0])], workers=1))

    def test_one_that_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for method in ("fork", "spawn"):
            monkeypatch.setattr(multiprocessing, "get_start_method", lambda method=method: method)
            with pytest.raises(DataError, match=r"a worker process.*VAEZOO_WORKERS=0 for none") as caught:
                list(read_ahead(lambda _: os._exit(3), [torch.tensor([0])], workers=1))
            assert (GUARD in str(caught.value)) == (method == "spawn")


def test_workers_ignore_signals_to_the_whole_group(folder: Path) -> None:
    whole, streamed = pair(folder, workers=2)
    parts = torch.arange(40).split(2)
    batches = streamed.batches(parts)
    got = [next(batches), next(batches)]  # one of each worker: both have started
    for worker in multiprocessing.active_children():
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    got += batches
    assert torch.equal(torch.cat(got), whole.batch(torch.arange(40)))
    assert not multiprocessing.active_children()  # they end after the last batch


class TestTraining:
    def test_batch_streams_are_equal(self, folder: Path) -> None:
        whole, streamed = (binarize(each, "dynamic") for each in pair(folder, workers=2))
        one, two = (BatchStream(each, 9, CPU, seed=3, context=2) for each in (whole, streamed))
        for number in (0, 1, 2, 3, 4, 5, 11, 12, 2):  # over the end of an epoch, forward and back
            torch.manual_seed(number)
            x, c = one.batch(number)
            torch.manual_seed(number)
            y, d = two.batch(number)
            assert c is not None and d is not None
            assert torch.equal(x, y) and torch.equal(c, d) and torch.equal(one.indices(number), two.indices(number))
            torch.manual_seed(number)
            assert torch.equal(one.take(one.indices(number))[0], x)
        two.close()

    @pytest.mark.parametrize(
        ("binarize", "workers"),
        [("dynamic", 0), pytest.param("dynamic", 2, marks=FULL), pytest.param("static", 4, marks=FULL)],
    )
    def test_trained_models_are_equal(self, folder: Path, binarize: str, workers: int, tmp_path: Path) -> None:
        recipe, sets = recipe_for(folder, binarize), pair(folder, workers=workers)
        one, two = (train(recipe, data=each, out=tmp_path / type(each).__name__, trackers=()) for each in sets)
        assert equal(one.model, two.model) and one.history == two.history and one.model.config == two.model.config
        files = [path.read_bytes() for path in tmp_path.glob("*/model.safetensors")]
        assert len(files) == 2 and files[0] == files[1]
        reports = [evaluate(one.model, replace(each, split="test"), 20) for each in sets]
        assert reports[0] == reports[1]

    @pytest.mark.parametrize("workers", [0, pytest.param(2, marks=FULL)])
    def test_a_resumed_run_starts_in_the_middle_of_an_epoch(
        self, folder: Path, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vaezoo.trainer.loop.LOG_EVERY", 4)  # checkpoints after 4, 8, 12, 16 of 18 steps
        recipe = recipe_for(folder)  # 5 batches in an epoch of 32 images

        def trainer(data: Dataset, place: Path | None) -> Trainer:
            rest, held_out = (binarize(part, "dynamic") for part in data.split_off(8, 0))
            return Trainer(recipe, build_model(recipe, rest), rest, held_out=held_out, folder=place)

        whole, streamed = pair(folder, workers=workers)
        expected = fit(trainer(whole, None))
        stopped = trainer(streamed, tmp_path)
        log = stopped._log

        def interrupted_after_8(run: StageRun, number: int) -> None:
            if run.number > 8:
                raise KeyboardInterrupt  # as a second Ctrl-C does
            log(run, number)

        monkeypatch.setattr(stopped, "_log", interrupted_after_8)
        with pytest.raises(KeyboardInterrupt):
            fit(stopped)
        assert max(path.name for path in (tmp_path / "checkpoints").iterdir()) == "step-000000008"
        resumed = fit(trainer(streamed, tmp_path), resume=True)
        assert equal(expected.model, resumed.model) and expected.history == resumed.history
        # A checkpoint does not depend on how the data are read.
        assert equal(fit(trainer(whole, tmp_path), resume=True).model, expected.model)


class TestTorchvision:
    @pytest.fixture
    def cache(self, tmp_path: Path) -> Iterator[Path]:
        raw = tmp_path / "torchvision" / "MNIST" / "MNIST" / "raw"
        raw.mkdir(parents=True)
        pixels = np.random.default_rng(1).integers(0, 256, 12 * 784, dtype=np.uint8).tobytes()
        for part in ("train", "t10k"):
            (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 12, 28, 28) + pixels)
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 12) + bytes(range(12)))
        yield tmp_path

    def test_it_equals_the_set_in_memory(self, cache: Path) -> None:
        def load(limit: int | None) -> Dataset:
            return load_dataset("torchvision:MNIST", cache_dir=cache, download=False, memory_limit=limit, workers=1)

        for limit in (None, 1):  # twelve labels and ten classes
            with pytest.raises(DataError, match="labels from 0 to 11"):
                load(limit)
        labels = cache / "torchvision" / "MNIST" / "MNIST" / "raw" / "train-labels-idx1-ubyte"
        labels.write_bytes(labels.read_bytes()[:-2] + bytes(2))
        whole, streamed = load(None), load(1)
        assert isinstance(streamed, StreamedDataset) and same(whole, streamed)
        assert (whole.name, len(whole), whole.shape, whole.classes) == ("torchvision:MNIST", 12, (1, 28, 28), 10)
        assert all(same(*parts) for parts in zip(whole.split_off(4, 1), streamed.split_off(4, 1), strict=True))

    def test_invalid_items(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import torchvision

        def item(self: object, index: int) -> tuple[Image.Image, int]:
            if index == 7 and broken:
                raise OSError("truncated")
            return Image.new("L", (28 + (index == 7), 28), 1), index % 3

        monkeypatch.setattr(torchvision.datasets.MNIST, "__getitem__", item)
        broken = True
        with pytest.raises(DataError, match="item 7: got an image that cannot be read"):
            load_dataset("torchvision:MNIST", cache_dir=cache, download=False, memory_limit=1)
        broken = False
        with pytest.raises(ShapeError, match=r"28, 29.*in item 7; expected \(1, 28, 28\)"):
            load_dataset("torchvision:MNIST", cache_dir=cache, download=False, memory_limit=1)
