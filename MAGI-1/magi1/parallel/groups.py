"""The processes of a run: which of them share a video, and on which device each works."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed as dist

from magi1.config import EngineConfig
from magi1.errors import MagiUsageError


@dataclass(frozen=True)
class Place:
    """This process among the others.

    Attributes:
        device: Its GPU, or the CPU.
        group: The ``cp_size`` processes that share its videos; None where it works alone.
        rank: Its number within the group. All of a group hold the same result; rank 0 writes it.
        replica, replicas: Which of the groups it is in, and how many there are, each with videos of
            its own.
    """

    device: torch.device
    group: dist.ProcessGroup | None = None
    rank: int = 0
    replica: int = 0
    replicas: int = 1


@contextmanager
def process_groups(
    engine: EngineConfig, device: torch.device | str | None = None, *, init_method: str = "env://"
) -> Iterator[Place]:
    """Join the other processes for as long as the context lasts, as ``torchrun`` has arranged them.

    A process that was started alone stays alone, whatever ``cp_size`` is. On CPUs the backend is always
    ``gloo``.

    Args:
        engine: ``cp_size``, ``distributed_backend`` and ``distributed_timeout_minutes``.
        device: ``cuda`` or ``cpu``; by default the GPU if there is one.
        init_method: How processes find each other, in torch.distributed's terms.

    Raises:
        MagiUsageError: the number of processes is not a multiple of ``cp_size``, or there are more of
            them on this machine than GPUs.
    """
    here = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    world, rank = _from_torchrun("WORLD_SIZE", 1), _from_torchrun("RANK", 0)
    if world == 1:
        yield Place(here)
        return
    if world % engine.cp_size:
        raise MagiUsageError(
            f"{world} processes are not a multiple of the {engine.cp_size} that share a video "
            "(engine_config.cp_size, --cp_size)"
        )
    backend, timeout = "gloo", timedelta(minutes=engine.distributed_timeout_minutes)
    if here.type == "cuda":
        here, backend = _own_gpu(), engine.distributed_backend
    store, rank, world = next(dist.rendezvous(init_method, rank, world, timeout=timeout))
    # torchrun that starts all processes again may keep its store, with addresses of the old ones in it.
    store = dist.PrefixStore(f"start_{_from_torchrun('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(backend, timeout=timeout, world_size=world, rank=rank, store=store)
    try:
        yield _place(here, engine.cp_size, timeout)
    finally:
        dist.destroy_process_group()


def _from_torchrun(name: str, alone: int) -> int:
    return int(os.environ.get(name, alone))


def _own_gpu() -> torch.device:
    local, count = _from_torchrun("LOCAL_RANK", 0), torch.cuda.device_count()
    if local >= count:
        raise MagiUsageError(f"process {local + 1} on this machine finds {count} GPUs: start fewer")
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def _place(device: torch.device, size: int, timeout: timedelta) -> Place:
    """Neighbours form a group. Every process creates all groups, as torch.distributed demands."""
    world, rank = dist.get_world_size(), dist.get_rank()
    groups = [
        dist.new_group(list(range(first, first + size)), timeout=timeout)
        for first in range(0, world, size)
        if size > 1
    ]
    replica = rank // size
    return Place(device, groups[replica] if groups else None, rank % size, replica, world // size)
