"""Training on data from Python: augmentation at every step, and iterable data sets without an end."""

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.runs import equal, small_recipe
from torch.utils.data import DataLoader, IterableDataset

import vaezoo
from vaezoo.data import from_tensors
from vaezoo.errors import DataError, InterruptedTrainingError, ShapeError
from vaezoo.recipe import Recipe
from vaezoo.trainer import Run, build_model, stage_run
from vaezoo.trainer.setup import make_feed

CPU = torch.device("cpu")


class Numbers(IterableDataset[object]):
    """Yields images that show their number, without end, and counts those that were read."""

    def __init__(self, *, labels: bool = False, end: int | None = None) -> None:
        self.labels, self.end, self.read = labels, end, 0

    def __iter__(self) -> Iterator[object]:
        for i in itertools.count() if self.end is None else range(self.end):
            self.read += 1
            x = torch.full((1, 4, 4), i % 251, dtype=torch.uint8)
            yield (x, i % 3) if self.labels else x


def recipe(variant: str = "vae", data: dict[str, object] | None = None, **train: object) -> Recipe:
    return small_recipe(variant, data={"binarize": "none", **(data or {})}, **train)


def run(chosen: Recipe, data: object, out: Path | None = None, **options: object) -> Run:
    return vaezoo.train(chosen, data=data, out=out, device="cpu", trackers=[], **options)  # type: ignore[arg-type]


def stopped(chosen: Recipe, data: object, out: Path, step: int) -> None:
    """Trains until Ctrl-C in a step."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedTrainingError):
        advance = stage_run.StageRun.advance

        def hooked(one: stage_run.StageRun) -> None:
            if one.number + 1 == step:
                signal.raise_signal(signal.SIGINT)
            advance(one)

        patch.setattr(stage_run.StageRun, "advance", hooked)
        run(chosen, data, out)


class TestAugmentation:
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def test_batches_are_functions_of_seed_and_number(self) -> None:
        feeds = []
        for data in ({"flip": True, "shift": 1}, {"flip": True, "shift": 1}, {}):
            chosen = recipe(data=data)
            whole = from_tensors(self.images)
            feeds.append(make_feed(chosen, build_model(chosen, whole), whole, 8, CPU))
        one, other, plain = ([feed.batch(n)[0] for n in (0, 7, 3)] for feed in feeds)
        assert all(map(torch.equal, one, reversed([feeds[1].batch(n)[0] for n in (3, 7, 0)])))
        assert all(map(torch.equal, one, other)) and not any(map(torch.equal, one, plain))
        assert torch.equal(feeds[0].take(torch.arange(4))[0], self.images[:4])  # nothing else is augmented
        state = torch.get_rng_state()
        feeds[0].batch(1)
        assert torch.equal(state, torch.get_rng_state())

    def test_a_resumed_run_is_exact(self, tmp_path: Path) -> None:
        chosen = recipe(data={"flip": True, "shift": 1, "validation": 8, "binarize": "dynamic"})
        whole = run(chosen, self.images)
        stopped(chosen, self.images, tmp_path / "run", 11)
        assert equal(run(chosen, self.images, tmp_path / "run", resume=True).model, whole.model)
        assert not equal(run(recipe(data={"validation": 8, "binarize": "dynamic"}), self.images).model, whole.model)

    def test_tables_are_refused(self) -> None:
        with pytest.raises(DataError, match=r"data\.flip"):
            run(recipe(data={"flip": True}), torch.rand(20, 5))


class TestEndlessData:
    def test_only_what_the_steps_need_is_read(self) -> None:
        data = Numbers()
        found = run(recipe(steps=20, batch_size=4), data)
        assert data.read <= 8 * 4 + 1 + 20 * 4 + 1 and len(found.history) > 0

    @pytest.mark.parametrize("loader", [False, True])
    def test_batches_are_those_of_the_iterable_in_order(self, loader: bool) -> None:
        data = DataLoader(Numbers(labels=True), batch_size=5) if loader else Numbers(labels=True)
        chosen = recipe("cvae", {"context": True}, steps=9, batch_size=4)
        whole = from_tensors(data, beginning=8)
        feed = make_feed(chosen, build_model(chosen, whole), whole, 4, CPU)
        for number in (0, 1, 5, 2):  # forward, with a gap, and back
            x, c = feed.batch(number)
            wanted = torch.arange(4 * number, 4 * number + 4)
            assert torch.equal((x[:, 0, 0, 0] * 255).round().long(), wanted) and c is not None
            assert c.argmax(1).tolist() == (wanted % 3).tolist()

    def test_a_resumed_run_of_a_fixed_iterable_is_exact(self, tmp_path: Path) -> None:
        chosen = recipe("cvae", {"context": True, "validation": 6, "pad": 1, "flip": True}, steps=12, batch_size=4)
        whole = run(chosen, Numbers(labels=True))
        assert whole.model.shape == (1, 6, 6)
        stopped(chosen, Numbers(labels=True), tmp_path / "run", 5)
        again = run(chosen, Numbers(labels=True), tmp_path / "run", resume=True)
        assert equal(again.model, whole.model)

    def test_held_out_examples_are_never_trained_on(self) -> None:
        data = Numbers(end=20)
        whole, held_out = from_tensors(data, beginning=12).split_off(6, 0)
        assert (held_out.images[:, 0, 0, 0]).tolist() == list(range(6)) and held_out.split == "validation"
        chosen = recipe(steps=8, batch_size=4)
        feed = make_feed(chosen, build_model(chosen, whole), whole, 4, CPU)
        seen = torch.cat([feed.batch(n)[0][:, 0, 0, 0] for n in range(8)]).mul(255).round().long().tolist()
        assert seen == [6 + i % 14 for i in range(32)]  # begins anew after 20

    def test_one_that_ends_early_is_a_set_in_memory(self) -> None:
        chosen = recipe(steps=6, batch_size=4)
        by_iterable = run(chosen, Numbers(end=15)).model
        assert equal(by_iterable, run(chosen, torch.arange(15.0).expand(1, 4, 4, 15).permute(3, 0, 1, 2).byte()).model)

    def test_an_example_that_differs_later_is_named(self) -> None:
        class Odd(Numbers):
            def __iter__(self) -> Iterator[object]:
                for i, x in enumerate(super().__iter__()):
                    yield x if i < 60 else x[:, :3]  # type: ignore[index]

        with pytest.raises(ShapeError, match="item 60"):
            run(recipe(steps=20, batch_size=4), Odd())

    def test_settings_that_need_a_length_are_refused(self) -> None:
        chosen = recipe("m2-vae", {"context": True, "labels": 3, "labelled_share": 0.5}, steps=5, batch_size=4)
        with pytest.raises(DataError, match=r"data\.labels = 3"):
            run(chosen, Numbers(labels=True))
        with pytest.raises(DataError, match="static"):
            run(recipe(data={"binarize": "static"}, steps=5, batch_size=4), Numbers())


def test_dicts_with_the_key_of_the_recipe() -> None:
    items = [{"left": torch.rand(1, 4, 4), "right": torch.zeros(1, 4, 4)} for _ in range(12)]
    chosen = recipe(data={"image_key": "right"}, steps=3, batch_size=4)
    assert equal(run(chosen, items).model, run(recipe(steps=3, batch_size=4), torch.zeros(12, 1, 4, 4)).model)
