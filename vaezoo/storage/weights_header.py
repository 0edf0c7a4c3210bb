"""Checks of a safetensors header against the model of a config, before memory is allocated."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vaezoo.errors import CorruptWeightsError, shorten
from vaezoo.storage.json_files import parse_json

DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}
LENGTH = 8  # bytes of the header's length
LARGEST_ENTRY = 320  # bytes beside the name: type, eight sizes and two offsets of twenty digits
STORED = (torch.float32, torch.float16, torch.bfloat16)  # types of a file whose weights are loaded as float32

Entry = tuple[tuple[int, ...], torch.dtype]


def longest_header(wanted: Mapping[str, Tensor]) -> int:
    """Returns the largest size of a header of these tensors, in bytes."""
    return 64 + sum(LARGEST_ENTRY + 6 * len(name) for name in wanted)  # a character: at most six bytes, as \\uXXXX


def check_header(
    data: bytes,
    wanted: Mapping[str, Tensor],
    name: str,
    *,
    last: bool = True,
    kind: torch.dtype | None = None,
    widened: bool = False,
) -> None:
    """Compares the header of a file with a model's tensors: names, shapes and types.

    All floating tensors have one type, which may differ from the model's; with `widened`, each is float32 or narrower.

    Args:
        data: the file.
        wanted: the tensors that the previous files did not hold.
        name: of the file.
        last: whether no file follows, so that no tensor may be missing.
        kind: the floating type of the previous files.
        widened: whether the config states that the weights are loaded as float32.

    Raises:
        CorruptWeightsError: tensors are missing, unexpected or different.
    """
    end = LENGTH + int.from_bytes(data[:LENGTH], "little")
    header = parse_json(data[LENGTH:end], f"{name}'s header", longest_header(wanted))
    if not isinstance(header, dict):
        raise CorruptWeightsError(f"{name} has no safetensors header. Fetch or save it again.")
    found = {key: entry(facts) for key, facts in header.items()}
    floating = {each[1] for each in found.values() if each is not None and each[1].is_floating_point}
    if kind is None:
        kind = floating.pop() if len(floating) == 1 and not widened else torch.get_default_dtype()
    expected = {
        key: (tuple(tensor.shape), expected_type(tensor, found.get(key), kind, widened))
        for key, tensor in wanted.items()
        if last or key in found
    }
    if found != expected:
        missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        differ = [
            f"{key}: got {shorten(found[key] or header[key])}, expected {expected[key]}"
            for key in sorted(expected.keys() & found.keys())
            if expected[key] != found[key]
        ]
        raise CorruptWeightsError(
            f"{name} does not fit the model that its config names. Missing: {missing[:5]}. Not expected: "
            f"{shorten(extra[:5], 500)}. Different: {'; '.join(differ[:3]) or 'none'}."
        )


def expected_type(tensor: Tensor, found: Entry | None, kind: torch.dtype, widened: bool) -> torch.dtype:
    """Returns the type that a file must have for a tensor of the model; see `check_header`."""
    if not tensor.is_floating_point():
        return tensor.dtype
    return found[1] if widened and found is not None and found[1] in STORED else kind


def entry(facts: object) -> Entry | None:
    """Returns shape and type of a tensor's entry in a header; None if the entry is malformed."""
    if not isinstance(facts, dict) or set(facts) != {"dtype", "shape", "data_offsets"}:
        return None
    shape, dtype = facts["shape"], DTYPES.get(str(facts["dtype"]))
    good = isinstance(shape, list) and all(type(each) is int for each in shape)
    return (tuple(shape), dtype) if good and dtype is not None else None
