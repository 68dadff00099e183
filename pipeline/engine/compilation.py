"""torch.compile, layer by layer: layers of the same shape share one compilation.

DeepSpeed's `engine.compile` would trace into the loss kernel, which is compiled already, and warn about it.
"""

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import UserError
from pipeline.engine.launch import Place
from pipeline.engine.ranks import gather

_OPTIONS: dict[str, Any] = {
    # Dropout by torch's generator instead of one of the compiler's: the same bits as without compiling.
    "fallback_random": True,
}


def compile_layers(layers: Sequence[nn.Module]) -> None:
    """Compile what layers do in training, as they first run, for batches of any shape.

    Their parameters keep their names. Evaluation stays as it is, also in a run.
    """
    for layer in layers:
        compiled = torch.compile(layer.forward, dynamic=True, options=_OPTIONS)
        layer.forward = partial(_forward, layer, layer.forward, compiled)


def _forward(
    layer: nn.Module,
    plain: Callable[..., Tensor],
    compiled: Callable[..., Tensor],
    *inputs: Any,
    **named: Any,
) -> Tensor:
    return (compiled if layer.training else plain)(*inputs, **named)


def check_compiler(place: Place) -> None:
    """Compile a function of one line. Collective: every rank calls it, and every rank raises or none does.

    Raises:
        UserError: where nothing compiles, and why.
    """
    failures = gather((socket.gethostname(), compiler_failure(place.device)), place)
    for rank, (host, why) in enumerate(failures):
        if why:
            raise UserError(
                f"compile: torch.compile builds nothing on rank {rank} ({host}): {why}; module load gcc, or "
                "apt install g++, or compile=false"
            )


def compiler_failure(device: torch.device) -> str | None:
    """Why nothing compiles for a device, in one line, or None."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        torch.compile(lambda x: x + 1, options=_OPTIONS)(torch.ones(2, device=device))
    except (TorchDynamoException, RuntimeError) as error:
        return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return None


def refusal(zero_stage: int) -> str | None:
    """Why nothing is compiled at a ZeRO stage, or None."""
    if zero_stage < 3:
        return None
    return (
        '"zero_optimization.stage" 3 does not go with compile=true of the run file: there a layer\'s '
        "parameters come and go between its operations; use stage 0 to 2, or compile=false"
    )
