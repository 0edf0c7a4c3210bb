"""The number of threads of `vaezoo train`."""

from pathlib import Path

import pytest
import torch
from support.runs import small_recipe, trainer

from vaezoo.cli import main
from vaezoo.cli.threads import FLOPS_PER_THREAD, chosen_threads, flops_of_a_pass
from vaezoo.data import from_tensors


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "variable", "number", "reason"),
    [
        ([], None, 1, "million operations; --threads N sets another number"),
        (["--threads", "2"], None, 2, "(--threads)"),
        (["--threads", "2"], "3", 2, "(--threads)"),
        ([], "3", 3, "(OMP_NUM_THREADS)"),
    ],
)
def test_the_command_sets_and_logs_the_number_and_restores_it(
    arguments: list[str], variable: str | None, number: int, reason: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    present, set_to = 3, list[int]()  # as if the machine had three cores
    monkeypatch.setattr(torch, "get_num_threads", lambda: present)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    steps = ["train.steps=2", "train.batch_size=8", "--device", "cpu"]
    assert main(["train", "vae-digits", *steps, "--out", str(tmp_path / "run"), *arguments]) == 0
    assert set_to == [number, present]
    line = next(each for each in capsys.readouterr().err.splitlines() if each.startswith("Threads: "))
    assert line.startswith(f"Threads: {number} (") and reason in line


def test_a_number_below_one_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "vae-digits", "--threads", "0", "--out", str(tmp_path / "run")]) == 1
    assert "Got threads = 0; expected 1 or more" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_operations_are_those_of_the_products_of_a_batch() -> None:
    recipe = small_recipe(batch_size=8)
    # encoder 16 → 6 → (mean, scale) of 3; decoder 3 → 6 → 16
    products = 16 * 6 + 6 * 6 + 3 * 6 + 6 * 16
    assert flops_of_a_pass(trainer(recipe)) == 8 * 2 * products
    several = small_recipe("iwae", batch_size=8)
    k = int(several.options.get("samples", 50))  # type: ignore[call-overload]
    decoder = 3 * 6 + 6 * 16
    assert flops_of_a_pass(trainer(several)) == 8 * 2 * (16 * 6 + 6 * 6 + k * decoder)


def test_the_number_rises_with_the_operations_up_to_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = trainer(small_recipe())
    for flops, number in ((0.0, 1), (2.0 * FLOPS_PER_THREAD, 2), (1e15, 4)):
        monkeypatch.setattr("vaezoo.cli.threads.flops_of_a_pass", lambda _, flops=flops: flops)
        assert chosen_threads(chosen, 4)[0] == number


def test_counting_leaves_the_model_and_random_states_unchanged_and_skips_data_that_do_not_fit() -> None:
    chosen = trainer(small_recipe("vq-vae"))
    before, state = {key: each.clone() for key, each in chosen.model.state_dict().items()}, torch.get_rng_state()
    flops_of_a_pass(chosen)
    assert all(torch.equal(each, before[key]) for key, each in chosen.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    chosen.data = from_tensors(torch.rand(4, 7))
    assert chosen_threads(chosen, 4) == (4, "all; --threads N sets another number")
