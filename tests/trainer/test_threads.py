"""Training in a process whose other threads sample, load, and draw from torch's process-wide generator."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from support.runs import equal, fit, small_data, small_recipe, trainer
from torch import Tensor

import vaezoo


@pytest.mark.parametrize("variant", ["vae", "vq-vae", "dae"])  # binarization, k-means and dead codes, denoising
def test_training_gives_the_same_model_beside_other_threads(variant: str) -> None:
    recipe, ended = small_recipe(variant, steps=30), Event()

    def train() -> tuple[vaezoo.VAE, object]:
        run = fit(trainer(recipe, held_out=small_data(recipe, 9, "validation")))
        return run.model, run.history

    def repeat(action: Callable[[], Tensor]) -> list[Tensor]:
        found = [action()]
        while not ended.wait(1e-3):
            found.append(action())
        return found

    loaded, (expected, history) = vaezoo.load("beta-vae-mnist"), train()
    samples, weight = loaded.sample(2, seed=1), next(loaded.parameters())
    torch.manual_seed(3)
    with ThreadPoolExecutor(3) as pool:
        drawn = pool.submit(repeat, lambda: torch.rand(1))
        sampled = pool.submit(repeat, lambda: loaded.sample(2, seed=1))
        weights = pool.submit(repeat, lambda: next(vaezoo.load("beta-vae-mnist").parameters()))
        try:
            found, lines = train()
        finally:
            ended.set()
    assert equal(found, expected) and lines == history
    assert all(torch.equal(each, samples) for each in sampled.result())
    assert all(torch.equal(each, weight) for each in weights.result())
    torch.manual_seed(3)
    assert torch.equal(torch.rand(len(drawn.result())), torch.cat(drawn.result()))  # as if it were alone
