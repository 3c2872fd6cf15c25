"""Several processes that train one model: who this one is, and the few messages that pass between them.

Started by `torchrun`, or by `srun` with MASTER_ADDR and MASTER_PORT set, every process runs the same command. Rank 0
plans, locks, writes and publishes as one process alone does; the others only train. Gradients pass through PyTorch's
DistributedDataParallel (nccl on GPUs, gloo on CPUs); a few numbers a step (how many labels are known, whether a signal
has come) pass between the CPUs, so that no accelerator has to wait for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionctl.errors import FusionctlError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

# Names of rank, number of processes and rank on the node: as torchrun sets them, and as srun does.
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
_MEETING_POINT = ("MASTER_ADDR", "MASTER_PORT")
JOIN_TIMEOUT = timedelta(minutes=30)  # rank 0 first verifies its inputs
WAIT_TIMEOUT = timedelta(hours=12)  # the others wait while rank 0 validates; a process that dies ends the wait at once


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is; alone unless a launcher says otherwise."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """This process's place, from the variables of torchrun or, with a meeting point, of srun.

    Slurm sets its variables in every job, also where a script starts one process alone or several that share nothing:
    only MASTER_ADDR and MASTER_PORT say that the tasks belong together.

    Raises:
        UsageError: the variables are no numbers or contradict each other.
    """
    met = all(environment.get(name) for name in _MEETING_POINT)
    for names in (_TORCHRUN, _SLURM):
        if met and all(environment.get(name) for name in names[:2]):
            texts = [environment.get(name, "0") for name in names]
            if not all(text.isdecimal() for text in texts) or not int(texts[0]) < int(texts[1]):
                found = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
                raise UsageError(f"{found}: not the place of a process", hint="start it with torchrun or srun")
            return Place(*map(int, texts))
    return Place()


@dataclass(frozen=True)
class Group:
    """The processes that train together; this base is one process alone, which has nobody to talk to."""

    rank: int = 0
    size: int = 1
    control: Any = None  # process group of the messages between CPUs

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Sum of each value over the processes, in double precision. All must call it."""
        if self.size == 1:
            return list(values)
        import torch

        tensor = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(tensor, group=self.control)
        return [float(value) for value in tensor]

    def from_leader(self, values: Sequence[float]) -> list[float]:
        """The values of rank 0, in every process; each must give as many. All must call it."""
        return self.total([value if self.leads else 0.0 for value in values])

    def share_of(self, count: Tensor) -> Tensor:
        """What to divide sums over this process's rows by: the mean over the processes is then the mean over all rows.

        All must call it.

        Args:
            count: of this process's rows, any shape.

        Returns:
            Of the same shape: what all count together, over the number of processes; at least 1 over it.
        """
        if self.size == 1:
            return count.clamp(min=1)
        import torch

        whole = torch.tensor(self.total(count.flatten().tolist()), dtype=torch.float32, device=count.device)
        return whole.reshape(count.shape).clamp(min=1) / self.size

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows (N, D) of all processes in their order, those of the others without a gradient. All must call it.

        Args:
            rows: (n, D) this process's, n may be 0; alone they are returned as they are.
        """
        if self.size == 1:
            return rows
        import torch

        sizes = [int(n) for n in self.total([len(rows) if rank == self.rank else 0 for rank in range(self.size)])]
        padded = torch.zeros(max(sizes), rows.shape[1])
        padded[: len(rows)] = rows.detach().float().cpu()
        pieces = [torch.empty_like(padded) for _ in sizes]
        torch.distributed.all_gather(pieces, padded, group=self.control)
        pieces = [piece[:n].to(rows.device) for piece, n in zip(pieces, sizes, strict=True)]
        pieces[self.rank] = rows.float()
        return torch.cat(pieces)

    def share_file(self, path: Path) -> None:
        """Copy a file of rank 0, if it is there, to the same-named argument of the others. All must call it."""
        if self.size == 1:
            return
        import torch

        there = self.leads and path.exists()
        (size,) = self.from_leader([path.stat().st_size if there else -1])
        if size < 0:
            return
        content = torch.empty(int(size), dtype=torch.uint8)
        if self.leads:
            content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        torch.distributed.broadcast(content, src=0, group=self.control)
        if not self.leads:
            path.write_bytes(content.numpy().tobytes())

    def wrap(self, module: nn.Module, device: str, *, partly_used: bool) -> nn.Module:
        """A module whose gradients are averaged over the processes; alone, the module itself.

        Args:
            module: what computes the loss.
            device: where it is.
            partly_used: a step may give some parameters no gradient, in one process or in all.
        """
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        ids = None if device == "cpu" else [device]
        return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=partly_used)


_current = Group()
_joins = 0  # how often this process has met others


def current() -> Group:
    """The group that this process has joined; one process alone where it has joined none."""
    return _current


@contextmanager
def joined(where: Place, *, device: str) -> Iterator[Group]:
    """Meet the other processes, and part from them at the end.

    Args:
        where: this process's place; of one process alone nothing happens.
        device: where it trains; decides between gloo and nccl.

    Raises:
        FusionctlError: the others did not come, or left.
    """
    global _current, _joins
    if where.size == 1:
        yield _current
        return
    import torch
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend = "gloo" if device == "cpu" else "nccl"
    if device != "cpu":
        torch.cuda.set_device(device)
    try:
        # torchrun's store outlives a group, and what an earlier group of this run wrote there would be met again.
        store, *_ = next(rendezvous("env://", where.rank, where.size, timeout=JOIN_TIMEOUT))
        store = PrefixStore(f"join-{_joins}", store)
        _joins += 1
        torch.distributed.init_process_group(
            backend, rank=where.rank, world_size=where.size, timeout=JOIN_TIMEOUT, store=store
        )
        control = torch.distributed.new_group(backend="gloo", timeout=WAIT_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise FusionctlError(
            f"process {where.rank} of {where.size} met no others: {str(error).splitlines()[0]}",
            hint="start all with one torchrun or srun, and look at the messages of the others",
        ) from error
    _current = Group(where.rank, where.size, control)
    try:
        yield _current
    except RuntimeError as error:
        if not any(name in str(error) for name in ("gloo", "NCCL")):
            raise
        raise FusionctlError(
            f"process {where.rank} of {where.size} lost another one", hint="look at the messages of the others"
        ) from error
    finally:
        _current = Group()
        torch.distributed.destroy_process_group()


def device_of(where: Place, device: str) -> str:
    """The device of this process: with several on a node, each has its own GPU."""
    return f"cuda:{where.local_rank}" if device == "cuda" and where.size > 1 else device
