"""Activation checkpointing: of a layer only its input is kept, and the backward pass runs the layer again.

By torch's function: DeepSpeed's gives the same bits, but takes its settings from globals of the process, and
does not notice where a layer that runs again does something else.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from data_prep.errors import UserError

SECTION = "activation_checkpointing"
MEANINGLESS = {
    "partition_activations": "cuts checkpoints among the ranks of a layer, and here each has whole layers",
    "contiguous_memory_optimization": "goes with partition_activations, which is not for whole layers",
    "synchronize_checkpoint_boundary": "is for timing DeepSpeed's own function, which is not used",
    "profile": "times DeepSpeed's own function, which is not used; profile.steps of the run file times all",
}
"""Flags of DeepSpeed's section that would do nothing, and why."""
VALUES: dict[str, tuple[type, ...] | tuple[str, ...]] = {
    "cpu_checkpointing": (bool,),
    "number_checkpoints": (int,),
    **dict.fromkeys(MEANINGLESS, (bool,)),
}
"""Keys of the section with the types of their values."""
Keeping = Callable[[], AbstractContextManager[Any]]
"""Where the inputs of layers are kept: what is saved within it for the backward pass."""


def checkpoint_layers(layers: Sequence[nn.Module], ds_settings: dict[str, Any]) -> None:
    """Have layers run again in the backward pass, if and as the DeepSpeed JSON says.

    The bits of the gradients stay the same: a layer that runs again draws the same dropout.

    Raises:
        UserError: see `num_checkpointed`.
    """
    keeping = _on_host if ds_settings.get(SECTION, {}).get("cpu_checkpointing") else nullcontext
    # The first ones: when their activations come back, those that the last ones kept are gone.
    for layer in layers[: num_checkpointed(layers, ds_settings)]:
        layer.forward = partial(_checkpointed, layer.forward, keeping)


def meaningless(ds_settings: dict[str, Any]) -> str | None:
    """Why a section of the right types asks for what does not exist, or None."""
    section = ds_settings.get(SECTION, {})
    for key, reason in MEANINGLESS.items():
        if section.get(key):
            return f'"{SECTION}.{key}" {reason}; leave it out'
    if section.get("number_checkpoints", 1) < 1:
        return f'"{SECTION}.number_checkpoints" is {section["number_checkpoints"]}, but must be 1 or more'
    return None


def refusal(ds_settings: dict[str, Any], device: torch.device) -> str | None:
    """Why the section cannot be followed on `device`, or None."""
    if ds_settings.get(SECTION, {}).get("cpu_checkpointing") and device.type == "cpu":
        return f'"{SECTION}.cpu_checkpointing" needs a GPU: here everything is in host memory; leave it out'
    return None


def num_checkpointed(
    layers: Sequence[nn.Module], ds_settings: dict[str, Any], source: Path | None = None
) -> int:
    """How many of the layers run again; raises UserError where the JSON, `source`, asks for more."""
    if SECTION not in ds_settings:
        return 0
    wanted = ds_settings[SECTION].get("number_checkpoints", len(layers))
    if wanted > len(layers):
        raise UserError(
            f'{source or "DeepSpeed JSON"}: "{SECTION}.number_checkpoints" is {wanted}, but the model has '
            f"{len(layers)} layers; leave it out, to run all of them again"
        )
    return int(wanted)


def _on_host() -> AbstractContextManager[Any]:
    """Page-locked memory, from which a GPU reads while it computes."""
    return save_on_cpu(pin_memory=True)


def _checkpointed(
    forward: Callable[..., Tensor], keeping: Keeping, hidden: Tensor, *others: Any, **named: Any
) -> Tensor:
    """`forward` of a layer, whose first argument is all that depends on the layers before."""
    if not torch.is_grad_enabled():
        return forward(hidden, *others, **named)

    def run(hidden: Tensor) -> Tensor:
        return forward(hidden, *others, **named)

    with keeping():
        output: Tensor = checkpoint(run, hidden, use_reentrant=False)
    return output
