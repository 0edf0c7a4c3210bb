"""Data-parallel training: N processes learn the same as one process with N times the accumulation.

Process m mod N takes micro-batch m of a step, with the images and the noise that it has in a single process. Gradients
are averaged by torch's engines (`vaezoo.trainer.parallel`); statistics that are learned without gradients are gathered
in the order of the micro-batches.
"""

import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor

from vaezoo.core import choose_device
from vaezoo.errors import ConfigError


class Processes:
    """This process among those of the run; the only one unless `torch.distributed` is initialized.

    Attributes:
        rank, size: number of this process, and number of processes.
        stop, save: requests to stop, or to write a checkpoint, after the next step; after it they are True in all
            processes if any process had set them.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.stop = self.save = False

    @classmethod
    def current(cls) -> Self:
        """Returns this process in the default group, or as the only one without a group."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors of one dtype and device by their means over the processes, in one exchange."""
        if self.size > 1 and tensors:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            dist.all_reduce(flat)
            flat /= self.size
            parts = flat.split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def share(self, failures: Sequence[bool], device: torch.device) -> list[bool]:
        """Returns for each kind of failure whether any process has it, and shares `stop` and `save`."""
        if self.size == 1:
            return list(failures)
        flags = torch.tensor([*failures, self.stop, self.save], dtype=torch.float32, device=device)
        dist.all_reduce(flags)
        *found, self.stop, self.save = (flags > 0).tolist()
        return found

    def gather(self, seen: Sequence[Mapping[str, Tensor]]) -> list[Mapping[str, Tensor]]:
        """Returns the statistics of all processes in a step, in the order of the micro-batches."""
        if self.size == 1:
            return list(seen)
        result: list[Mapping[str, Tensor]] = []
        for own in seen:
            parts = {key: [torch.empty_like(value) for _ in range(self.size)] for key, value in own.items()}
            for key, value in own.items():
                dist.all_gather(parts[key], value.contiguous())
            result += [{key: parts[key][rank] for key in own} for rank in range(self.size)]
        return result

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites tensors with those of the first process."""
        if self.size > 1:
            for tensor in tensors:
                whole = tensor.detach().contiguous()
                dist.broadcast(whole, 0)
                if whole.data_ptr() != tensor.data_ptr():
                    tensor.detach().copy_(whole)

    def broadcast_text(self, text: str, device: torch.device) -> str:
        """Returns the text of the first process; torch's `broadcast_object_list` would unpickle it."""
        if self.size == 1:
            return text
        length = torch.tensor([len(os.fsencode(text))], device=device)
        dist.broadcast(length, 0)
        data = torch.zeros(int(length), dtype=torch.uint8, device=device)
        if self.first:
            data.copy_(torch.frombuffer(bytearray(os.fsencode(text)), dtype=torch.uint8))
        dist.broadcast(data, 0)
        return os.fsdecode(bytes(data.cpu().tolist()))

    def wait(self) -> None:
        """Waits until all processes have called it."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Initializes the process group of `torchrun`, if any, for the block; yields the device of this process.

    With `device = "auto"` each process takes the GPU of its local rank if there are GPUs. The backend is NCCL for GPUs
    and gloo otherwise. A group that exists already is used as it is.

    Raises:
        ConfigError: the processes cannot connect to each other.
    """
    ours = "TORCHELASTIC_RUN_ID" in os.environ and dist.is_available() and not dist.is_initialized()
    if device == "auto" and (ours or dist.is_initialized()) and torch.cuda.is_available():
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if not ours:
        yield chosen
        return
    # The default arguments of this module are the group that exists at its import, and torch.optim imports it. Imported
    # after the group it would keep it, with gloo's threads, past `destroy_process_group`; one of these threads may free
    # a tensor while the interpreter exits, which aborts the process.
    import_module("torch.distributed.nn.functional")
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"torchrun's processes could not connect: {error}. Check MASTER_ADDR and MASTER_PORT, or the "
            "rendezvous endpoint."
        ) from None
    try:
        yield chosen
    finally:
        dist.destroy_process_group()
        gc.collect()  # sharded modules form cycles that keep the group
