"""torch: its build, its threads, and a matrix product."""

from pipeline.doctor.finding import Finding, State
from pipeline.doctor.isolation import shortened
from pipeline.doctor.limits import usable_cores


def examine() -> Finding:
    """Import torch and multiply matrices."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding(State.BROKEN, shortened(f"cannot be imported: {error}"))
    a, b = torch.rand(2, 128, 128, dtype=torch.float64)
    difference = float((a.float() @ b.float() - a @ b).abs().max())
    if not difference < 1e-3:
        return Finding(State.BROKEN, f"{torch.__version__}: a matrix product is off by {difference:.2g}")
    threads, cores = torch.get_num_threads(), usable_cores()
    found = f"{torch.__version__}, {build_of_torch()}; computes with {_number(threads, 'thread')}"
    if threads > cores:
        return Finding(
            State.WARNING,
            f"{found} on {_number(cores, 'core')}, where they wait for one another",
            f"export OMP_NUM_THREADS={max(1, int(cores))}",
        )
    return Finding(State.WORKS, found)


def build_of_torch() -> str:
    """What torch was built for: `CUDA 13.0`, `ROCm 7.0` or `CPU build`."""
    import torch

    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip else "CPU build"


def _number(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
