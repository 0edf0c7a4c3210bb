"""Types and layouts of examples that look wrong: what an error advises keeps the values."""

import re
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from vaezoo.data import as_dataset, from_tensors
from vaezoo.errors import ShapeError

X = torch.tensor([0, 255, 7, 9]).view(2, 1, 2)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        (X.to(torch.int64), r"from 0 to (255|7|9); .*\.to\(torch\.uint8\), or counts"),
        (X.to(torch.int16) * 100, r"torch\.int16 from 0 to 25500; .*\.float\(\) / 65535, .*uint8\) would change them"),
        ((X * 200).to(torch.uint16), r"torch\.uint16 from 0 to 51000; .*\.float\(\) / 65535"),
        (X * 10**6, r"from 0 to 255000000; .*\.float\(\) / 255000000, or the numbers of a table with \.float\(\)"),
        (-X, r"from -255 to 0; .*uint8\) would change them"),
        (X.to(torch.complex64), r"torch\.complex64; .*torch\.view_as_real\(x\)\.movedim\(-1, 1\)"),
    ],
)
def test_other_types_are_refused_with_advice_that_keeps_the_values(x: Tensor, wanted: str, streamed: bool) -> None:
    class Items(torch.utils.data.Dataset[Tensor]):
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, index: int) -> Tensor:
            return x[index]

    with pytest.raises(ShapeError, match=wanted):
        from_tensors(Items() if streamed else x, limit=0)
    if not streamed and not x.is_complex():
        with pytest.raises(ShapeError, match=wanted):
            from_tensors(x.numpy())


def test_the_advice_works() -> None:
    pixels = np.array([[[0, 65535]], [[257, 300]]], np.uint16)
    assert torch.equal(
        from_tensors(torch.from_numpy(pixels).float() / 65535).images[1, 0, 0] * 65535, torch.tensor(257.0)
    )
    assert from_tensors(X.to(torch.uint8)).images.tolist() == X.tolist()
    assert from_tensors(torch.view_as_real(X.to(torch.complex64)).movedim(-1, 1)).shape == (2, 1, 2)
    last = torch.rand(3, 8, 9, 3)
    assert from_tensors(last.permute(0, 3, 1, 2)).shape == (3, 8, 9)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_tuple_of_other_than_two_parts_is_described(parts: int) -> None:
    for convert in (from_tensors, as_dataset):
        with pytest.raises(ShapeError, match=rf"got a tuple of {parts}; expected .* a tuple \(x, c\) of two"):
            convert((X.float(),) * parts)


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((8, 9, 3), True), ((28, 28, 1), True), ((5, 5, 4), True), ((3, 8, 9), False), ((1, 28, 28), False),
        ((3, 8, 3), False), ((4, 4, 4), False), ((8, 8, 5), False), ((8, 3), False), ((9, 9, 9, 3), False),
    ],
)  # fmt: skip
def test_images_that_seem_to_have_channels_last_are_noted(shape: tuple[int, ...], last: bool) -> None:
    x = torch.rand(3, *shape)
    text = rf"got examples of shape {re.escape(str(shape))}, .* pass x\.permute\(0, 3, 1, 2\)"
    for data in (x, x.numpy(), list(x), (x, torch.arange(3)), torch.utils.data.TensorDataset(x)):
        for limit in (None, 0) if isinstance(data, torch.utils.data.Dataset) else (None,):
            if last:
                with pytest.warns(UserWarning, match=text):
                    from_tensors(data, limit=limit)
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    from_tensors(data, limit=limit)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (1, 4, 4), (2, 4, 4), (3, 4, 4)])
def test_nested_lists_of_numbers_are_examples(shape: tuple[int, ...]) -> None:
    x = torch.rand(5, *shape, dtype=torch.float64)
    found = from_tensors(x.tolist())
    assert torch.equal(found.images, x) and found.context is None and found.labels is None
    for pair in ((x[0].tolist(), 1), [x[0].tolist(), 1], [x[0], torch.tensor(1)]):
        labelled = from_tensors([pair] * 3)
        assert (
            torch.equal(labelled.images[2], x[0])
            and labelled.labels is not None
            and labelled.labels.tolist() == [1] * 3
        )
