"""The loops of the benchmarks do the same work as vaezoo: equal sizes, equal loss, and they learn."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import vaezoo
from vaezoo.core import ELBO
from vaezoo.data import Dataset, binarize_fixed, bundled_images, load_dataset
from vaezoo.quantization import CodebookEncoder

FOLDER = str(Path(__file__).resolve().parent.parent / "benchmarks")
sys.path.insert(0, FOLDER)
try:
    import disentanglement
    import speed
    import straight
    from clock import Clock
    from tasks import OPTION_SETS, TASKS, loops, ours, twin
finally:
    sys.path.remove(FOLDER)

PLAIN: dict[str, Callable[[], nn.Module]] = {
    "mlp": straight.mlp,
    "conv": straight.conv,
    "vq": lambda: straight.VQ(one_hot=True),
    "iwae": straight.iwae,
}


@pytest.fixture
def gray() -> Iterator[Dataset]:
    threads = torch.get_num_threads()
    yield bundled_images()
    torch.set_num_threads(threads)


def data_of(name: str, gray: Dataset) -> Dataset:
    return binarize_fixed(gray, 0) if name == "iwae" else gray


@pytest.mark.parametrize("name", PLAIN)
def test_a_straight_model_has_the_loss_of_the_vaezoo_model_and_learns(name: str, gray: Dataset):
    data, plain = data_of(name, gray), PLAIN[name]()
    model = twin(TASKS[name], plain, data)
    x = data.batch(torch.arange(32))
    if isinstance(model.encoder, CodebookEncoder):
        plain.codebook.copy_(model.encoder.codebook)
    torch.manual_seed(0)
    elbo = model.objective(model, x, None, None)
    assert isinstance(elbo, ELBO)
    torch.manual_seed(0)
    torch.testing.assert_close(plain(x), elbo.losses["model"].mean(), rtol=1e-5, atol=1e-3)
    clock = Clock()
    losses = straight.train(clock, data, 12, PLAIN[name](), 32, True)
    clock.finish()
    assert clock.done == len(losses) == 12 and losses[-1] < 0.9 * losses[0]
    assert all(figure > 0 for figure in clock.figures(((0, 4), (4, 12)), 12, 32))


def test_the_model_of_introductions_has_the_same_loss(gray: Dataset):
    introduction, plain, x = straight.Introduction(), straight.mlp(), gray.batch(torch.arange(32))
    first, _, head = plain.encoder[1:]
    with torch.no_grad():
        for key in ("weight", "bias"):
            getattr(first, key).copy_(getattr(introduction.hidden, key))
            heads = [getattr(introduction.mean, key), 0.5 * getattr(introduction.log_variance, key)]
            getattr(head, key).copy_(torch.cat(heads))
        for number in (0, 2):
            plain.decoder[number].load_state_dict(introduction.decoder[number].state_dict())
    torch.manual_seed(0)
    loss = introduction(x)
    torch.manual_seed(0)
    torch.testing.assert_close(plain(x), loss, rtol=1e-5, atol=1e-3)


def test_one_hot_and_indexed_codebooks_are_equal_and_the_loop_over_single_images_runs(gray: Dataset):
    one_hot, indexed = straight.VQ(one_hot=True), straight.VQ(one_hot=False)
    indexed.load_state_dict(one_hot.state_dict())
    x = gray.batch(torch.arange(32))
    torch.testing.assert_close(one_hot(x), indexed(x))
    torch.testing.assert_close(one_hot.codebook, indexed.codebook)
    clock = Clock()
    straight.data_loader(clock, gray.subset(list(range(64)) * 3), 2)
    assert clock.done == 2


def test_all_implementations_of_the_evidence_agree(gray: Dataset):
    data, plain = data_of("iwae", gray), straight.iwae()
    model = twin(TASKS["iwae"], plain, data).eval()
    with torch.no_grad():  # similar log-weights, so that few samples are enough
        for one in (plain, model):
            list(one.parameters())[-2].mul_(0.2)
    x = data.batch(torch.arange(6))
    mine = model.log_evidence(x, samples=2000, seed=0)
    for bound in (straight.evidence_in_chunks, straight.evidence_one_by_one):
        torch.testing.assert_close(bound(plain, x, 2000), mine, rtol=0, atol=0.1)


def test_recipes_accept_every_set_of_options(gray: Dataset):
    for row, (where, keys) in OPTION_SETS.items():
        for name in where.split():
            assert row in loops(name)
            TASKS[name].read(keys, 10)
        clock = Clock()
        ours(TASKS["mlp"], keys, clock, gray, 2)
        assert set(clock.at) == {0, 2}


def test_a_table_shows_missing_libraries_and_failures():
    def broken() -> list[float]:
        raise RuntimeError("no such thing")

    rows = {"vaezoo": lambda: [0.5, 200.0], "slow": lambda: [0.1, 100.0], "x": "not installed", "y": broken}
    text = speed.table("Title", ["before the first step, s", "the whole run"], speed.rounds_of(rows, 3))
    assert "| vaezoo | 0.5 | 200 | 200 - 200 |" in text and "| slow | 0.1 | 100 (2.00 ×) | 100 - 100 |" in text
    assert "| x | not installed |" in text and "| y | failed: no such thing |" in text


def test_the_disentanglement_table_averages_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def run(variant: str, seed: int, *_: object) -> dict[str, object]:
        setting = {"steps": 7, "backbone": "mlp", "learning_rate": 5e-4, "schedule": "cosine"}
        return {**dict.fromkeys(disentanglement.FIGURES, float(seed)), **setting, "variant": variant, "seed": seed}

    monkeypatch.setattr(disentanglement, "run", run)
    results = tmp_path / "results.jsonl"
    command = ["x", "--variants", "vae", "none-such", "--steps", "7", "--backbone", "mlp", "--results", str(results)]
    for seeds, lines in (("2", 2), ("3", 3), ("3", 3)):  # finished runs are not repeated
        monkeypatch.setattr(sys, "argv", [*command, "--seeds", seeds])
        disentanglement.main()
        assert len(results.read_text().splitlines()) == lines
    lines = [run("vae", seed) for seed in range(3)]
    assert "| vae | 3 | 1.000 ± 1.000 |" in disentanglement.table(lines)


def test_a_disentanglement_run_records_its_seed(monkeypatch: pytest.MonkeyPatch):
    sprites = load_dataset("dsprites", "test").subset(range(200))
    monkeypatch.setattr(disentanglement, "load_dataset", lambda *_: sprites)
    model = vaezoo.create("vae", shape=(1, 64, 64), latent=3, backbone={"name": "mlp", "hidden": [4]})
    monkeypatch.setattr(disentanglement.vaezoo, "train", lambda *_, **__: SimpleNamespace(model=model))
    line = disentanglement.run("vae", 5, 10, "mlp", 1e-3, 150)
    assert (line["seed"], line["variant"], line["examples"]) == (5, "vae", 150)
    assert set(disentanglement.FIGURES) <= set(line)
