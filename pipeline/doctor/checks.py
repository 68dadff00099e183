"""All checks, in order: first what a run breaks on first."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pipeline.doctor.finding import Check, Finding, Outcome, State
from pipeline.doctor.isolation import Start, examine_apart, preload

_HERE = "pipeline.doctor"
_LEAVE_OUT = "nvidia-smi shows the GPU's state; SLURM leaves its node out with --exclude=NODE"
_OTHER_DISK = "the file system hangs or fails: put runs elsewhere, out_dir=DIR"
TORCH = Check("torch", f"{_HERE}.torch_build:examine", needed=True, limit_s=90)


def all_checks(out_dir: Path) -> list[Check]:
    """Every check, where runs are to go below `out_dir`."""
    training = partial(Check, needed=True, needs_torch=True, limit_s=60)
    return [
        Check("packages", f"{_HERE}.packages:examine", needed=True),
        TORCH,
        training("GPUs", f"{_HERE}.gpu:examine", mend=_LEAVE_OUT),
        training("NCCL", f"{_HERE}.collectives:examine_nccl", mend=_LEAVE_OUT),
        training("gloo", f"{_HERE}.collectives:examine_gloo", mend="export GLOO_SOCKET_IFNAME=NAME"),
        training("rendezvous", f"{_HERE}.slurm:examine_rendezvous", mend="export MASTER_ADDR=NODE"),
        training("DeepSpeed", f"{_HERE}.deepspeed_engine:examine"),
        training("Triton", f"{_HERE}.triton_compiler:examine"),
        training("loss kernel", f"{_HERE}.loss_kernel:examine", mend="make operator"),
        Check("disk", f"{_HERE}.disk:examine", (out_dir,), mend=_OTHER_DISK, needed=True),
        Check("memory", f"{_HERE}.limits:examine_memory"),
        Check("shared memory", f"{_HERE}.limits:examine_shared_memory", needed=True),
        Check("cores", f"{_HERE}.limits:examine_cores"),
        Check("open files", f"{_HERE}.limits:examine_open_files"),
        Check("SLURM", f"{_HERE}.slurm:examine", mend="ask the cluster's administrators"),
        Check("tagger", f"{_HERE}.tagger:examine", limit_s=60),
        Check("C++ compiler", f"{_HERE}.toolchain:examine_compiler", mend="export CXX=NAME of another"),
        Check("nvcc", f"{_HERE}.toolchain:examine_nvcc", mend="take it off PATH", needs_torch=True),
        Check("ninja", f"{_HERE}.toolchain:examine_ninja"),
        Check("Apex", f"{_HERE}.apex:examine", mend="pip uninstall apex"),
    ]


def run_checks(checks: list[Check], announce: Callable[[Check], None]) -> Iterator[Outcome]:
    """Run checks one after the other; what needs torch is not tried where torch is broken.

    Args:
        checks: what to run.
        announce: called before each one.
    """
    start: Start = "spawn"
    torch_breaks = False
    for check in checks:
        announce(check)
        if check.needs_torch and torch_breaks:
            yield Outcome(check, Finding(State.BROKEN, "not tried, since torch is broken", TORCH.mend))
            continue
        outcome = Outcome(check, examine_apart(check, start))
        yield outcome
        if check is TORCH:
            torch_breaks = outcome.fails
            if not torch_breaks:  # only now is it safe to import it in what all others come from
                preload("torch")
                start = "forkserver"
