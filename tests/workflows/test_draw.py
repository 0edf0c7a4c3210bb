"""Which test images a picture shows."""

import pytest
import torch

import vaezoo
from vaezoo.data import binarize, bundled_images, load_dataset
from vaezoo.errors import DataError
from vaezoo.workflows import draw
from vaezoo.workflows.draw import some_images


@pytest.fixture(scope="module")
def model():
    return vaezoo.create("cvae", shape=(1, 8, 8), latent=2, context=10)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", "test")


def places(x, data):
    """Returns the places of images in a data set, and checks that each has one."""
    found = [(data.batch(torch.arange(len(data))) == each).flatten(1).all(1).nonzero().flatten() for each in x]
    assert all(len(each) == 1 for each in found)
    return torch.cat(found)


def test_images_are_chosen_by_a_seed_with_their_labels(model, digits):
    x, c = some_images(model, "digits", 30)
    chosen = places(x, digits)
    assert len(set(chosen.tolist())) == 30 and chosen.tolist() != list(range(30))
    assert torch.equal(c, digits.labels[chosen])
    assert torch.equal(some_images(model, "digits", 12)[0], x[:12])  # more images add to fewer
    assert not torch.equal(some_images(model, "digits", 30, seed=1)[0], x)


def test_images_are_chosen_by_their_numbers(model, digits):
    x, c = some_images(model, "digits", 16, indices=[40, 3, 3])
    assert torch.equal(x, digits.batch(torch.tensor([40, 3, 3]))) and c.tolist() == digits.labels[[40, 3, 3]].tolist()
    for wrong in ({"indices": [-1]}, {"indices": []}, {"indices": [len(digits)]}, {"seed": -1}):
        with pytest.raises(DataError, match=r"expected|has 360 test images"):
            some_images(model, "digits", 16, **wrong)
    with pytest.raises(DataError, match="360 test images"):
        some_images(model, "digits", 361)


def test_few_images_of_mnist_are_those_in_the_package():
    model, package = vaezoo.create("vae", shape=(1, 28, 28), latent=2), bundled_images()
    x, _ = some_images(model, "mnist", 20, seed=5)
    assert len(set(places(x, package).tolist())) == 20
    assert torch.equal(some_images(model, "mnist", 1, indices=[63])[0], package.batch(torch.tensor([63])))


def test_pictures_of_a_model_show_the_chosen_images(tmp_path, monkeypatch):
    folder, shown = tmp_path / "mine", {}
    mine = vaezoo.create("vae", shape=(1, 8, 8), latent=2)
    mine.config = {**mine.config, "data": {"name": "digits", "binarize": "dynamic"}}
    vaezoo.save(mine, folder)
    for name in ("reconstructions", "traversal", "interpolation"):
        monkeypatch.setattr(draw.pictures, name, lambda model, x, *_, name=name, **__: shown.update({name: x}))
    name, test = f"{folder}/", binarize(load_dataset("digits", "test"), "dynamic")
    draw.reconstructions(name, 5, None, tmp_path, indices=[7, 9])
    draw.traversal(name, 8, None, None, tmp_path)
    assert torch.equal(shown["reconstructions"], test.batch(torch.tensor([7, 9])))
    assert torch.equal(shown["traversal"], test.batch(torch.tensor([8])))
    draw.reconstructions(name, 6, None, tmp_path, seed=2)
    draw.traversal(name, None, None, None, tmp_path, seed=2)
    draw.interpolation(name, 3, 4, None, tmp_path, seed=2)
    six = shown["reconstructions"]
    assert torch.equal(six, some_images(mine, None, 6, seed=2)[0]) and torch.equal(shown["traversal"], six[:1])
    assert torch.equal(shown["interpolation"], six.unflatten(0, (3, 2)))
