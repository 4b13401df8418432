"""What this machine has, and what the rehearsal, and then the real run, need of it."""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from benchmarks.rehearsal.weights import Stage
from magi1.planning.plan import plan
from wmfiles import available_memory
from wmreward.version import versions

GIB = 2**30
GUIDED_MORE = 6 * GIB
"""Memory of the GPU that guidance by ViT-g takes more than plain sampling: 5.4 GiB where it took most."""
TORCHRUN_PORT = 29500
COLLECTIVE_S = 120
T5_PACKAGES = ("transformers", "sentencepiece", "ftfy", "bs4")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: It.
        found: What there is.
        needed: What is needed; empty where there is no such thing.
        ok: Whether it will do.
    """

    what: str
    found: str
    needed: str = ""
    ok: bool = True


def checks(stage: Stage, device: str, processes: int, env: Mapping[str, str]) -> Iterator[Check]:
    """The cheapest first; nothing is written.

    Args:
        stage: What will be written and run.
        device: ``cuda`` or ``cpu``.
        processes: How many there will be, a GPU each.
        env: Of processes that are started.
    """
    yield Check("versions", ", ".join(f"{k} {v}" for k, v in versions().items()))
    yield Check("machine", f"{platform.node()}, Python {platform.python_version()}")
    if not stage.is_small:
        missing = [name for name in T5_PACKAGES if find_spec(name) is None]
        wanted = "the extra generate"
        yield Check(
            "packages of T5",
            f"without {', '.join(missing)}" if missing else "all",
            wanted,
            not missing,
        )
    yield _disk(stage)
    planned = plan(
        stage.config, "i2v", world_size=stage.config.engine_config.cp_size, vae=stage.vae
    )
    gpu = sum(planned.memory.values())
    if device == "cuda":
        yield from _gpus(processes, gpu)
    host = sum(planned.host.values()) * processes
    if device == "cpu":
        host += gpu * processes
    available = available_memory()
    if available is not None:
        yield Check("host memory", _gib(available), _gib(host), available >= host)
    yield _port()
    if processes > 1:
        yield _collective(device, processes, env)


def table(found: list[Check]) -> str:
    """For people."""
    width = max(len(check.what) for check in found)
    return "\n".join(
        f"{check.what:<{width}}  {'ok  ' if check.ok else 'LACK'}  {check.found}"
        + (f" (needed: {check.needed})" if check.needed else "")
        for check in found
    )


def _disk(stage: Stage) -> Check:
    folder = stage.root
    while not folder.exists():
        folder = folder.parent
    free, needed = shutil.disk_usage(folder).free, sum(stage.bytes().values())
    return Check(f"disk at {stage.root}", f"{_gib(free)} free", _gib(needed), free > needed)


def _gpus(processes: int, needed: int) -> Iterator[Check]:
    count = torch.cuda.device_count()
    yield Check("GPUs", str(count), str(processes), count >= processes)
    for index in range(min(count, processes)):
        free, total = torch.cuda.mem_get_info(index)
        yield Check(
            f"GPU {index}",
            f"{torch.cuda.get_device_name(index)}, {_gib(free)} of {_gib(total)} free",
            f"{_gib(needed)} plain, {_gib(needed + GUIDED_MORE)} guided by ViT-g",
            free >= needed,
        )
    if torch.distributed.is_nccl_available():
        yield Check("NCCL", ".".join(map(str, torch.cuda.nccl.version())))


def _port() -> Check:
    with socket.socket() as any_port:
        any_port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            any_port.bind(("127.0.0.1", TORCHRUN_PORT))
        except OSError:
            return Check(
                f"port {TORCHRUN_PORT}",
                "taken: give torchrun --standalone, or another --rdzv_endpoint",
            )
    return Check(f"port {TORCHRUN_PORT}", "free")


def _collective(device: str, processes: int, env: Mapping[str, str]) -> Check:
    """Whether the processes can speak with each other at all, and how fast."""
    what = f"{processes} processes"
    line = [*launcher(processes), "-m", "benchmarks.rehearsal.collective", device]
    try:
        done = subprocess.run(
            line, env=dict(env), capture_output=True, text=True, check=True, timeout=COLLECTIVE_S
        )
    except subprocess.TimeoutExpired:
        return Check(what, f"do not speak with each other within {COLLECTIVE_S} s", "", False)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [""])[-1]
        return Check(what, f"cannot speak with each other: {last}", "", False)
    return Check(what, done.stdout.strip())


def launcher(processes: int) -> list[str]:
    """Python, under torchrun for several processes."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [sys.executable, *(several if processes > 1 else [])]


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
