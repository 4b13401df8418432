"""Numbers added up over all processes that torchrun started; the first one prints how fast that was."""

from __future__ import annotations

import os
import sys
import time

import torch
from torch import distributed as dist

BYTES = 2**28
REPEATS = 5


def main() -> None:
    device = sys.argv[1]
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    size = BYTES if device == "cuda" else BYTES // 256
    numbers = torch.ones(size // 4, device=device)
    dist.all_reduce(numbers)
    assert int(numbers[0]) == dist.get_world_size(), "the sum is wrong"
    begun = time.monotonic()
    for _ in range(REPEATS):
        dist.all_reduce(numbers)
    if device == "cuda":
        torch.cuda.synchronize()
    rate = REPEATS * size / (time.monotonic() - begun)
    if dist.get_rank() == 0:
        print(f"speak with each other: sums over {size / 2**20:.0f} MiB at {rate / 1e9:.1f} GB/s")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
