"""Reader of idx files, the format of MNIST: a magic number, the dimensions, then bytes."""

import math
import struct

import torch
from torch import Tensor

from vaezoo.errors import DataError


def read_idx(data: bytes | bytearray, name: str) -> Tensor:
    """Returns the `uint8` tensor in an uncompressed idx file of unsigned bytes.

    Args:
        data: Content of the file.
        name: Name of the file in errors.

    Raises:
        DataError: Magic number, dimensions and length are inconsistent.
    """
    buffer = bytearray(data)  # torch.frombuffer needs writable memory
    rank = buffer[3] if len(buffer) >= 4 else 0
    if buffer[:3] != b"\x00\x00\x08" or rank == 0 or len(buffer) < 4 + 4 * rank:
        raise DataError(
            f"{name}: got a file that starts with {bytes(buffer[:4]).hex() or 'nothing'}; expected an uncompressed idx "
            "file of unsigned bytes, which starts with 000008. Decompress it, or download it again."
        )
    shape = struct.unpack_from(f">{rank}I", buffer, 4)
    start, size = 4 + 4 * rank, math.prod(shape)
    if size == 0 or len(buffer) != start + size:
        raise DataError(
            f"{name}: got {len(buffer):,} bytes; expected {start + size:,} for its dimensions {shape}. "
            "The file is truncated or padded: download it again."
        )
    return torch.frombuffer(buffer, dtype=torch.uint8, offset=start).reshape(shape)
