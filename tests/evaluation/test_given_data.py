"""Every public function that takes data takes every form of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

import vaezoo
from vaezoo import evaluation, pictures
from vaezoo.core import VAE
from vaezoo.data import Factors, from_tensors, load_dataset
from vaezoo.errors import VaezooError
from vaezoo.evaluation.test_sets import examples_of
from vaezoo.evaluation.test_sets import test_set as set_for
from vaezoo.pictures.sheet import Panel
from vaezoo.workflows.compare import Failure, compare

X = (torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
Y = torch.arange(12) % 3
WHOLE = from_tensors((X, Y), split="test", factors=Factors.of(torch.stack([Y, Y % 2], 1), ["y", "odd"]))


class Items(IterableDataset[object]):
    def __iter__(self):  # type: ignore[no-untyped-def]  # as in user code
        return iter(zip(X, Y, strict=True))


FORMS = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "list": [(image.fromarray(x[0].numpy()), int(y)) for x, y in zip(X, Y, strict=True)],
    "torch": TensorDataset(X, Y),
    "Subset": Subset(WHOLE, range(12)),
    "iterable": Items(),
    "DataLoader": DataLoader(TensorDataset(X, Y), batch_size=5),
}
CALLS: dict[str, Callable[[VAE, object], object]] = {
    "evaluate": lambda model, data: evaluation.evaluate(model, data, samples=2).as_dict(),
    "active_units": evaluation.active_units,
    "cluster": lambda model, data: evaluation.cluster(model, data).tolist(),
    "label_error": evaluation.label_error,
    "evidence": lambda model, data: evaluation.evidence(model, data, 2).tolist(),
    "representation": lambda model, data: evaluation.representation(model, data).tolist(),
    "embed": lambda model, data: [each if each is None else each.tolist() for each in evaluation.embed(model, data)],  # type: ignore[union-attr]
    "frechet_distance": lambda model, data: evaluation.frechet_distance(model, data),
    "frechet_distance of images": lambda model, data: evaluation.frechet_distance(data, X.float() / 255),
    "fit_sampler": lambda model, data: vaezoo.fit_sampler(model, data, "normal").sample(2, seed=0).tolist(),
}


SMALL: dict[str, object] = {"name": "mlp", "hidden": [5]}


@pytest.fixture(scope="module")
def model() -> VAE:
    return vaezoo.create(
        "vade", shape=(1, 4, 4), latent=2, likelihood="gaussian", backbone={"name": "mlp", "hidden": [5]}
    )


@pytest.mark.parametrize("name", CALLS)
def test_values_do_not_depend_on_the_form(name: str, model: VAE) -> None:
    wanted = CALLS[name](model, WHOLE)
    for form, data in FORMS.items():
        assert CALLS[name](model, data) == wanted, form


def test_functions_take_names(model: VAE) -> None:
    digits = vaezoo.create("vae", shape=(1, 8, 8), latent=2)
    assert evaluation.representation(digits, "digits").shape == (len(load_dataset("digits", "test")), 2)
    assert evaluation.active_units(digits, "digits") == evaluation.active_units(digits, set_for(digits, "digits"))
    assert evaluation.disentanglement(lambda x: x.flatten(1), WHOLE).examples == 12


def test_embeddings_have_the_names_of_files(model: VAE, tmp_path: Path) -> None:
    for i in range(12):
        place = tmp_path / f"{'ab'[i % 2]}/{i:02d}.png"
        place.parent.mkdir(exist_ok=True)
        image.fromarray(X[i, 0].numpy()).save(place)
    found = evaluation.embed(model, f"folder:{tmp_path}")
    assert found.names is not None and found.labels is not None and len(found.names) == len(found.values) >= 2
    for name, label, row in zip(found.names, found.labels, found.values, strict=True):
        x = X[int(Path(name).stem)].float().unsqueeze(0) / 255
        assert torch.allclose(evaluation.representation(model, x)[0], row) and name[0] == "ab"[int(label)]


def test_pictures_of_every_form(model: VAE, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiles(panels: list[Panel], *_: object, **__: object) -> torch.Tensor:
        return torch.cat([panel.tiles.flatten() for panel in panels])

    for module in (pictures.images, pictures.latents):
        monkeypatch.setattr(module, "save_sheet", tiles)
    x = WHOLE.batch(slice(None))
    pairs = x.unflatten(0, (6, 2))
    cases: list[tuple[Callable[[object], object], torch.Tensor]] = [
        (lambda data: pictures.grid(data, "x.png"), x),
        (lambda data: pictures.reconstructions(model, data, "x.png"), x),
        (lambda data: pictures.comparison({"one": data}, "x.png"), x),  # type: ignore[dict-item]
        (lambda data: pictures.interpolation(model, data, "x.png", steps=2), pairs),
    ]
    for draw, tensor in cases:
        wanted = draw(tensor)
        for form in ("arrays", "list", "torch", "Subset", "DataLoader"):
            assert torch.equal(draw(FORMS[form]), wanted)  # type: ignore[arg-type]
    one, other = (pictures.traversal(model, data, "x.png", [0], steps=2) for data in (x[:1], X[:1].numpy()))
    assert torch.equal(one, other)  # type: ignore[arg-type]
    many = from_tensors(torch.rand(40, 1, 4, 4))
    assert len(examples_of(model, many)[0]) == 16  # of a large set


def test_comparisons_hold_out_a_tenth_of_own_data(tmp_path: Path) -> None:
    (row,) = compare(["vae"], data=(X.numpy(), Y), steps=2, samples=2, device="cpu", out=tmp_path)
    assert not isinstance(row, Failure) and row.report.examples == 1 and row.report.split == "test"
    again = list(compare(["vae"], data=from_tensors((X, Y)), steps=2, samples=2, device="cpu", out=tmp_path))
    assert len(list(tmp_path.iterdir())) == 1 and again[0].report.bound == row.report.bound  # type: ignore[union-attr]
    list(compare(["vae"], data=255 - X, steps=2, samples=2, device="cpu", out=tmp_path))
    assert len(list(tmp_path.iterdir())) == 2  # other data are another run


NUMBERS: dict[str, Callable[[VAE, object], object]] = {
    "samples": lambda model, number: evaluation.evaluate(model, WHOLE, samples=number).samples,  # type: ignore[arg-type]
    "limit": lambda model, number: evaluation.evaluate(model, WHOLE, 0, limit=number).examples,  # type: ignore[arg-type]
    "seed": lambda model, number: evaluation.evaluate(model, WHOLE, 0, seed=number).seed,  # type: ignore[arg-type]
    "rows": lambda model, number: evaluation.evaluate(model, WHOLE, 2, batch_size=number).bound.mean,  # type: ignore[arg-type]
    "evidence": lambda model, number: evaluation.evidence(model, WHOLE, 2, seed=number, batch_size=number).sum(),  # type: ignore[arg-type]
    "frechet": lambda model, number: evaluation.frechet_distance(model, WHOLE, n=number),  # type: ignore[arg-type]
    "units": lambda model, number: evaluation.active_units(model, WHOLE, seed=number),  # type: ignore[arg-type]
    "scores": lambda model, number: evaluation.disentanglement(model, WHOLE, examples=number, seed=number).seed,  # type: ignore[arg-type]
    "sampler": lambda model, number: vaezoo.fit_sampler(model, WHOLE, "normal", examples=number).fitted_on["examples"],  # type: ignore[arg-type]
    "held out": lambda model, number: len(WHOLE.split_off(number, number)[1]),  # type: ignore[arg-type]
    "labels": lambda model, number: int((WHOLE.hide_labels(number, 0).labels >= 0).sum()),  # type: ignore[arg-type, operator]
}


@pytest.mark.parametrize("call", NUMBERS.values(), ids=NUMBERS)
def test_whole_numbers_of_every_type_are_taken_and_others_refused(call: Callable[[VAE, object], object]) -> None:
    model = vaezoo.create("vae", shape=(1, 4, 4), latent=2, likelihood="gaussian").eval()
    wanted = call(model, 5)
    for number in (np.int64(5), 5.0, torch.tensor(5), np.float32(5)):
        found = call(model, number)
        assert found == wanted and type(found) is type(wanted)
    for wrong in ("5", 2.5, True, float("nan"), [5]):
        with pytest.raises(VaezooError, match="expected a whole number"):
            call(model, wrong)


@pytest.mark.parametrize("convert", [lambda x: x / 255, lambda x: (x / 255).numpy(), lambda x: (x / 255).double()])
def test_gray_values_of_every_type_are_binarized_as_in_training(convert: Callable[[Tensor], object]) -> None:
    tables = {"variant": "vae", "data": {"name": "gray", "binarize": "dynamic"}, "train": {"steps": 1}}
    model = vaezoo.train(tables, data=X, out=None).model
    wanted, found = (evaluation.evaluate(model, data, samples=2) for data in (X, convert(X)))
    assert found.binarization == "static" and found.bound.mean == wanted.bound.mean is not None
    assert evaluation.evaluate(model, convert(X), samples=2, binarize="none").bound.mean is None
    assert torch.equal(evaluation.representation(model, convert(X)), evaluation.representation(model, X))
    with pytest.raises(VaezooError, match="Did you mean 'static'"):
        evaluation.evaluate(model, convert(X), samples=2, binarize="statik")


def test_comparisons_validate_their_numbers_before_training_and_take_one_name() -> None:
    for wrong in ({"limit": "3"}, {"limit": 0}, {"samples": -1}, {"seeds": 1.5}):
        with pytest.raises(VaezooError, match="expected a whole number"):
            compare(["vae"], data=WHOLE, steps=10**9, **wrong)  # type: ignore[arg-type]  # that is the point
    assert [row.name for row in compare("vae", data=X, steps=1, samples=0)] == ["vae"]
    values = np.array([1.0, 2.0, 4.0])
    assert evaluation.paired_difference(values, values - 1).mean == 1.0  # type: ignore[arg-type]  # arrays too


@pytest.mark.parametrize("name", [
    "evaluate", "evidence", "active_units", "latent_report", "representation", "embed", "cluster", "label_error",
    "disentanglement",
])  # fmt: skip
def test_a_name_in_place_of_a_model_is_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(VaezooError, match=r"Got 'vae-mnist' as model; expected .*vaezoo\.load\("):
        getattr(evaluation, name)("vae-mnist", "digits")


def test_what_else_is_given_in_place_of_a_model_has_its_own_remedy() -> None:
    with pytest.raises(VaezooError, match=r"vaezoo\.load\(NAME\)"):
        evaluation.frechet_distance("vae-mnist", "digits", features=lambda x: x.flatten(1))

    class Finished:
        model = vaezoo.create("vae", shape=(1, 8, 8), latent=2)

    with pytest.raises(VaezooError, match=r"Pass its attribute \.model"):
        evaluation.evaluate(Finished(), "digits")  # type: ignore[arg-type]
