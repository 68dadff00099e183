"""DeepSpeed: one step of its engine as runs start it, and the operators that it could compile."""

import os
from typing import Any

import torch

from pipeline.doctor.finding import Finding, State
from pipeline.doctor.isolation import shortened
from pipeline.engine import launch, workarounds

_NEVER_ASKED_FOR = {"deepspeed_not_implemented", "deepspeed_shm_comm", "deepspeed_ccl_comm"}
"""No operators of a user's choice: a stand-in, and two for communication on CPUs, which goes by gloo."""


def examine() -> Finding:
    """Take a step at ZeRO stage 1, alone."""
    _leave_the_launcher()
    try:
        place = launch.join_ranks(timeout_s=20)
    except RuntimeError as error:
        backend = "NCCL" if torch.cuda.is_available() else "gloo"
        return Finding(
            State.BROKEN, shortened(f"cannot make a group of one rank: {error}"), f"mend {backend} first"
        )
    import deepspeed

    model = torch.nn.Linear(4, 1)
    before = float(model.weight.detach().sum())
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        config={
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": {"stage": 1},
            "gradient_clipping": 0.0,
            **workarounds.REQUIRED_SETTINGS,
        },
    )
    engine.backward(engine(torch.ones(1, 4, device=place.device)).sum())
    engine.step()
    change = float(engine.module.weight.detach().sum()) - before
    version = deepspeed.__version__
    if abs(change + 4) > 1e-4:
        return Finding(
            State.BROKEN,
            f"{version}: a step changes the parameters by {change:.4g} and not by -4",
        )
    return Finding(State.WORKS, f"{version}, took a step at ZeRO 1; {_operators(deepspeed)}")


def _leave_the_launcher() -> None:
    """Be alone, also as a task of srun or torchrun."""
    os.environ.update(launch.launch_environment({}))


def _operators(deepspeed: Any) -> str:
    """Which of its operators are built, and which could be when a DeepSpeed JSON asks for them."""
    from deepspeed.git_version_info import installed_ops

    compatible = deepspeed.ops.__compatible_ops__
    built = sorted(name for name, is_built in installed_ops.items() if is_built)
    could_be = sorted(
        name for name, can in compatible.items() if can and name not in {*built, *_NEVER_ASKED_FOR}
    )
    return f"own operators built: {', '.join(built) or 'none'}; could be: {', '.join(could_be) or 'none'}"
