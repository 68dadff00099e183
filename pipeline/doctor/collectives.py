"""Sums over ranks: NCCL on this GPU, gloo between two processes of this machine."""

import multiprocessing
import os
import socket
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection

import torch
from torch import distributed
from torch.distributed import HashStore, Store, TCPStore  # type: ignore[attr-defined]

from pipeline.doctor.finding import REINSTALL, Finding, State
from pipeline.doctor.isolation import shortened

_TIMEOUT = timedelta(seconds=10)


def examine_nccl() -> Finding:
    """Sum over one rank."""
    if not torch.cuda.is_available():
        return Finding(State.UNUSED, "no GPU: gloo takes its place")
    if not distributed.is_nccl_available():
        return Finding(State.BROKEN, "torch was built without it", "install torch's CUDA build for Linux")
    version = ".".join(str(part) for part in torch.cuda.nccl.version())
    try:
        distributed.init_process_group("nccl", store=HashStore(), rank=0, world_size=1, timeout=_TIMEOUT)
        total = torch.ones(1, device="cuda")
        distributed.all_reduce(total)
        torch.cuda.synchronize()
        distributed.destroy_process_group()
    except RuntimeError as error:
        return Finding(
            State.BROKEN,
            shortened(f"{version}: {error}"),
            f"export NCCL_SOCKET_IFNAME=NAME, one of {_interfaces()}; NCCL_DEBUG=INFO makes a run say more",
        )
    return Finding(State.WORKS, f"{version}, summed over one rank")


def examine_gloo() -> Finding:
    """Sum over two processes, which find each other as the ranks of a run do."""
    if torch.cuda.is_available():
        return Finding(State.UNUSED, "on GPUs NCCL takes its place")
    chosen = os.environ.get("GLOO_SOCKET_IFNAME")
    over = f"GLOO_SOCKET_IFNAME={chosen}" if chosen else f"the host name, {socket.gethostname()}"
    context = multiprocessing.get_context("fork")
    port, announced_port = context.Pipe(duplex=False)
    context.Process(target=_second_rank, args=(port,)).start()  # before this one has threads
    try:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_TIMEOUT)
        announced_port.send(store.port)
        total = _gloo_sum(store, 0)
    except RuntimeError as error:
        return Finding(
            State.BROKEN,
            shortened(f"two processes do not find each other by {over}: {error}"),
            f"export GLOO_SOCKET_IFNAME=NAME, one of {_interfaces()}",
        )
    if total != 3:
        return Finding(State.BROKEN, f"1 + 2 over two processes is {total:g}", REINSTALL)
    return Finding(State.WORKS, f"two processes found each other by {over}, and summed")


def _second_rank(port: Connection) -> None:
    store = TCPStore("127.0.0.1", port.recv(), is_master=False, timeout=_TIMEOUT)
    with suppress(RuntimeError):  # the first rank tells of it
        _gloo_sum(store, 1)


def _gloo_sum(store: Store, rank: int) -> float:
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=_TIMEOUT)
    total = torch.tensor([rank + 1.0])
    distributed.all_reduce(total)
    return float(total)


def _interfaces() -> str:
    names = [name for _, name in socket.if_nameindex()]
    return ", ".join(name for name in names if name != "lo") or "lo"
