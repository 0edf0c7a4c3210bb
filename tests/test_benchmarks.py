"""The loops of the benchmarks run and do the same work as vaezoo; their tables and judgments of samples are right."""

import math
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

import vaezoo
from vaezoo.core import VAE, seeded
from vaezoo.data import Dataset, TableLayout, binarize, binarize_fixed, bundled_images, load_dataset, table
from vaezoo.quantization import CodeSource
from vaezoo.trainer import build_model
from vaezoo.trainer.batches import BatchStream

FOLDER = str(Path(__file__).resolve().parent.parent / "benchmarks")
sys.path.insert(0, FOLDER)
try:
    import color_images
    import disentanglement
    import one_class
    import peers
    import quality
    import quantizers
    import speed
    import straight
    import tables
    from clock import Clock
    from samples import accuracy, classifier, drawn, figures, sureness, under_uniform_codes
    from tasks import OPTION_SETS, TASKS, loops, twin
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


def loss_of(model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    return model(x)


@pytest.mark.parametrize(
    "name", [name if name == "libraries" else pytest.param(name, marks=pytest.mark.full) for name in TASKS]
)
def test_every_row_of_a_task_runs(name: str, gray: Dataset):
    data = gray.subset(list(range(64)) * 3)
    rows = loops(name)
    assert {row for row, (where, _) in OPTION_SETS.items() if name in where.split()} < set(rows)
    for row, (loop, library) in rows.items():
        if not library or peers.installed(library):
            loop(clock := Clock(), binarize_fixed(data, 0) if name == "iwae" else data, 2)
            assert {0, 2} <= set(clock.at), row


@pytest.mark.parametrize("name", PLAIN)
def test_a_straight_model_has_the_loss_of_the_vaezoo_model_and_learns(name: str, gray: Dataset):
    data, plain = binarize_fixed(gray, 0) if name == "iwae" else gray, PLAIN[name]()
    model, x = twin(TASKS[name], plain, data), data.batch(torch.arange(32))
    if name == "vq":
        plain.codebook.copy_(model.encoder.codebook)
        indexed = straight.VQ(one_hot=False)
        indexed.load_state_dict(plain.state_dict())
    expected = loss_of(lambda x: model.objective(model, x, None, None).losses["model"].mean(), x)
    torch.testing.assert_close(loss_of(plain, x), expected, rtol=1e-5, atol=1e-3)
    if name == "vq":
        torch.testing.assert_close(loss_of(indexed, x), expected, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(plain.codebook, indexed.codebook)
    if name == "iwae":
        with torch.no_grad():  # similar log-weights, so that few samples are enough
            for one in (plain, model.eval()):
                for layer in (4, -2):  # the last ones of encoder and decoder
                    list(one.parameters())[layer].mul_(0.2)
        evidence = model.log_evidence(x[:6], samples=2000, seed=0)
        for bound in (straight.evidence_in_chunks, straight.evidence_one_by_one):
            torch.testing.assert_close(bound(plain, x[:6], 2000), evidence, rtol=0, atol=0.1)
    losses = straight.train(clock := Clock(), data, 12, PLAIN[name](), 32, True)
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
    torch.testing.assert_close(loss_of(plain, x), loss_of(introduction, x), rtol=1e-5, atol=1e-3)


def test_the_evidence_of_all_loops_is_the_integral_over_the_latent():
    x, slope, offset = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.3, 0.1, -0.7])
    estimate = quality.log_evidence(
        lambda x: (torch.full((len(x), 1), 0.4), torch.full((len(x), 1), -0.1)), lambda z: z * slope + offset, x, 50_000
    )
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    probabilities = torch.sigmoid(grid * slope + offset)
    joint = (x * probabilities + (1 - x) * (1 - probabilities)).prod(1) * torch.exp(-0.5 * grid[:, 0] ** 2)
    exact = torch.trapezoid(joint, grid[:, 0]) / math.sqrt(2 * math.pi)
    assert estimate.item() == pytest.approx(math.log(exact), abs=0.02)


def test_without_noise_all_loops_end_at_the_same_weights(gray: Dataset):
    data, recipe = binarize_fixed(gray, 0), quality.recipe_of(3, 5, 16)
    model = build_model(recipe, data)
    with torch.no_grad():  # posteriors so narrow that their noise changes nothing
        head = [each for each in model.encoder.modules() if isinstance(each, nn.Linear)][-1]
        head.weight[20:].zero_()
        head.bias[20:].fill_(-9.0)
    stream = BatchStream(data, 16, torch.device("cpu"), seed=3, context=0)
    order, images = [stream.indices(number) for number in range(5)], data.batch(torch.arange(64))
    loops = [quality.straight_run, *([quality.pythae_run] if peers.installed("pythae") else [])]
    others = [quality.plain_copy(model) for _ in loops]
    start = quality.plain_copy(model)
    for loop, plain in zip(loops, others, strict=True):
        loop(plain, images, order)
    quality.vaezoo_run(model, recipe, data)
    ours = quality.plain_copy(model)
    for plain in others:
        for found, expected, before in zip(plain.parameters(), ours.parameters(), start.parameters(), strict=True):
            # Adam turns the rounding of tiny gradients into whole steps, of a few weights.
            assert (found - expected).abs().mean() < 0.02 * (expected - before).abs().mean()
    with torch.no_grad():
        estimate, own = quality.evidences(ours, images, 500), model.eval().log_evidence(images, samples=500, seed=1)
        assert estimate.mean().item() == pytest.approx(own.mean().item(), rel=0.05)


def test_tables_show_missing_libraries_and_failures_and_are_written_in_place(tmp_path: Path, monkeypatch):
    def measured(name: str, row: str, options: Namespace) -> list[float]:
        if "chunks" in row:
            raise RuntimeError("no such thing")
        return [0.5, *[200.0 if row == "vaezoo" else 100.0] * 3]

    page = tmp_path / "page.md"
    page.write_text(f"before\n{speed.START}old\n{speed.END}\nafter\n")
    for name, value in {"PAGE": page, "measured": measured}.items():
        monkeypatch.setattr(speed, name, value)
    monkeypatch.setattr(peers, "installed", lambda library: False)
    monkeypatch.setattr(sys, "argv", ["x", "--write"])
    speed.main()
    text = page.read_text()
    assert text.startswith("before\n<!--") and text.endswith("-->\nafter\n") and "old" not in text
    assert "| vaezoo | 0.5 | 200 | 200 | 200 - 200 |" in text
    assert "| straight loop, fused Adam | 0.5 | 100 (2.00 ×) | 100 (2.00 ×) | 100 - 100 |" in text
    assert "| pythae | not installed |" in text and "| failed: no such thing |" in text


def test_a_disentanglement_run_is_recorded_and_the_table_averages(tmp_path: Path, monkeypatch, capsys):
    sprites = load_dataset("dsprites", "test").subset(range(200))
    model = vaezoo.create("vae", shape=(1, 64, 64), latent=3, backbone={"name": "mlp", "hidden": [4]})
    monkeypatch.setattr(disentanglement, "load_dataset", lambda *_: sprites)
    monkeypatch.setattr(disentanglement.vaezoo, "train", lambda *_, **__: SimpleNamespace(model=model))
    line = disentanglement.run("vae", 5, 10, "mlp", 5e-4, 150)
    assert line["examples"] == 150
    lines = [line | dict.fromkeys(disentanglement.FIGURES, float(seed)) for seed in range(3)]
    monkeypatch.setattr(disentanglement, "run", lambda variant, seed, *_: lines[seed])
    results = tmp_path / "results.jsonl"
    command = ["x", "--variants", "vae", "none-such", "--steps", "10", "--backbone", "mlp", "--results", str(results)]
    for seeds, count in (("2", 2), ("3", 3), ("3", 3)):  # finished runs are not repeated
        monkeypatch.setattr(sys, "argv", [*command, "--seeds", seeds])
        disentanglement.main()
        assert len(results.read_text().splitlines()) == count
    assert "| `vae` | 3 | 1.000 ± 1.000 | 1.000 ± 1.000 | 1.000 ± 1.000 | 0.10 |" in capsys.readouterr().out


def test_all_quantizers_have_codes_of_nine_bits_and_one_is_measured(monkeypatch) -> None:
    for row in quantizers.ROWS:
        recipe = quantizers.recipe_of(row, 0, 1, 1, "mnist")
        model = vaezoo.create(str(recipe["variant"]), shape=(1, 32, 32), **recipe["architecture"], **recipe["options"])
        encoder = cast(CodeSource, model.encoder)
        assert sum(encoder.sections) * math.log2(encoder.codes) == pytest.approx(64 * 9), row
    images = Dataset(name="x", split="test", images=torch.randint(256, (40, 1, 32, 32), dtype=torch.uint8))
    monkeypatch.setattr(quantizers, "load_dataset", lambda *_, **__: images)
    monkeypatch.setattr(quantizers.vaezoo, "train", lambda *_, **__: SimpleNamespace(model=model.eval()))
    found = quantizers.run("bsq-vae", 0, 1, 1, "mnist")
    assert found.keys() == quantizers.FIGURES.keys()
    assert found["prior_rate"] == pytest.approx(576.0) and float(str(found["codes_per_second"])) > 0.0


def test_a_model_of_one_class_is_scored_on_the_images_of_all(monkeypatch) -> None:
    digits = {split: binarize(load_dataset("digits", split), "dynamic") for split in ("train", "test")}
    trained = []

    def train(recipe, *, data, **_: object) -> SimpleNamespace:
        trained.append(data)
        return SimpleNamespace(model=vaezoo.create(recipe["variant"], shape=data.shape, latent=2).eval())

    monkeypatch.setattr(one_class, "load_dataset", lambda _, split="train": digits[split])
    monkeypatch.setattr(one_class.vaezoo, "train", train)
    found = one_class.run("digits vae-binary", 3, 1)
    assert (trained[0].labels == 3).all() and len(trained[0]) == (digits["train"].labels == 3).sum()
    others = one_class.of_class(digits["test"], 3, among=False)
    assert len(others) == (digits["test"].labels != 3).sum() and 3 not in others.labels
    assert list(found) == list(one_class.FIGURES) and all(0.0 < float(str(each)) < 100.0 for each in found.values())


def test_a_row_of_color_images_has_all_figures(monkeypatch) -> None:
    images = bundled_images("emoji")
    parts = {"backbone": {"name": "resnet", "channels": [4], "patch": 4}, "likelihood": "logistic-mixture"}
    model = vaezoo.create("conv-vae", shape=(3, 64, 64), latent=[1, 16, 16], **parts)
    monkeypatch.setattr(color_images.vaezoo, "load", lambda name: model)
    cells = [each.strip() for each in color_images.row("one", images, 27).strip("|").split("|")]
    report = vaezoo.evaluate(model, images, samples=0)
    assert report.bits_per_dimension is not None and report.psnr is not None
    assert cells[:3] == ["one", f"{report.bits_per_dimension.mean:.3f}", f"{report.psnr:.3f}"]
    assert all(float(each) > 0.0 for each in cells[1:]) and len(cells) == 8
    assert (
        0.0 < color_images.bits_in_files(images.images, "WebP") < color_images.bits_in_files(images.images, "PNG") < 8.0
    )


@pytest.fixture(scope="module")
def customers() -> tuple[Dataset, TableLayout]:
    """200 rows of the drawn table, with gaps, and its layout."""
    source = tables.customers(200)
    kinds = source.kinds()
    assert set(kinds.values()) == {"number", "positive", "integer", "count", "category", "flag", "date"}
    data = table(source.rows(np.arange(200), np.random.default_rng(0).random((200, 9)) < 0.2), kinds=kinds)
    assert data.layout is not None
    return data, data.layout


@pytest.mark.parametrize("variant", ["vae", "iwae"])
@torch.no_grad()
def test_the_parts_of_a_bound_on_a_table_sum_to_the_bound_that_the_model_reports(
    variant: str, customers: tuple[Dataset, TableLayout]
) -> None:
    data, layout = customers
    model: VAE = vaezoo.create(variant, shape=data.shape, latent=2,
                               **({} if variant == "vae" else {"samples": 7}),
                               likelihood={"name": "mixed", "columns": layout.families()}).eval()  # fmt: skip
    x = data.batch(slice(None))
    parts = dict(tables.parts_of(model, x, layout, draws=2))
    bounds, rates = [], []
    for seed in range(2):
        with seeded(seed):
            report = model(x)
        with seeded(seed):
            inference = model.infer(x, None, 1 if variant == "vae" else 7)
        shares = inference.log_weights().softmax(0)
        weighted = shares * (inference.log_q - inference.prior.log_prob(inference.z)) + torch.xlogy(shares, 7 * shares)
        bounds.append(report.bound.mean())
        rates.append(report.rate.mean() if variant == "vae" else weighted.sum(0).mean())
    distortions = [value for key, value in parts.items() if key.startswith("distortion of ")]
    assert len(distortions) == 7
    assert parts["bound"] == pytest.approx(float(sum(bounds)) / 2, rel=1e-5)
    assert parts["rate"] == pytest.approx(float(sum(rates)) / 2, rel=1e-3, abs=1e-4)
    assert -sum(distortions) - parts["rate"] == pytest.approx(parts["bound"])


def test_errors_of_imputed_values_are_those_of_removed_entries(customers: tuple[Dataset, TableLayout]) -> None:
    data, layout = customers
    given, scale = data.images, torch.rand(data.shape, dtype=torch.float64) + 0.5
    scale[tables.mask_of(layout, "flag", "category")] = 1.0
    again = tables.of_imputers(tables.for_imputers(given, layout, scale), layout, scale)
    torch.testing.assert_close(again, given, equal_nan=True)
    truth = torch.where(given.isnan(), 0.0, given)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    errors = tables.Errors(layout, truth, given, scale, found)
    errors.add("right", truth)
    errors.add("wrong", torch.where(given.isnan(), truth + 2.0 * scale, truth + 9.0))
    for (method, figure), (value,) in found.items():
        error, accuracy = {"right": (0.0, 1.0), "wrong": (2.0, 0.0)}[method]
        assert value == pytest.approx(error if "RMSE" in figure else accuracy)


def test_all_figures_of_a_table_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"--data": "customers", "--variants": "iwae", "--seeds": 2, "--steps": 2, "--rows": 150, "--samples": 3}
    monkeypatch.setattr(sys, "argv", ["x", *(str(each) for pair in options.items() for each in pair)])
    tables.main()
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    figures = {(line[1].strip(), line[2].strip()): float(line[3]) for line in lines}
    for method in ("iwae", "mean", "k-NN (5)", "iterated regressions"):
        assert {"RMSE", "RMSE of date columns", "accuracy of flag columns"} < {b for a, b in figures if a == method}
    assert all(math.isfinite(each) for each in figures.values()) and ("isolation forest", "AUROC") in figures


@pytest.mark.full
def test_the_classifier_is_confident_on_digits() -> None:
    training, test = load_dataset("digits", "train"), load_dataset("digits", "test")
    network = classifier(training, 12, batch=50)
    assert accuracy(network, test) > 0.9
    digits, noise = sureness(network, test.batch(torch.arange(100))), sureness(network, torch.full((100, 1, 8, 8), 0.5))
    assert digits > 0.7 and noise in (0.0, 1.0)


def test_uniform_codes_replace_learned_ones_and_have_a_higher_rate() -> None:
    options = {"shape": (1, 8, 8), "codes": 4}
    model = vaezoo.create("vq-vae+code-prior", prior_width=8, prior_depth=1, prior_heads=2, **options).eval()
    uniform = under_uniform_codes(model)
    assert uniform is not None and drawn(uniform, 3, 0).shape == (3, 1, 8, 8)
    assert uniform.encoder.codebook is model.encoder.codebook
    assert under_uniform_codes(vaezoo.create("vq-vae", **options)) is None
    assert under_uniform_codes(vaezoo.create("vae", shape=(1, 8, 8))) is None
    model = vaezoo.load("code-prior-mnist")
    with torch.no_grad():
        rate = model(bundled_images().batch(torch.arange(64))).rate
    assert rate.mean() <= 0.7 * 49 * math.log(512)  # that of uniform codes


@pytest.mark.deep
def test_a_classifier_is_confident_on_half_of_the_samples() -> None:
    found = figures("code-prior-mnist", 1000, 3, 0)
    assert found["accuracy"] >= 0.97 and found["samples"] >= 0.5
    assert found["uniform codes"] < found["samples"] < found["test images"]
