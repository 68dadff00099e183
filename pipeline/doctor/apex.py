"""Apex: NVIDIA's, another package of that name, or none, which is fine."""

from pipeline.doctor.finding import Finding, State
from pipeline.doctor.isolation import shortened
from pipeline.engine.apex import find_apex

_BUILD = "pip uninstall apex, or build it anew: https://github.com/NVIDIA/apex#installation"


def examine() -> Finding:
    """Tell which one it is by its files; import only NVIDIA's."""
    apex = find_apex()
    if apex is None:
        return Finding(State.UNUSED, "not installed; torch's own optimizers are used")
    if not apex.is_nvidias:
        about = f', "{apex.summary}"' if apex.summary else ""
        return Finding(
            State.WARNING,
            f"{apex.place}: not NVIDIA's but another package of that name{about}; runs do without it",
            "pip uninstall apex" if apex.summary is not None else "give it another name",
        )
    if not apex.has_kernels:
        return Finding(
            State.WARNING,
            f"{apex.place}: NVIDIA's, but built without CUDA kernels (no amp_C)",
            _BUILD,
        )
    try:
        import amp_C  # noqa: F401
        from apex.optimizers import FusedAdam  # noqa: F401
    except ImportError as error:  # built for another torch
        return Finding(State.BROKEN, shortened(f"{apex.place}: NVIDIA's, but {error}"), _BUILD)
    return Finding(State.WORKS, f"{apex.place}: NVIDIA's, with FusedAdam")
